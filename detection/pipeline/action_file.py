"""The action network of a checkpoint or of an exported network's folder, by a chosen runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from detection.build import place_model
from detection.checkpoints.file import ModelFile
from detection.checkpoints.load import Network, load_network
from detection.checkpoints.network_file import read_network_file
from detection.datasets.class_list import read_class_list
from detection.errors import UserError
from detection.export.artefact import find_artefact, read_artefact, run_beside
from detection.export.make import open_beside
from detection.export.networks import ExportedDetector, ExportedNetwork, open_exported
from detection.export.runtimes import FORM_OF, Runtime, choose_runtime, describe_runtime
from detection.export.session import Precision, Threads
from detection.models.inference import prepare_for_inference
from detection.models.soundness import describe_thin_norm

ActionNetwork = Network | ExportedNetwork


@dataclass(frozen=True)
class ActionFile:
    """An opened action network.

    file: what its file says beside the weights.
    model: on its device.
    run: the run folder or checkpoint that it belongs to.
    runtime: that runs it: "torch", or another with its version and precision.
    why: it was chosen, where it was not asked for.
    chosen: the runtime that was chosen for both networks, whatever became of it here.
    half_precision: float16 on a GPU, bfloat16 on a CPU.
    damage: what says that the weights are broken, in a line; None for sound ones.
    """

    file: ModelFile
    model: ActionNetwork
    run: str | Path
    runtime: str
    why: str
    chosen: Runtime
    half_precision: bool
    damage: str | None = None


def open_action_file(
    checkpoint: str | Path,
    *,
    device: torch.device,
    half_precision: bool | None,
    runtime: str | None,
    threads: Threads,
    class_list: Path | None = None,
    on_note: Callable[[str], object] = lambda note: None,
) -> ActionFile:
    """Open an action network; the arguments and errors are those of `open_networks`.

    class_list: names of its classes, see `PipelineOptions`.
    """
    half = device.type == "cuda" if half_precision is None else half_precision
    precision: Precision = "bf16" if half else "f32"
    folder = find_artefact(checkpoint)
    artefact = None if folder is None else read_artefact(folder)
    chosen, why = choose_runtime(runtime, device, artefact=artefact)
    for_both = chosen
    if half and device.type != "cuda" and chosen != "openvino":
        raise UserError("half precision needs a GPU, or --runtime openvino on a CPU")
    run, damage = checkpoint, None
    if artefact is not None and class_list is not None:
        raise UserError(f"{class_list}: {artefact.folder} names its classes, a list is for weights")
    if artefact is not None:
        model: ActionNetwork = open_exported(artefact, threads=threads, precision=precision)
        file, run = artefact.file, run_beside(artefact.folder) or artefact.folder
    else:
        names = None if class_list is None else read_class_list(class_list)
        file = read_network_file(checkpoint, label_map=names)
        opened: ActionNetwork | None = None
        if chosen != "torch":
            try:
                opened = open_beside(
                    file, chosen, threads=threads, precision=precision, on_note=on_note
                )
            except UserError as error:
                if not why or half:  # asked for
                    raise
                on_note(f"{error}; PyTorch runs it")
                chosen, why = "torch", f"{chosen} cannot"
        if opened is None:
            loaded = place_model(load_network(file), device)
            damage, opened = describe_thin_norm(loaded), prepare_for_inference(loaded)
        model = opened
    form = None if artefact is None and chosen == "torch" else FORM_OF[chosen]
    described = "torch" if form is None else describe_runtime(form, precision)
    if isinstance(model, ExportedDetector):
        damage = model.damage
    return ActionFile(file, model, run, described, why, for_both, half, damage)
