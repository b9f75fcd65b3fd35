"""The run's log for TensorBoard, an extra; the only importer of its writer."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from detection.errors import UserError


class TensorBoard:
    """Draws what `MetricsLog` is told: curves by update, speed, scores, AP by class, pictures."""

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "tensorboard=true needs the tensorboard package: pip install tensorboard"
            ) from error
        self._make_writer = functools.partial(SummaryWriter, str(folder))
        self._update = 0

    @functools.cached_property
    def _writer(self) -> Any:
        return self._make_writer()  # makes files, so not before there is something to say

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        """Draw one event of the log; those without numbers are left out."""
        self._update = int(values.get("update", self._update))
        if event == "update":
            for name, value in values.items():
                if name in ("lr", "grad_norm") or name.startswith("loss"):
                    self._number(f"train/{name}", value)
        elif event in ("throughput", "epoch"):
            self._number("speed/clips_per_second", values.get("clips_per_second"))
            for name, share in values.get("shares", {}).items():
                self._number(f"speed/share_of_time_{name}", share)
        elif event in ("evaluation", "held_out", "final"):
            for name, value in values.items():
                if isinstance(value, float):
                    self._number(f"{event}/{name}", value)
            for name, value in values.get("per_class", {}).items():
                self._number(f"ap_by_class/{name}", value)
            self._writer.flush()

    def picture(self, name: str, path: str | Path) -> None:
        """Show a picture file."""
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise UserError(f"{path}: not a picture that can be read")
        self._writer.add_image(name, image, self._update, dataformats="HWC")
        self._writer.flush()

    def _number(self, name: str, value: Any) -> None:
        if isinstance(value, int | float):
            self._writer.add_scalar(name, value, self._update)
