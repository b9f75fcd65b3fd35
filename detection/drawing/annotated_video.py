"""Annotated videos and contact sheets: ground truth and predictions drawn on the frames of a video.

Legend: frames are (H, W, 3) uint8 RGB; times are seconds on the video's own clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.datasets.open_video import FrameSource
from detection.drawing.actors import Keyframes, gather, judge, keep_likely
from detection.drawing.paint import DARK, TRUTH, Frame
from detection.drawing.scene import Panel, Scene
from detection.drawing.timeline import Timeline
from detection.errors import UserError
from detection.files import replacing
from detection.structures import LabelMap
from detection.video.frames import scaled_size
from detection.video.reader import VideoReader
from detection.video.writer import VideoWriter

# Frames decoded per read, in bytes: each read seeks anew.
_BYTES_A_READ = 128 << 20
_SHEET_SHORT_SIDE_PX = 320
_SHEET_GAP_PX = 18


@dataclass(frozen=True)
class Look:
    """What is shown.

    score_threshold, top_k: predicted labels shown of an actor.
    class_thresholds: by class name, where one differs.
    exclusive: groups of class names of which an actor's likeliest alone is shown.
    short_side_px: of a panel; None: 480 for two panels, 720 for one.
    note: text on the top line.
    """

    score_threshold: float = 0.3
    top_k: int = 3
    iou_threshold: float = 0.5
    short_side_px: int | None = None
    prediction_heading: str = "Prediction"
    note: str = ""
    class_thresholds: Mapping[str, float] = field(default_factory=dict)
    exclusive: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class VideoActors:
    """Actors of one video, by ground truth, prediction or both (None: not given)."""

    video_id: str
    truth: Keyframes | None
    predicted: Keyframes | None

    @property
    def keyframes_s(self) -> list[float]:
        """Return all keyframes, ascending."""
        return sorted({*(self.truth or ()), *(self.predicted or ())})


def actors_of(
    video_id: str,
    label_map: LabelMap,
    *,
    truth: AvaRows | None,
    predicted: AvaRows | None,
    look: Look,
) -> VideoActors:
    """Collect a video's actors; if both files are given, mark right and wrong labels.

    Raises `UserError` if a file has no row of the video, naming videos that it has.
    """
    if truth is None and predicted is None:
        raise ValueError("ground truth, detections or both are required")
    known, found = (
        None if rows is None else gather(rows, video_id, label_map) for rows in (truth, predicted)
    )
    for rows, keyframes in ((truth, known), (predicted, found)):
        if rows is not None and not keyframes:
            raise which_videos(rows, video_id)
    if found is not None:
        found = keep_likely(
            found,
            score_threshold=look.score_threshold,
            top_k=look.top_k,
            class_thresholds=look.class_thresholds,
            exclusive=look.exclusive,
        )
    if known is not None and found is not None:
        known, found = judge(known, found, iou_threshold=look.iou_threshold)
    return VideoActors(video_id, known, found)


def which_videos(rows: AvaRows, video_id: str) -> UserError:
    """Return the error for a file without a row of the video, naming videos that it has."""
    names = sorted({*rows.video_names, *(key.video_id for key in rows.empty_keyframes)})
    if not names:
        return UserError(f"{rows.path}: no rows at all")
    some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return UserError(f"{rows.path}: no rows of video '{video_id}'; it has {some}")


def make_scene(
    actors: VideoActors,
    *,
    frame_size: tuple[int, int],
    look: Look,
    start_s: float,
    end_s: float,
    frame_interval_s: float = 0.04,
    footer: bool = True,
) -> Scene:
    """Build the scene of a video: a panel for each of ground truth and prediction that is given."""
    panels: list[Panel] = []
    rules = ""
    if actors.truth is not None:
        panels.append(Panel("Ground truth", Timeline(actors.truth), TRUTH, dashed=True))
    if actors.predicted is not None:
        timeline = Timeline(actors.predicted)
        if panels:
            timeline.number_like(panels[0].timeline, iou_threshold=look.iou_threshold)
        panels.append(Panel(look.prediction_heading, timeline, None, dashed=False))
        least = "as learned" if look.class_thresholds else f"≥ {look.score_threshold:g}"
        rules = f"probability {least}, {look.top_k} likeliest"
    short_side = look.short_side_px or (480 if len(panels) == 2 else 720)
    return Scene(
        panels,
        title=actors.video_id,
        note=look.note,
        frame_size=frame_size,
        short_side_px=short_side,
        start_s=start_s,
        end_s=end_s,
        rules=rules,
        judged=len(panels) == 2,
        frame_interval_s=frame_interval_s,
        footer=footer,
    )


def choose_frames(
    times_s: NDArray[np.float64],
    actors: VideoActors,
    *,
    start_s: float | None,
    end_s: float | None,
    max_s: float | None,
) -> NDArray[np.float64]:
    """Return the times of the frames to draw, from `start_s` to `end_s`, at most `max_s` long.

    By default from 1 s before the first keyframe to 1 s after the last one. Raises `UserError` if
    no keyframe lies within the video, or no frame within these times.
    """
    keys = np.array(actors.keyframes_s)
    slack_s = float(np.diff(times_s).max()) if len(times_s) > 1 else 0.05
    within = keys[(keys >= times_s[0] - slack_s) & (keys <= times_s[-1] + slack_s)]
    if not len(within):
        raise UserError(
            f"video {actors.video_id}: shows {times_s[0]:.3f} to {times_s[-1]:.3f} s, its "
            f"keyframes are at {keys[0]:.3f} to {keys[-1]:.3f} s: another cut of the video?"
        )
    first = within[0] - 1.0 if start_s is None else start_s
    last = within[-1] + 1.0 if end_s is None else end_s
    if max_s is not None and end_s is None:
        last = min(last, max(first, float(times_s[0])) + max_s)
    chosen = times_s[(times_s >= first - 1e-6) & (times_s <= last + 1e-6)]
    if not len(chosen):
        raise UserError(
            f"video {actors.video_id}: no frame from {first:.3f} to {last:.3f} s, it shows "
            f"{times_s[0]:.3f} to {times_s[-1]:.3f} s"
        )
    return chosen


def write_annotated_video(
    path: str | Path,
    source: FrameSource,
    actors: VideoActors,
    times_s: NDArray[np.float64],
    *,
    look: Look,
    on_progress: Callable[[], object] = lambda: None,
) -> None:
    """Draw the frames at `times_s` (ascending) and write them as H.264 with the same spacing.

    The file starts at 0 s; `on_progress` is called after each frame. Raises `UserError` for an
    unreadable source, and then writes nothing.
    """
    intervals = np.diff(times_s)
    interval_s = float(np.median(intervals)) if len(intervals) else 0.04
    scene = make_scene(
        actors,
        frame_size=displayed_size(source),
        look=look,
        start_s=float(times_s[0]),
        end_s=float(times_s[-1]),
        frame_interval_s=interval_s,
    )
    width, height = scene.size
    with VideoWriter(path, width=width, height=height, fps=1 / interval_s) as writer:
        for time_s, frame in read_frames(source, times_s, min(scene.panel)):
            writer.write(scene.draw(frame, time_s), time_s - float(times_s[0]))
            on_progress()


def displayed_size(source: FrameSource) -> tuple[int, int]:
    """Return (width, height) as players show it: scaled in width where pixels are not square."""
    width, height = source.frame_size()
    shape = source.pixel_shape if isinstance(source, VideoReader) else None
    return (width, height) if shape is None else (max(1, round(width * shape)), height)


def read_frames(
    source: FrameSource, times_s: NDArray[np.float64], short_side_px: int
) -> Iterator[tuple[float, Frame]]:
    """Yield (time, frame); larger frames are scaled down to `short_side_px` while decoding."""
    size = source.frame_size()
    short_side = short_side_px if min(size) > short_side_px else None
    width, height = scaled_size(*size, short_side)
    count = int(np.clip(_BYTES_A_READ // (3 * width * height), 8, 256))
    for start in range(0, len(times_s), count):
        part_s = times_s[start : start + count]
        frames = source.read(part_s, short_side=short_side).frames.permute(0, 2, 3, 1)
        yield from zip(part_s.tolist(), frames.contiguous().numpy(), strict=True)


@dataclass(frozen=True)
class SheetPart:
    """One video of a contact sheet and the keyframes to show."""

    source: FrameSource
    actors: VideoActors
    keyframes_s: Sequence[float]


def spread_keyframes(actors: VideoActors, times_s: NDArray[np.float64], count: int) -> list[float]:
    """Return up to `count` evenly spaced keyframes of the video, preferring those with people."""
    both = [side for side in (actors.truth, actors.predicted) if side is not None]
    inside = [t for t in actors.keyframes_s if times_s[0] - 0.1 <= t <= times_s[-1] + 0.1]
    peopled = [t for t in inside if all(side.get(t) for side in both)]
    candidates = peopled or inside
    if len(candidates) <= count:
        return candidates
    index = np.linspace(0, len(candidates) - 1, count).round().astype(int)
    return [candidates[i] for i in index.tolist()]


def write_sheet(path: str | Path, parts: Sequence[SheetPart], *, look: Look) -> None:
    """Write a PNG of keyframes in a grid, each as in the annotated video, with one legend below."""
    if look.short_side_px is None:
        look = replace(look, short_side_px=_SHEET_SHORT_SIDE_PX)
    tiles: list[Frame] = []
    legend: Frame | None = None
    for part in parts:
        scene = make_scene(
            part.actors,
            frame_size=displayed_size(part.source),
            look=look,
            start_s=0.0,
            end_s=max(part.keyframes_s, default=0.0),
            footer=False,
        )
        for time_s in part.keyframes_s:
            frame = part.source.read([time_s]).frames[0].permute(1, 2, 0).contiguous().numpy()
            tiles.append(scene.draw(frame, time_s))
        if legend is None or legend.shape[1] < scene.size[0]:
            legend = scene.legend()
    if not tiles or legend is None:
        raise UserError(f"{path}: no keyframe to show")
    sheet = _grid([*tiles], legend)
    done, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert done, "cv2 cannot encode a PNG"
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _grid(tiles: Sequence[Frame], legend: Frame) -> Frame:
    cell_w = max(tile.shape[1] for tile in tiles)
    cell_h = max(tile.shape[0] for tile in tiles)
    columns = max(1, math.ceil((len(tiles) * cell_h / cell_w) ** 0.5))
    rows = -(-len(tiles) // columns)
    gap = _SHEET_GAP_PX
    width = columns * (cell_w + gap) + gap
    height = rows * (cell_h + gap) + gap + legend.shape[0] + gap // 2
    sheet = np.empty((height, max(width, legend.shape[1] + 2 * gap), 3), np.uint8)
    sheet[:] = DARK
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, left = gap + row * (cell_h + gap), gap + column * (cell_w + gap)
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    top = gap + rows * (cell_h + gap)
    sheet[top : top + legend.shape[0], gap : gap + legend.shape[1]] = legend
    return sheet
