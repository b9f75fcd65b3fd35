"""From a checkpoint to an exported network, checked against the network itself.

Legend: R people in the batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from detection.checkpoints.file import ModelFile
from detection.checkpoints.load import load_network
from detection.errors import UserError
from detection.export.artefact import (
    Artefact,
    Form,
    hash_weights,
    read_artefact,
    write_description,
)
from detection.export.card import ExportCard, write_card
from detection.export.compare import compare_exports, made_up_clips
from detection.export.kept import open_kept
from detection.export.networks import ExportedNetwork, open_exported
from detection.export.program import Network, frame_limits, trace
from detection.export.runtimes import FORM_OF, Runtime, version_of, write_program
from detection.export.session import Precision, Threads
from detection.files import CannotWriteError, adding_to_folder, sha256_of
from detection.models.soundness import describe_thin_norm

ExportedT = TypeVar("ExportedT")

# Scores of the same clip and person that are further apart are another network's.
MOST_DIFFERENCE = 1e-3


def export_network(file: ModelFile, folder: str | Path, form: Form) -> Artefact:
    """Write a network as a program of another runtime into `folder`, all its files or none.

    file: a checkpoint with its network, classes and sampling (`read_network_file`).
    What is written is opened and compared with the network on made-up clips, R = 0 and odd sizes
    among them, and has a card that says so. Raises `UserError` where the runtime is not installed,
    lacks an operator, or gives other scores.
    """
    version_of(form)
    return by_script_first(form, lambda as_script: _export(file, Path(folder), form, as_script))


def by_script_first(form: Form, export: Callable[[bool], ExportedT]) -> ExportedT:
    """Return what `export` makes: of TorchScript's trace for OpenVINO, or else of PyTorch's export.

    export: is told whether to make it of TorchScript's trace.
    """
    if form == "openvino":
        try:
            return export(True)
        except CannotWriteError:
            raise
        except UserError:  # some networks can be exported alone; whatever is wrong is said there
            pass
    return export(False)


def _export(file: ModelFile, folder: Path, form: Form, as_script: bool) -> Artefact:
    assert file.network is not None and file.sampling is not None
    assert file.short_side_px is not None
    if file.sampling.stream:
        raise UserError(f"{file.path}: keyframes share clips (clip.stream), which torch alone runs")
    network = load_network(file)
    frames = {"num_frames": file.sampling.num_frames, "short_side_px": file.short_side_px}
    program = trace(network, as_script=as_script, **frames)
    with adding_to_folder(folder) as building:
        names = write_program(program, building, form)
        artefact = Artefact(
            building,
            form=form,
            file=dataclasses.replace(file, state={}),
            limits=frame_limits(network, **frames),
            weights=hash_weights(file.state),
            source=Path(file.path).name,
            files={name: sha256_of(building / name) for name in names},
            versions={"torch": str(torch.__version__), FORM_NAMES[form]: version_of(form)},
            damage=describe_thin_norm(network),
        )
        write_description(artefact)
        write_card(building, check_export(network, artefact))
    return read_artefact(folder, check_run=False)


FORM_NAMES = {form: runtime for runtime, form in FORM_OF.items()}


def check_export(network: Network, artefact: Artefact) -> ExportCard:
    """Compare an artefact with its network on made-up clips; `UserError` where it is another."""
    exported = open_exported(artefact, threads=Threads(torch.get_num_threads()))
    clips = made_up_clips(artefact.file, artefact.limits)
    card = compare_exports(network, {"f32": exported}, clips, artefact=artefact)
    worst = card.rows[0].score_difference
    if not worst <= MOST_DIFFERENCE:  # NaN too
        raise UserError(
            f"{artefact.form}: the exported network's scores are up to {worst:.1e} from PyTorch's, "
            f"at most {MOST_DIFFERENCE:g} is required"
        )
    return card


def open_beside(
    file: ModelFile,
    runtime: Runtime,
    *,
    threads: Threads,
    precision: Precision = "f32",
    on_note: Callable[[str], object] = lambda note: None,
) -> ExportedNetwork:
    """Open a checkpoint's network by a runtime; it is exported once and kept beside the file.

    file, errors: as for `export_network`.  on_note: told a line before and after long work.
    Where nothing can be written beside the checkpoint it is exported for this process alone.
    """
    form = FORM_OF[runtime]

    def opened(artefact: Artefact) -> ExportedNetwork:
        # Classes, sampling and thresholds are the checkpoint's own; they may have changed since.
        artefact = dataclasses.replace(artefact, file=dataclasses.replace(file, state={}))
        return open_exported(artefact, threads=threads, precision=precision)

    return open_kept(
        file.path,
        runtime,
        read=lambda folder: read_artefact(folder, check_run=False),
        is_current=lambda kept: kept.form == form and kept.weights == hash_weights(file.state),
        export=lambda folder: export_network(file, folder, form),
        opened=opened,
        takes="up to a minute",
        on_note=on_note,
    )
