"""Videos with sound: a white frame and a beep at the same times, to see that they stay together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from av.audio.resampler import AudioResampler

RATE, FPS, BEEP_S = 48000, 10, 0.1


def write_sounding(
    path: Path,
    *,
    seconds: float = 8.0,
    beeps_s: Sequence[float] = (1.0, 3.0, 5.5, 7.0),
    codec: str = "aac",
    start_s: float = 0.0,
    size: tuple[int, int] = (96, 72),
) -> Path:
    """Write frames that are white for 0.1 s, and a tone of 1 kHz, from each of `beeps_s` on.

    A red square stands in the frame, for `tiny_pipeline.SquareDetector`.  start_s: of the clock.
    """
    width, height = size
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"g": "10", "bf": "0"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream(codec, rate=RATE, layout="mono")
        size_of = {"aac": 1024, "libopus": 960, "flac": 4608}
        resampler = AudioResampler(
            sound.codec_context.format, "mono", RATE, size_of.get(codec, 1024)
        )
        for number in range(round(seconds * FPS)):
            is_white = any(abs(number / FPS - beep_s) < 0.01 for beep_s in beeps_s)
            picture = np.full((height, width, 3), 255 if is_white else 90, np.uint8)
            picture[10:34, 10:26] = (230, 20, 20)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number + round(start_s * FPS)
            container.mux(video.encode(frame))
        times_s = np.arange(round(seconds * RATE)) / RATE
        wave = np.zeros(len(times_s), np.float32)
        for beep_s in beeps_s:
            on = (times_s >= beep_s) & (times_s < beep_s + BEEP_S)
            wave[on] = 0.8 * np.sin(2 * np.pi * 1000 * times_s[on])
        heard = av.AudioFrame.from_ndarray(wave[None], "flt", "mono")
        heard.sample_rate, heard.pts = RATE, round(start_s * RATE)
        for part in [*resampler.resample(heard), *resampler.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def heard_s(path: Path) -> list[float]:
    """Return when each tone begins."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        starts: list[float] = []
        last_s = -1.0
        for frame in container.decode(audio=0):
            wave = frame.to_ndarray().reshape(-1)
            full = 1.0 if wave.dtype.kind == "f" else np.iinfo(wave.dtype).max
            for sample in np.flatnonzero(np.abs(wave / full) > 0.3).tolist():
                time_s = frame.time + sample / frame.sample_rate
                if time_s - last_s > 0.2:
                    starts.append(time_s)
                last_s = time_s
        return starts


def seen_s(path: Path) -> list[float]:
    """Return when each white frame is shown, by the corner that nobody's box reaches."""
    with av.open(str(path)) as container:
        return [
            float(frame.time)
            for frame in container.decode(video=0)
            if frame.to_ndarray(format="gray")[-2:, -2:].mean() > 200
        ]
