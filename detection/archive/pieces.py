"""The pieces of an archive's work, what becomes of them, and where that stands.

A video is one piece; of a long one each span is, and then joining them. Where the action network
follows people, those of each span are a piece before that. A piece is done when its file stands
whole under its name: a video's `run.json` that says so, a span's `.npz`. Doing a piece that is done
already takes no time, so that whoever is not sure gives it out again. This file does not import
torch: what gives pieces out has no network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detection.files import sha256_of_text
from detection.pipeline.decisive import common_key
from detection.pipeline.options import PipelineOptions
from detection.pipeline.spans import VideoSpan
from detection.pipeline.video_folders import VideoFolder

SPANS_NAME = ".spans"


@dataclass(frozen=True)
class WorkOptions:
    """What a worker opens, and what it makes of each video.

    root: folder or address of the results.
    checkpoint, people, device, half_precision, runtime: as for `from_checkpoint`.
    pipeline: `workers` is given, so that every machine makes the same batches.
    threads: of PyTorch.
    overwrite: results of other files or options are made anew; those of these are kept.
    span_s: length of the spans of a long video; inf: none is cut.
    """

    root: str
    checkpoint: str | None
    people: str | None
    pipeline: PipelineOptions
    device: str = "cpu"
    half_precision: bool | None = None
    runtime: str | None = None
    threads: int = 1
    start_s: float = 0.0
    end_s: float = math.inf
    film: bool = True
    page: bool = True
    overwrite: bool = False
    span_s: float = math.inf


@dataclass(frozen=True)
class KeyPiece:
    """Ask for the digest of all that decides the results but the videos."""


@dataclass(frozen=True)
class VideoPiece:
    """A video; whole: not to be cut into spans."""

    video: VideoFolder
    whole: bool = False


@dataclass(frozen=True)
class PeoplePiece:
    """The people of a span of a video; key: of the plan that it is of."""

    video: VideoFolder
    span: VideoSpan
    key: str


@dataclass(frozen=True)
class SpanPiece:
    """A span of a video.

    key: of the plan that it is of.
    people: spans whose people are detected, all of the video; empty: none is to be before.
    """

    video: VideoFolder
    span: VideoSpan
    key: str
    people: tuple[VideoSpan, ...] = ()


@dataclass(frozen=True)
class JoinPiece:
    """The results of a video whose spans are all computed.

    people_first: whether there are files of their people, too.
    """

    video: VideoFolder
    spans: tuple[VideoSpan, ...]
    key: str
    people_first: bool = False


Piece = KeyPiece | VideoPiece | PeoplePiece | SpanPiece | JoinPiece


@dataclass(frozen=True)
class VideoDone:
    """The results of a video stand whole.

    notes: lines for those who watch.
    length_s: of the video; None: unknown.
    """

    name: str
    length_s: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpansPlanned:
    """A video is long: these spans are to be computed, then joined.

    people_first: the people of all spans are to be detected before any is computed.
    """

    name: str
    spans: tuple[VideoSpan, ...]
    key: str
    people_first: bool = False


@dataclass(frozen=True)
class PeopleDone:
    """The file of a span's people stands whole."""

    name: str
    span: VideoSpan


@dataclass(frozen=True)
class SpanDone:
    """A span's file stands whole; notes: lines for those who watch."""

    name: str
    span: VideoSpan
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotCut:
    """A video that turned out to be one piece, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Key:
    """The digest asked for; notes: what is to be known of the networks, a line each."""

    key: str
    notes: tuple[str, ...] = ()


Result = VideoDone | SpansPlanned | PeopleDone | SpanDone | NotCut | Key


def span_name(video: VideoFolder, span: VideoSpan, key: str) -> str:
    """Return where a span's file lies below the results; `key` tells other content's apart."""
    return f"{spans_folder(video.name)}/{key[:16]}-{span.name}.npz"


def people_name(video: VideoFolder, span: VideoSpan, key: str) -> str:
    """Return where the file of a span's people lies, as `span_name`."""
    return f"{spans_folder(video.name)}/{key[:16]}-{span.name}-people.npz"


def spans_folder(name: str) -> str:
    """Return where the spans of a video of that name lie below the results."""
    return f"{SPANS_NAME}/{sha256_of_text(name)[:24]}"


def is_complete(state: Mapping[str, Any] | None) -> bool:
    """Tell whether a run.json says that the results are whole."""
    return state is not None and state.get("complete") is True


def state_key(state: Mapping[str, Any] | None) -> str | None:
    """Return the digest of what the results of a run.json have in common; None: not known."""
    try:
        return None if state is None else common_key(state)
    except (LookupError, TypeError, AttributeError):
        return None
