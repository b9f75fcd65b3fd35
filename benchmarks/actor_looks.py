"""Looks at people in training videos once, in every way that `actor_inputs.py` compares.

    python benchmarks/actor_looks.py --cfg FILE --boxes NAME --out F.npz [a.b=value ...]

Every n-th annotated keyframe (`--every`, of those `--keyframes` of each video) of the training
split passes through the frozen trunk, keyframes of the same frames together. Kept is what RoIAlign
and means make of the maps at ground-truth boxes and at those of box file NAME, for the whole clip,
its halves and its quarters: under the keyframe's box (roi), under the box that follows the person
from frame to frame (tube), and of a square around that box (`--crops`: a pass of the trunk each).
Prints what each costs, in milliseconds of the processor.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_align
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks")]

from probe_folds import evenly  # noqa: E402

from detection import build  # noqa: E402
from detection.config import RunConfig, load_config  # noqa: E402
from detection.datasets.actor_table import ActorTable, read_actor_table  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.datasets.open_video import open_video  # noqa: E402
from detection.datasets.person_crops import crop_people  # noqa: E402
from detection.engine.environment import keep_malloc_memory  # noqa: E402
from detection.models.action_detector import ActionDetector  # noqa: E402
from detection.models.inference import prepare_for_inference  # noqa: E402
from detection.tracking.tracker import Tracker, link_boxes  # noqa: E402

CROP_PX = 160
SHARES = (1, 2, 4)  # of the clip: whole, halves, quarters
Pooled = NDArray[np.float16]
Track = tuple[list[float], list[NDArray[np.float32]]]  # seconds, boxes_01


def main() -> None:
    """Look, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cfg", required=True, help="configuration, as for train_ava.py")
    add("--boxes", help="box file of the training split, by name")
    add("--crops", action="store_true", help="also squares that follow each person")
    add("--every", type=int, default=4, help="each n-th annotated keyframe (4)")
    add("--keyframes", type=int, help="of those so many of each video, evenly spaced")
    add("--out", type=Path, required=True, help="the file of features")
    add("overrides", nargs="*", help="options that replace the file's")
    options = parser.parse_intermixed_args()
    config = load_config(options.cfg, options.overrides)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_malloc_memory()
    looked = Look(config, options.boxes, crops=options.crops)
    looked.run(options.every, options.keyframes)
    np.savez(options.out, allow_pickle=False, **looked.arrays())


class Look:
    """What the frozen network sees of people in training videos."""

    def __init__(self, config: RunConfig, boxes: str | None, *, crops: bool) -> None:
        self.folder = DatasetFolder.open(config.data.root)
        label_map = self.folder.read_label_map()
        self.truth = build.read_train_table(config, self.folder, label_map)
        self.detected: ActorTable | None = None
        if boxes is not None:
            split = config.data.train_split
            self.detected = read_actor_table(self.folder, split, label_map, boxes=boxes)
            self.detected_places = by_video(self.detected)
        self.places = by_video(self.truth)
        self.model = prepare_for_inference(pretrained(config))
        self.clip, self.crops = config.clip, crops
        self.rows: dict[str, list[object]] = defaultdict(list)
        self.frame_means: list[Pooled] = []
        self.spent_s: dict[str, float] = defaultdict(float)
        self.passes: dict[str, int] = defaultdict(int)

    def run(self, every: int, per_video: int | None) -> None:
        """Go through the videos; print what a clip and a person cost."""
        for video, times_us in tqdm(self.places.items(), unit="video", mininterval=10):
            chosen = sorted(times_us)[::every]
            if per_video is not None:
                chosen = [chosen[i] for i in evenly(len(chosen), per_video)]
            self._look_at(video, chosen)
        for what, count in self.passes.items():
            each_ms = 1e3 * self.spent_s[what] / count
            print(f"{what}: {count} times, {each_ms:.1f} ms of the processor each")

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return one row a person, and `frame` of each distinct clip."""
        arrays = {name: np.array(values) for name, values in self.rows.items()}
        return {**arrays, "frame": np.array(self.frame_means)}

    def _look_at(self, video: str, times_us: Sequence[int]) -> None:
        """Append the rows of one video's people at some keyframes."""
        sampling, count = self.clip.sampling, self.clip.num_frames
        with open_video(self.folder, video) as source:
            within_s = source.ends_s()
            asked = [sampling.times_s(time / 1e6, within_s=within_s) for time in times_us]
            short = source.read(np.concatenate(asked), short_side=self.clip.test_short_side_px)
            full = source.read(np.concatenate(asked)) if self.crops else short
        tables = [linked(self.places[video], self.truth)]
        if self.detected is not None:
            tables.append(linked(self.detected_places.get(video, {}), self.detected))
        same: dict[bytes, list[int]] = {}  # keyframes whose clips have the same frames
        for index in range(len(times_us)):
            shown_s = short.times_s[index * count : (index + 1) * count]
            same.setdefault(shown_s.tobytes(), []).append(index)
        for keyframes in same.values():
            inside = slice(keyframes[0] * count, (keyframes[0] + 1) * count)
            shown_s, size_px = short.times_s[inside], short.frames.shape[:1:-1]
            (maps,) = self._maps("clip", short.frames[inside].permute(1, 0, 2, 3)[None])
            paths = [
                {number: along(track, shown_s) for number, track in tracks.items()}
                for _, tracks in tables
            ]
            cropped: dict[tuple[int, int], Pooled] = {}
            for time_us in (times_us[index] for index in keyframes):
                for kind, (people, _) in enumerate(tables):
                    for person in people.get(time_us, ()):
                        path_01 = paths[kind][person.track]
                        key = kind, person.track
                        if self.crops and key not in cropped:
                            cropped[key] = self._crop(full.frames[inside], path_01)
                        still_01 = np.tile(person.box_01, (count, 1))
                        row = {
                            "video": video,
                            "time_us": time_us,
                            "clip": len(self.frame_means),
                            "truth": kind == 0,
                            "box": person.box_01,
                            "score": person.score,
                            "label": person.label,
                            "roi": self._pool("roi", maps, still_01, size_px),
                            "tube": self._pool("tube", maps, path_01, size_px),
                        } | ({"crop": cropped[key]} if self.crops else {})
                        for name, value in row.items():
                            self.rows[name].append(value)
            self.frame_means.append(half(self._shares(maps.mean((2, 3)))))

    def _maps(self, what: str, frames: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, C, T, h, w)."""
        begin = time.process_time()
        with torch.inference_mode():
            maps: Tensor = self.model.trunk(self.model.pixels(frames))
        self._spent(what, begin)
        return maps

    def _pool(
        self, what: str, maps: Tensor, boxes_01: NDArray[np.floating], size_px: Sequence[int]
    ) -> Pooled:
        """Return (7, C): RoIAlign of each frame of (C, T, h, w), means over time, maximum."""
        begin = time.process_time()
        rois = torch.from_numpy(boxes_01.astype(np.float32)) * torch.tensor([*size_px, *size_px])
        numbered = torch.cat([torch.arange(len(rois))[:, None].float(), rois], 1)
        head = self.model.head
        regions = roi_align(
            maps.transpose(0, 1).contiguous(), numbered, head.description.roi_size,
            1 / head.spatial_stride, sampling_ratio=0, aligned=True,
        )  # fmt: skip
        pooled = self._shares(regions.transpose(0, 1)).amax((2, 3))
        self._spent(what, begin)
        return half(pooled)

    def _crop(self, frames: Tensor, path_01: NDArray[np.floating]) -> Pooled:
        """Return (7, C) means of the maps of a square that follows the person."""
        pixels = frames.permute(0, 2, 3, 1).contiguous().numpy()
        (maps,) = self._maps("crop", crop_people(pixels, path_01[None], CROP_PX))
        return half(self._shares(maps.mean((2, 3))))

    def _shares(self, values: Tensor) -> Tensor:
        """(C, T, ...) -> (7, C, ...) means over the clip, its halves and its quarters."""
        whole = [part for count in SHARES for part in values.tensor_split(count, dim=1)]
        return torch.stack([part.mean(1) for part in whole])

    def _spent(self, what: str, begin: float) -> None:
        self.spent_s[what] += time.process_time() - begin
        self.passes[what] += 1


@dataclass(frozen=True)
class SeenPerson:
    """A box at a keyframe.  label: column of the label map, -1 of a detected one."""

    box_01: NDArray[np.float32]
    score: float
    label: int
    track: int


def by_video(table: ActorTable) -> dict[str, dict[int, int]]:
    """Return the position of each keyframe, by video and microseconds."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for position, time_us in enumerate(table.time_us.tolist()):
        found[table.video_names[table.video_index[position]]][time_us] = position
    return found


def linked(
    places: dict[int, int], table: ActorTable
) -> tuple[dict[int, list[SeenPerson]], dict[int, Track]]:
    """Return the people of one video by microseconds, and the times and boxes of each track."""
    boxes = [table.boxes(place) for place in places.values()]
    frames = [(time_us / 1e6, one) for time_us, one in zip(places, boxes, strict=True)]
    numbers = link_boxes(frames, Tracker(start_score=-np.inf))
    people: dict[int, list[SeenPerson]] = {}
    tracks: dict[int, Track] = {}
    for (time_us, place), one, of_boxes in zip(places.items(), boxes, numbers, strict=True):
        labels = table.labels(place)
        for index, number in enumerate(of_boxes.tolist()):
            label = int(labels[index].argmax()) if labels[index].any() else -1
            box_01 = one.xyxy_01[index]
            person = SeenPerson(box_01, float(one.score[index]), label, number)
            people.setdefault(time_us, []).append(person)
            times_s, boxes_01 = tracks.setdefault(number, ([], []))
            times_s.append(time_us / 1e6)
            boxes_01.append(box_01)
    return people, tracks


def along(track: Track, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (T, 4) boxes between those of a track; beyond its ends the nearest one."""
    return np.stack([np.interp(times_s, track[0], side) for side in np.transpose(track[1])], 1)


def half(values: Tensor) -> Pooled:
    """Return values as they are stored."""
    stored: Pooled = values.half().numpy()
    return stored


def pretrained(config: RunConfig) -> ActionDetector:
    """Return the network as Kinetics left it."""
    label_map = DatasetFolder.open(config.data.root).read_label_map()
    model = build.build_model(config, num_classes=len(label_map))
    build.start_from_pretrained(config, model, label_map)
    placed = build.place_model(model.eval(), torch.device("cpu"))
    assert isinstance(placed, ActionDetector)
    return placed


if __name__ == "__main__":
    main()
