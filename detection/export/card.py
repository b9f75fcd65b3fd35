"""The card of an exported network: how near it is to PyTorch, how fast, on what, made by what."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from detection.export.artefact import Form
from detection.files import write_text
from detection.formats.json_text import json_text

CARD_JSON = "card.json"
CARD_TEXT = "card.md"
_NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "torch": "exported PyTorch program"}
_PRECISIONS = {"f32": "float32", "bf16": "bfloat16"}


@dataclass(frozen=True)
class CardRow:
    """What was measured of one precision of an exported network.

    largest_difference: of its logits from PyTorch's.  score_difference: of its probabilities.
    milliseconds: of processor time a clip.  metric: see `ExportCard`.
    """

    precision: str
    largest_difference: float
    score_difference: float
    milliseconds: float
    metric: float | None = None


@dataclass(frozen=True)
class ExportCard:
    """What was measured when a network was exported, on this machine.

    source, weights: the checkpoint and the SHA-256 of its weights.
    versions: of the packages.
    processor: its name.
    threads: of PyTorch and of the runtime.
    clips: run by both, in turn.
    clips_from: where they are from.
    largest_logit: of PyTorch.
    torch_milliseconds: of processor time a clip, median.
    metric: the name of the score on a data set, where one was given.
    torch_metric: that score of PyTorch.
    """

    form: Form
    source: str
    weights: str
    versions: str
    processor: str
    threads: int
    clips: int
    clips_from: str
    largest_logit: float
    torch_milliseconds: float
    rows: tuple[CardRow, ...]
    metric: str | None = None
    torch_metric: float | None = None
    flags: str = dataclasses.field(default_factory=lambda: processor_flags())

    def text(self) -> str:
        """Lay the card out as Markdown."""
        scored = self.torch_metric is not None
        columns = ["", "ms a clip", "of PyTorch's", "logits apart", "scores apart"]
        columns += [str(self.metric)] if scored else []
        plain = ["PyTorch, float32", f"{self.torch_milliseconds:.1f}", "1.00", "", ""]
        plain += [f"{self.torch_metric:.4f}"] if scored else []
        lines = [columns, ["---"] * len(columns), plain]
        for row in self.rows:
            cells = [
                f"{_NAMES[self.form]}, {_PRECISIONS[row.precision]}",
                f"{row.milliseconds:.1f}",
                f"{row.milliseconds / self.torch_milliseconds:.2f}",
                f"{row.largest_difference:.1e}",
                f"{row.score_difference:.1e}",
            ]
            if row.metric is not None and self.torch_metric is not None:
                cells.append(f"{row.metric:.4f} ({row.metric - self.torch_metric:+.4f})")
            lines.append(cells)
        table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        return (
            f"# {self.source} for {_NAMES[self.form]}\n\n{table}\n\n"
            f"{self.clips} clips ({self.clips_from}), each run by all in turn; medians of the "
            f"processor time of all threads, {self.threads} each; the largest logit is "
            f"{self.largest_logit:.2f}.\n"
            f"{self.processor} ({self.flags}); {self.versions}.\n"
            f"Weights: SHA-256 {self.weights}\n"
        )


class Measured(Protocol):
    """A dataclass of what was measured, of a network or of a people detector."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def text(self) -> str:
        """Lay the card out as Markdown."""


def write_card(folder: Path, card: Measured) -> None:
    """Write card.json and card.md into the folder of what was exported."""
    write_text(folder / CARD_JSON, json_text(dataclasses.asdict(card)))
    write_text(folder / CARD_TEXT, card.text())


def versions_text(versions: Mapping[str, str]) -> str:
    """Return packages with their versions on one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def processor_flags() -> str:
    """Return what matters here of this processor's instruction sets; "unknown" off Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "instruction sets unknown"
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    known = set(found[1].split()) if found else set()
    shown = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    return ", ".join(flag for flag in shown if flag in known) or "instruction sets unknown"
