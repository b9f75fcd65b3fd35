"""Exported networks behind the calls of the networks they were made from.

Legend: B clips, T frames, H W pixels, R people in the batch, A classes, P window positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detection.checkpoints.file import NetworkDescription
from detection.errors import UserError
from detection.export.artefact import Artefact
from detection.export.runtimes import open_session
from detection.export.session import Precision, RuntimeSession, Threads
from detection.models.classifier import ClipClassifier


class ExportedDetector(nn.Module):
    """Called as an `ActionDetector`; has no weights of its own and runs on the CPU."""

    def __init__(self, artefact: Artefact, session: RuntimeSession) -> None:
        super().__init__()
        assert artefact.file.network is not None
        self.description: NetworkDescription = artefact.file.network
        self.damage = artefact.damage
        self._artefact, self._session = artefact, session

    def forward(self, frames: Tensor, rois_px: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 RGB and (R, 5) = clip index, x1, y1, x2, y2 -> (R, A) logits.

        Boxes are in pixels of `frames`; (R, T, 5), one in each frame, where the network follows
        people. R = 0 gives (0, A). Raises `UserError` for frames of a shape that was not exported.
        """
        _check_frames(frames, self._artefact)
        if not len(rois_px):  # a program that sees a square of each person would get no clip
            return torch.zeros(0, self.description.head.num_classes)
        inputs = [frames.cpu().contiguous().numpy(), rois_px.cpu().float().contiguous().numpy()]
        return torch.from_numpy(self._session.run(inputs))


class ExportedClassifier(ClipClassifier):
    """Called as an `X3DClassifier`; has no weights of its own and runs on the CPU."""

    def __init__(self, artefact: Artefact, session: RuntimeSession) -> None:
        super().__init__()
        assert artefact.file.network is not None
        self.description: NetworkDescription = artefact.file.network
        self._artefact, self._session = artefact, session

    def position_logits(self, frames: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 RGB -> (B, P, A) logits of P window positions, T then h then w.

        Raises `UserError` for frames of a shape that was not exported.
        """
        _check_frames(frames, self._artefact)
        return torch.from_numpy(self._session.run([frames.cpu().contiguous().numpy()]))


ExportedNetwork = ExportedDetector | ExportedClassifier


def open_exported(
    artefact: Artefact, *, threads: Threads, precision: Precision = "f32"
) -> ExportedNetwork:
    """Open the program of an exported network.

    Raises `UserError` where its runtime is not installed, lacks an operator of the program, or
    cannot compute in that precision.
    """
    session = open_session(artefact.program, artefact.form, threads=threads, precision=precision)
    network = artefact.file.network
    assert network is not None
    if network.task == "actions":
        return ExportedDetector(artefact, session)
    return ExportedClassifier(artefact, session)


def _check_frames(frames: Tensor, artefact: Artefact) -> None:
    if frames.dtype != torch.uint8:
        raise TypeError(f"frames must be uint8 RGB, got {frames.dtype}")
    if frames.ndim != 5 or frames.shape[1] != 3:
        raise UserError(f"frames must be (B, 3, T, H, W), got {tuple(frames.shape)}")
    artefact.limits.check(frames.shape, str(artefact.folder))
