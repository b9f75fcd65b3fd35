"""Which way of showing a person to a network that knows whole clips works best without training?

    python benchmarks/zero_training.py --data ../shared/data --weights x3d_xs.pyth [--part dev]

JHMDB's first split, ground-truth boxes, the clip around the middle annotated frame. 14 of its 21
classes have counterparts in Kinetics-400, whose probabilities are added up (`COUNTERPARTS`);
top-1 is among these 14. `--part dev`: 14 training clips of each class, on which the rules were
chosen; `held-out`: 7 others of each; `test`: all test clips, for the end. Montages put a second
clip, of another class, beside each: both people are asked about. `--neutral` prints, for people of
the 7 classes without a counterpart (sit, stand, walk, ...), how often the best name would be shown
at each threshold, and which names. `--ways` names some rows of the table by how they begin.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import roi_align

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection.boxes import SQUARE_SCALE  # noqa: E402
from detection.checkpoints.load import load_network  # noqa: E402
from detection.checkpoints.network_file import read_network_file  # noqa: E402
from detection.datasets.person_crops import crop_people  # noqa: E402
from detection.formats.safe_pickle import read_plain_pickle  # noqa: E402
from detection.models.classifier import X3DClassifier  # noqa: E402
from detection.structures import ClipSampling, LabelMap  # noqa: E402
from detection.video.reader import VideoReader  # noqa: E402

COUNTERPARTS = {
    "brush_hair": ["brushing hair"],
    "catch": [
        "catching or throwing baseball",
        "catching or throwing softball",
        "catching or throwing frisbee",
    ],
    "clap": ["clapping", "applauding"],
    "climb_stairs": ["climbing ladder"],
    "golf": ["golf chipping", "golf driving", "golf putting"],
    "kick_ball": ["kicking soccer ball", "kicking field goal", "juggling soccer ball"],
    "pour": ["bartending"],
    "pullup": ["pull ups"],
    "push": ["pushing car", "pushing cart", "pushing wheelchair"],
    "run": ["jogging"],
    "shoot_ball": ["shooting basketball", "dunking basketball", "playing basketball"],
    "shoot_bow": ["archery"],
    "swing_baseball": ["hitting baseball"],
    "throw": ["throwing ball"],
}
Rgb = NDArray[np.uint8]
Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Person:
    """A clip with one person: frames (T, H, W, 3), boxes_01 (T, 4), the keyframe's box (4,)."""

    action: str
    frames: Rgb
    boxes_01: Boxes
    keyframe_box_01: Boxes

    def still(self) -> Boxes:
        """Return the keyframe's box for every frame, (T, 4)."""
        return np.repeat(self.keyframe_box_01[None], len(self.frames), 0)


Way = Callable[["Network", Person], NDArray[np.float32]]


@dataclass(frozen=True)
class Network:
    """A classification network, the side of its clips, and the columns of each gathered class."""

    model: X3DClassifier
    side_px: int
    names: tuple[str, ...]
    whole_maps: dict[int, torch.Tensor] = field(default_factory=dict)

    @torch.inference_mode()
    def whole_map(self, person: Person) -> torch.Tensor:
        """Return the trunk's map of a person's whole frames, computed once for all ways."""
        if id(person.frames) not in self.whole_maps:
            pixels = self.model.pixels(_whole(person, self.side_px))
            self.whole_maps[id(person.frames)] = self.model.trunk(pixels)
        return self.whole_maps[id(person.frames)]

    @torch.inference_mode()
    def probabilities(self, clips: torch.Tensor) -> NDArray[np.float32]:
        """(1, 3, T, H, W) uint8 -> (K,)."""
        found: NDArray[np.float32] = self.model.probabilities(clips)[0].numpy()
        return found

    def gathered(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """(K,) -> (14,), in the order of `COUNTERPARTS`."""
        return np.array(
            [probabilities[[self.names.index(n) for n in ns]].sum() for ns in COUNTERPARTS.values()]
        )


def square(scale: float = SQUARE_SCALE, *, follow: bool = True) -> Way:
    """Return the shipped way, or the same with another scale or standing still."""

    def way(network: Network, person: Person) -> NDArray[np.float32]:
        boxes = person.boxes_01 if follow else person.still()
        return network.probabilities(
            crop_people(person.frames, boxes[None], network.side_px, scale=scale)
        )

    return way


def tight(network: Network, person: Person) -> NDArray[np.float32]:
    """Show the box itself, stretched to a square."""
    return network.probabilities(_stretched(person, network.side_px, person.boxes_01))


def example(*, swapped: bool) -> Way:
    """Return a still crop as Ultralytics' action recognition example cuts it (10 %)."""

    def way(network: Network, person: Person) -> NDArray[np.float32]:
        height, width = person.frames.shape[1:3]
        size = np.array([width, height, width, height])
        left, top, right, bottom = (person.keyframe_box_01 * size).astype(int).tolist()
        margin_x, margin_y = int((right - left) * 0.1), int((bottom - top) * 0.1)
        left, top = max(0, left - margin_x), max(0, top - margin_y)
        right, bottom = min(width, right + margin_x), min(height, bottom + margin_y)
        half = max(right - left, bottom - top) // 2
        x, y = (left + right) // 2, (top + bottom) // 2
        box = np.array([x - half, y - half, x + half, y + half]).clip(0) / size
        still = np.repeat(box.clip(0, 1)[None], len(person.frames), 0)
        clip = _stretched(person, network.side_px, still)
        return network.probabilities(clip.flip(1) if swapped else clip)

    return way


@torch.inference_mode()
def whole_frame(network: Network, person: Person) -> NDArray[np.float32]:
    """Show the whole frame at the network's short side, whoever is asked about."""
    logits = network.model.head(network.whole_map(person))
    found: NDArray[np.float32] = logits.softmax(-1).mean(1)[0].numpy()
    return found


@torch.inference_mode()
def roi(network: Network, person: Person) -> NDArray[np.float32]:
    """RoIAlign of the keyframe's box over the whole frame's map, then Kinetics' own head."""
    model, features = network.model, network.whole_map(person).mean(2)  # (1, C, h, w)
    height, width = features.shape[-2:]
    box = torch.tensor(person.keyframe_box_01 * [width, height, width, height]).float()
    pooled = roi_align(features, [box[None]], 7, aligned=True).mean((2, 3))
    logits = model.head.classes(torch.relu(model.head.hidden(pooled)))
    found: NDArray[np.float32] = logits.softmax(-1)[0].numpy()
    return found


WAYS: dict[str, Way] = {
    "square that follows (shipped)": square(),
    "square standing still": square(follow=False),
    "square x 1.5": square(1.5),
    "square x 2.5": square(2.5),
    "still crop of a common example": example(swapped=False),
    "the same, colours swapped as there": example(swapped=True),
    "whole frame": whole_frame,
    "RoI over the whole frame's map": roi,
    "tight stretched box": tight,
}


def _stretched(person: Person, side_px: int, boxes_01: Boxes) -> torch.Tensor:
    height, width = person.frames.shape[1:3]
    crops = []
    for frame, box in zip(person.frames, boxes_01, strict=True):
        left, top, right, bottom = (box * [width, height, width, height]).round().astype(int)
        cut = frame[top : max(bottom, top + 1), left : max(right, left + 1)]
        crops.append(cv2.resize(cut, (side_px, side_px), interpolation=cv2.INTER_LINEAR))
    return torch.from_numpy(np.stack(crops)).permute(3, 0, 1, 2)[None]


def _whole(person: Person, side_px: int) -> torch.Tensor:
    height, width = person.frames.shape[1:3]
    scale = side_px / min(height, width)
    size = (round(width * scale), round(height * scale))
    frames = [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in person.frames]
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)[None]


# Data


def read_person(data: Path, truth: dict[str, Any], name: str, sampling: ClipSampling) -> Person:
    """Read the clip around a video's middle annotated frame."""
    ((tube,),) = truth["gttubes"][name].values()
    height, width = truth["resolution"][name]
    with VideoReader(data / "jhmdb" / "videos" / f"{name}.mp4") as reader:
        frame_times_s = np.array(reader.decoded_times_s())
        tube = tube[tube[:, 0] <= len(frame_times_s)]  # three videos are cut short
        tube_s = frame_times_s[tube[:, 0].astype(int) - 1]
        time_s = float(tube_s[len(tube_s) // 2])
        times_s = sampling.times_s(time_s, within_s=reader.ends_s())
        frames = reader.read(times_s).frames.permute(0, 2, 3, 1).contiguous().numpy()
    boxes = (tube[:, 1:] + [0, 0, 1, 1]) / [width, height, width, height]

    def at(when_s: NDArray[np.float64]) -> Boxes:
        return np.stack([np.interp(when_s, tube_s, boxes[:, side]) for side in range(4)], -1)

    return Person(name.split("/")[0], frames, at(times_s), at(np.array([time_s]))[0])


def choose(truth: dict[str, Any], part: str, actions: list[str]) -> list[str]:
    """Return the videos of a part: dev and held-out are disjoint parts of the training videos."""
    by_action: dict[str, list[str]] = defaultdict(list)
    for name in sorted(truth["test_videos" if part == "test" else "train_videos"][0]):
        by_action[name.split("/")[0]].append(name)
    chosen = []
    for action in actions:
        names = by_action[action]
        if part != "test":
            random.Random(action).shuffle(names)
            names = names[:14] if part == "dev" else names[14:21]
        chosen += names
    return chosen


def montages(people: list[Person]) -> Iterator[tuple[Person, Person]]:
    """Yield both people of each clip beside a clip of another class."""
    order = list(range(len(people)))
    random.Random(0).shuffle(order)
    for position, first in enumerate(order):
        others = (order[(position + step) % len(order)] for step in range(1, len(order)))
        second = next(i for i in others if people[i].action != people[first].action)
        yield _beside(people[first], people[second])


def _beside(left: Person, right: Person) -> tuple[Person, Person]:
    """Return both people in one picture of two clips scaled to 240 lines."""
    scaled = []
    for person in (left, right):
        height, width = person.frames.shape[1:3]
        size = (round(width * 240 / height), 240)
        scaled.append(np.stack([cv2.resize(f, size, None) for f in person.frames]))
    frames = np.concatenate(scaled, 2)
    shares = [each.shape[2] / frames.shape[2] for each in scaled]
    found = []
    for person, share, offset in zip((left, right), shares, (0.0, shares[0]), strict=True):
        scale, shift = np.array([share, 1, share, 1]), np.array([offset, 0, offset, 0])
        boxes, box = person.boxes_01 * scale + shift, person.keyframe_box_01 * scale + shift
        found.append(Person(person.action, frames, boxes, box))
    return found[0], found[1]


# Reports


def print_accuracy(network: Network, people: list[Person], ways: dict[str, Way]) -> None:
    """Print top-1 of each way, alone and in montages."""
    actions = list(COUNTERPARTS)
    pairs = [person for pair in montages(people) for person in pair]
    print(f"{len(people)} clips, {len(pairs)} people of {len(pairs) // 2} montages")
    print("| way | one person | montages |\n|---|---|---|")
    for name, way in ways.items():
        shares = [
            np.mean([
                actions[int(network.gathered(way(network, each)).argmax())] == each.action
                for each in group
            ])
            for group in (people, pairs)
        ]  # fmt: skip
        print(f"| {name} | {shares[0]:.3f} | {shares[1]:.3f} |", flush=True)


def print_neutral(
    network: Network, named: list[Person], neutral: list[Person], left_out: list[str]
) -> None:
    """Print how often a name is shown, by threshold, for people with and without a counterpart."""
    kept = np.array([name not in left_out for name in network.names])
    way = square()
    best: dict[str, list[tuple[float, str]]] = {}
    for kind, people in (("named", named), ("neutral", neutral)):
        best[kind] = []
        for person in people:
            probabilities = way(network, person) * kept
            top = int(probabilities.argmax())
            best[kind].append((float(probabilities[top]), network.names[top]))
    right = [
        name in COUNTERPARTS[p.action] for p, (_, name) in zip(named, best["named"], strict=True)
    ]
    print("| threshold | right name shown | another name shown | shown of those without one |")
    print("|---|---|---|---|")
    for threshold in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        shown = np.array([score >= threshold for score, _ in best["named"]])
        nothing = np.mean([score >= threshold for score, _ in best["neutral"]])
        good, bad = np.mean(shown & right), np.mean(shown & ~np.array(right))
        print(f"| {threshold} | {good:.3f} | {bad:.3f} | {nothing:.3f} |")
    names = Counter(name for score, name in best["neutral"] if score >= 0.5)
    print("at 0.5, those without one are called:", names.most_common(12))


def print_setting() -> None:
    """Print the commit, and the processor with the instructions that decide rounding."""
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    processor = Path("/proc/cpuinfo")
    flags = set(processor.read_text().split()) if processor.exists() else set()
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if name in flags]
    print(f"commit {commit or 'unknown'}, processor with {', '.join(known) or 'unknown flags'}")


def main() -> None:
    """Read, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with jhmdb/")
    parser.add_argument("--weights", required=True, help="Kinetics-400 network: file or name")
    parser.add_argument("--part", choices=("dev", "held-out", "test"), default="dev")
    parser.add_argument("--frames", type=int, help="of a clip (the network's)")
    parser.add_argument("--step", type=int, help="spacing in 1/30 s (the network's)")
    parser.add_argument("--shipped", action="store_true", help="only the shipped way")
    parser.add_argument("--ways", nargs="*", default=[""], help="rows that begin so")
    parser.add_argument("--neutral", action="store_true", help="see above")
    parser.add_argument("--leave-out", nargs="*", default=[], help="with --neutral: never shown")
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = read_network_file(options.weights)
    model = load_network(file)
    classes, sampling = file.classes, file.sampling
    assert isinstance(model, X3DClassifier) and isinstance(classes, LabelMap)
    assert sampling is not None and file.short_side_px is not None
    sampling = ClipSampling(
        options.frames or sampling.num_frames, options.step or sampling.step, "inside"
    )
    network = Network(model, file.short_side_px, classes.names)
    truth = read_plain_pickle(options.data / "jhmdb" / "JHMDB-GT.pkl")
    print_setting()
    print(
        f"{Path(options.weights).name}, {sampling.num_frames} frames every {sampling.step:g}, "
        f"{options.part}"
    )

    def read(actions: list[str]) -> list[Person]:
        names = choose(truth, options.part, actions)
        return [read_person(options.data, truth, name, sampling) for name in names]

    named = read(list(COUNTERPARTS))
    if options.neutral:
        neutral = [label for label in truth["labels"] if label not in COUNTERPARTS]
        print_neutral(network, named, read(neutral), options.leave_out)
    else:
        begins = tuple(list(WAYS)[:1] if options.shipped else options.ways)
        ways = {name: way for name, way in WAYS.items() if name.startswith(begins)}
        print_accuracy(network, named, ways)


if __name__ == "__main__":
    main()
