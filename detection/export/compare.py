"""A network and its exports on the same clips: how far apart, and how long each takes.

Legend: B clips, T frames, H W pixels, R people in the batch, A classes, P window positions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from detection.checkpoints.file import ModelFile, NetworkDescription
from detection.checkpoints.load import describe_network
from detection.export.artefact import Artefact, FrameLimits
from detection.export.card import CardRow, ExportCard, versions_text
from detection.export.networks import ExportedNetwork
from detection.export.program import Network
from detection.models.action_detector import ActionDetector
from detection.models.actor_head import ActorHeadDescription
from detection.models.classifier import ClipClassifier
from detection.models.timing import processor_name


@dataclass
class Watch:
    """What was seen of a network so far.

    clips: that it was given.
    seconds: processor time of all threads, a clip, of each call.
    largest: absolute logit.
    difference: the largest from the plain network's logits.
    score_difference: likewise of probabilities.
    """

    clips: int = 0
    seconds: list[float] = field(default_factory=list)
    largest: float = 0.0
    difference: float = 0.0
    score_difference: float = 0.0

    @property
    def milliseconds(self) -> float:
        """The median of a clip; the first call warms up, where there are others."""
        return 1e3 * statistics.median(self.seconds[1:] or self.seconds)


class SideBySide(nn.Module):
    """Runs a network and its exports on whatever it is given, in turn; gives the network's logits.

    Called as the `ActionDetector` that it holds.
    """

    def __init__(self, plain: Network, exported: Mapping[str, ExportedNetwork]) -> None:
        super().__init__()
        self.plain = plain
        self.exported = nn.ModuleDict(exported)
        self.watches = {name: Watch() for name in ("torch", *exported)}

    @property
    def description(self) -> NetworkDescription:
        """The numbers of the network."""
        return describe_network(self.plain)

    def forward(self, frames: Tensor, rois_px: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 RGB and RoIs -> (R, A) logits, as of an `ActionDetector`."""
        return self.run(frames, rois_px)

    def run(self, frames: Tensor, *rest: Tensor) -> Tensor:
        """Return the network's logits of inputs that all are given."""
        plain = self._timed("torch", self.plain, frames, *rest)
        for name, module in self.exported.items():
            self._note(name, plain, self._timed(name, module, frames, *rest))
        return plain

    def _timed(self, name: str, module: nn.Module, *inputs: Tensor) -> Tensor:
        watch, frames = self.watches[name], inputs[0]
        call = module.position_logits if isinstance(module, ClipClassifier) else module
        start = time.process_time()
        with torch.inference_mode():
            logits: Tensor = call(*inputs)
        watch.seconds.append((time.process_time() - start) / len(frames))
        watch.clips += len(frames)
        if logits.numel():
            watch.largest = max(watch.largest, float(logits.abs().max()))
        return logits

    def _note(self, name: str, plain: Tensor, logits: Tensor) -> None:
        assert logits.shape == plain.shape, (logits.shape, plain.shape)
        if not plain.numel():
            return
        watch = self.watches[name]
        watch.difference = _larger(watch.difference, plain - logits)
        score = torch.sigmoid if plain.ndim == 2 else _softmax
        watch.score_difference = _larger(watch.score_difference, score(plain) - score(logits))

    def rows(self, *, metrics: Mapping[str, float] | None = None) -> tuple[CardRow, ...]:
        """Return what a card says of each export.  metrics: frame-mAP or accuracy by name."""
        return tuple(
            CardRow(
                precision=name,
                largest_difference=self.watches[name].difference,
                score_difference=self.watches[name].score_difference,
                milliseconds=self.watches[name].milliseconds,
                metric=None if metrics is None else metrics[name],
            )
            for name in self.exported
        )


class ClassifiersSideBySide(SideBySide, ClipClassifier):
    """Called as the `X3DClassifier` that it holds."""

    def position_logits(self, frames: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 RGB -> (B, P, A) logits."""
        return self.run(frames)

    def forward(self, frames: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 3, T, H, W) uint8 RGB -> (B, A) logits, averaged over positions."""
        return ClipClassifier.forward(self, frames)


def run_side_by_side(plain: Network, exported: Mapping[str, ExportedNetwork]) -> SideBySide:
    """Return a network that runs them all, called as `plain` is."""
    kind = SideBySide if isinstance(plain, ActionDetector) else ClassifiersSideBySide
    return kind(plain, exported)


def compare_exports(
    plain: Network,
    exported: Mapping[str, ExportedNetwork],
    clips: Iterable[tuple[Tensor, ...]],
    *,
    artefact: Artefact,
    clips_from: str = "made-up",
) -> ExportCard:
    """Run all on the same clips and return the card.  exported: by precision."""
    both = run_side_by_side(plain, exported)
    for inputs in clips:
        both.run(*inputs)
    return card_of(both, artefact, clips_from=clips_from)


def card_of(
    both: SideBySide,
    artefact: Artefact,
    *,
    clips_from: str,
    metric: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> ExportCard:
    """Return the card of what was run.

    clips_from: which clips, in words.  metric: its name.  metrics: its values, by precision and of
    "torch".
    """
    plain = both.watches["torch"]
    return ExportCard(
        form=artefact.form,
        source=artefact.source,
        weights=artefact.weights,
        versions=versions_text(artefact.versions),
        processor=processor_name(),
        threads=torch.get_num_threads(),
        clips=plain.clips,
        clips_from=clips_from,
        largest_logit=plain.largest,
        torch_milliseconds=plain.milliseconds,
        metric=metric,
        torch_metric=None if metrics is None else metrics["torch"],
        rows=both.rows(metrics=metrics),
    )


def made_up_clips(
    file: ModelFile, limits: FrameLimits, *, repeats: int = 3
) -> Iterator[tuple[Tensor, ...]]:
    """Yield inputs of random smooth clips at the file's size, of odd sizes, without people."""
    assert file.network is not None and file.short_side_px is not None
    random = torch.Generator().manual_seed(0)
    short = max(file.short_side_px, limits.least_side_px)
    sizes = [(short, short)] * 2
    if limits.side_px is None:
        sizes = [(short, short + short // 3)] * repeats + [(short + 1, short + 11), (short, short)]
    for number, (height, width) in enumerate(sizes):
        people = (3, 1, 2, 0, 5)[number % 5]
        clips = 2 if number == len(sizes) - 1 else 1
        frames = _smooth(clips, limits.num_frames, height, width, random)
        if file.network.task != "actions":
            yield (frames,)
            continue
        corner = torch.rand(people, 2, generator=random) * 0.5
        side = torch.rand(people, 2, generator=random) * 0.5
        edges = torch.tensor([width, height, width, height])
        boxes_px = torch.cat([corner, corner + side], 1) * edges
        index = torch.randint(0, clips, (people, 1), generator=random).float()
        rois_px = torch.cat([index, boxes_px], 1)
        head = file.network.head
        if isinstance(head, ActorHeadDescription) and head.follows:
            rois_px = _walking(rois_px, limits.num_frames)
        yield frames, rois_px


def _walking(rois_px: Tensor, frames: int) -> Tensor:
    """(R, 5) -> (R, T, 5): each box walks to the right by a quarter of its width."""
    width = (rois_px[:, 3] - rois_px[:, 1]) / 4
    moved = width[:, None] * torch.linspace(0, 1, frames)  # (R, T)
    nothing = torch.zeros_like(moved)
    return rois_px[:, None] + torch.stack([nothing, moved, nothing, moved, nothing], dim=2)


def _smooth(clips: int, frames: int, height: int, width: int, random: torch.Generator) -> Tensor:
    coarse = torch.rand(clips, 3, max(2, frames // 2), 6, 8, generator=random)
    fine = nn.functional.interpolate(coarse, (frames, height, width), mode="trilinear")
    noise = 0.1 * torch.rand(fine.shape, generator=random)
    return ((0.9 * fine + noise) * 255).byte()


def _larger(known: float, apart: Tensor) -> float:
    """Return the larger of a number and the largest absolute value; NaN wherever one is."""
    found = float(apart.abs().max())
    return found if found != found else max(known, found)


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)
