"""The card of an exported people detector: how near it is to PyTorch's boxes, and how fast.

Legend: H W pixels, N boxes of a frame.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from detection.datasets.folder import DatasetFolder
from detection.export.artefact import Form
from detection.export.card import processor_flags, versions_text
from detection.export.runtimes import describe_runtime
from detection.export.session import Threads
from detection.models.timing import processor_name
from detection.people.exported import PeopleArtefact, open_exported_people
from detection.people.folded import fold_for_inference
from detection.people.keyframe_frames import annotated_keyframes, batches_of, read_batches
from detection.people.torchvision_rcnn import TorchvisionDetector
from detection.structures import ActorBoxes

_MOST_FRAMES = 100


@dataclass(frozen=True)
class PeopleCard:
    """What was measured when a people detector was exported, on this machine.

    source, weights: the checkpoint and the SHA-256 of its weights.
    runtime: in words.
    versions: of the packages.
    frames: run by both, in turn.
    frames_from: where they are from.
    boxes: of PyTorch, from score 0.05 on.
    box_difference_px: the largest of a coordinate, of each of PyTorch's boxes and the nearest one.
    score_difference: the largest of these pairs.
    other_numbers: frames on which the two found another number of boxes.
    torch_milliseconds, milliseconds: of processor time a frame, medians.
    threads: of each.
    """

    form: Form
    source: str
    weights: str
    runtime: str
    versions: str
    frames: int
    frames_from: str
    boxes: int
    box_difference_px: float
    score_difference: float
    other_numbers: int
    torch_milliseconds: float
    milliseconds: float
    threads: int
    processor: str = field(default_factory=processor_name)
    flags: str = field(default_factory=processor_flags)

    def text(self) -> str:
        """Lay the card out as Markdown."""
        share = self.milliseconds / self.torch_milliseconds
        return (
            f"# {self.source} for {self.runtime}\n\n"
            "| | ms a frame | of PyTorch's | boxes apart, px | scores apart |\n"
            "|---|---|---|---|---|\n"
            f"| PyTorch, float32 | {self.torch_milliseconds:.1f} | 1.00 | | |\n"
            f"| {self.runtime} | {self.milliseconds:.1f} | {share:.2f} | "
            f"{self.box_difference_px:.1e} | {self.score_difference:.1e} |\n\n"
            f"{self.frames} frames ({self.frames_from}), run by both in turn, {self.boxes} boxes; "
            f"another number of boxes on {self.other_numbers}; medians of the processor time of "
            f"all threads, {self.threads} each.\n"
            f"{self.processor} ({self.flags}); {self.versions}.\n"
            f"Weights: SHA-256 {self.weights}\n"
        )


def compare_people(
    network: FasterRCNN,
    artefact: PeopleArtefact,
    frames: Iterable[Tensor],
    *,
    frames_from: str = "made-up",
) -> PeopleCard:
    """Run a detector and its export on (3, H, W) uint8 frames, in turn, and return the card."""
    threads = torch.get_num_threads()
    labels = list(range(1, len(artefact.facts.classes) + 1))
    detectors = [
        TorchvisionDetector(each, name="compared", actor_labels=labels)
        for each in (
            fold_for_inference(network),
            open_exported_people(artefact, Threads(threads)),
        )
    ]
    seconds: list[list[float]] = [[], []]
    apart, boxes, others = [(0.0, 0.0)], 0, 0
    for frame in frames:
        found = []
        for detector, spent in zip(detectors, seconds, strict=True):
            start = time.process_time()
            found += detector.detect([frame])
            spent.append(time.process_time() - start)
        boxes += len(found[0])
        others += len(found[0]) != len(found[1])
        apart.append(boxes_apart(*found, size_px=(frame.shape[2], frame.shape[1])))
    of_torch, of_export = (1e3 * statistics.median(each[1:] or each) for each in seconds)
    return PeopleCard(
        artefact.form,
        source=artefact.facts.path.name,
        weights=artefact.weights,
        runtime=describe_runtime(artefact.form, "f32"),
        versions=versions_text(artefact.versions),
        frames=len(seconds[0]),
        frames_from=frames_from,
        boxes=boxes,
        box_difference_px=max(px for px, _ in apart),
        score_difference=max(score for _, score in apart),
        other_numbers=others,
        torch_milliseconds=of_torch,
        milliseconds=of_export,
        threads=threads,
    )


def boxes_apart(
    one: ActorBoxes, other: ActorBoxes, *, size_px: tuple[int, int]
) -> tuple[float, float]:
    """Return the largest differences, px and score, of each box of one and its nearest of another.

    A box without any other is the whole frame apart.
    """
    px, score = 0.0, 0.0
    scale = np.array([*size_px, *size_px])
    for box, own in zip(one.xyxy_01 * scale, one.score, strict=True):
        if not len(other):
            return float(max(size_px)), 1.0
        distance = np.abs(other.xyxy_01 * scale - box).max(1)
        nearest = int(distance.argmin())
        px = max(px, float(distance[nearest]))
        score = max(score, abs(float(other.score[nearest]) - float(own)))
    return px, score


def made_up_frames(sides_px: tuple[int, int], number: int) -> Iterator[Tensor]:
    """Yield smooth random frames of a network's size, then a small, an odd and a narrow one."""
    short, long = sides_px
    usual = (short, min(long, short * 16 // 9))
    random = torch.Generator().manual_seed(0)
    for height, width in [usual] * number + [(16, 16), (short + 1, short + 11), (9, 4 * short)]:
        coarse = torch.rand(1, 3, 9, 16, generator=random)
        fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        noise = 0.1 * torch.rand(fine.shape, generator=random)
        yield ((0.9 * fine + noise)[0] * 255).byte()


def keyframe_frames(root: Path, split_name: str, sides_px: tuple[int, int]) -> list[Tensor]:
    """Return frames of a split's keyframes, spread over it, `_MOST_FRAMES` at most."""
    folder = DatasetFolder.open(root)
    keyframes = annotated_keyframes(folder.split(split_name))
    chosen = keyframes[:: -(-len(keyframes) // _MOST_FRAMES) or 1]
    batches = batches_of(chosen, 8)
    read = read_batches(folder, batches, range(len(batches)), sides_px=sides_px)
    return [image for batch in read for image in batch.images]
