"""Exported people detectors on disk: written, checked, read, and opened in place of PyTorch's.

A folder like that of an action network (`detection/export/artefact.py`) with two programs, of
`detection/people/dense.py`'s parts. What is between and after them is torchvision's.

Legend: B frames, H W pixels, L maps, N boxes, C channels, K classes with the background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.models.detection import FasterRCNN

from detection.bounds import LARGEST_SIDE_PX
from detection.checkpoints.plain_file import SavedValues
from detection.errors import UserError
from detection.export.artefact import (
    ARTEFACT_FILE,
    FORMAT_VERSION,
    FORMS,
    PEOPLE_FORMAT,
    Form,
    check_files,
    hash_weights,
    read_signed,
    text_in,
    texts_in,
    write_signed,
)
from detection.export.kept import open_kept
from detection.export.make import FORM_NAMES, by_script_first
from detection.export.program import trace_module
from detection.export.runtimes import (
    FORM_OF,
    Runtime,
    RuntimeChoice,
    describe_runtime,
    open_session,
    version_of,
    write_program,
)
from detection.export.session import RuntimeSession, Threads
from detection.files import adding_to_folder, sha256_of
from detection.people.dense import (
    PARTS,
    BoxPart,
    FeaturePart,
    check_parts,
    example_boxes,
    example_frames,
    map_strides,
    put_in_place,
)
from detection.people.folded import fold_for_inference
from detection.people.torchvision_rcnn import (
    NETWORKS,
    PeopleNetworkNumbers,
    build_people_network,
)

_MOST_MAPS = 16
# What programs take and give, for whoever runs one without this project.
_PLACES = {
    "features": {
        "frames": "float32 (B, 3, H, W): normalised RGB, sides padded to the network's multiple",
        "maps": "float32 (B, C, h, w), one a level",
        "objectness": "float32 (B, anchors, h, w), one a level: logits",
        "shifts": "float32 (B, 4 anchors, h, w), one a level",
    },
    "boxes": {
        "features": "float32 (N, C, h, w): RoIAlign of the maps",
        "logits": "float32 (N, K): the softmax is of exclusive classes, 0 is the background",
        "shifts": "float32 (N, 4 K)",
    },
}
_SUFFIXES: Mapping[Form, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}


@dataclass(frozen=True)
class PeopleFacts:
    """What a detector is beside its weights.

    numbers: it is built from.
    classes: names of labels 1, 2, ...
    best_score: see `PeopleFile`.
    path: the file of the weights.
    """

    numbers: PeopleNetworkNumbers
    classes: tuple[str, ...]
    best_score: float | None
    path: Path


@dataclass(frozen=True)
class PeopleArtefact:
    """An exported people detector; `read_people_artefact` has checked its files.

    folder: where it lies.
    form: of its programs.
    facts: of the detector; the path is the artefact's folder with the name of the weights' file.
    maps: strides of the network's maps, by name.
    weights: SHA-256 of the weights it was made of (`hash_weights`).
    files: SHA-256 of each file of the programs, by name.
    versions: of the packages that made it.
    """

    folder: Path
    form: Form
    facts: PeopleFacts
    maps: Mapping[str, int]
    weights: str
    files: Mapping[str, str]
    versions: Mapping[str, str]


def export_people(
    network: FasterRCNN, facts: PeopleFacts, folder: str | Path, form: Form
) -> PeopleArtefact:
    """Write a detector's dense parts as programs of another runtime, all files or none.

    What is written is opened and compared with the network's own parts. Raises `UserError` where
    the runtime is not installed, lacks an operator, or gives other numbers, and for form "torch".
    """
    if form == "torch":
        raise UserError(
            f"{facts.path}: people detectors are exported to openvino or onnx: PyTorch runs the "
            "checkpoint itself"
        )
    version_of(form)
    network.eval()
    return by_script_first(
        form, lambda as_script: _export(network, facts, Path(folder), form, as_script)
    )


def _export(
    network: FasterRCNN, facts: PeopleFacts, folder: Path, form: Form, as_script: bool
) -> PeopleArtefact:
    folded = fold_for_inference(network)
    parts = {
        "features": (FeaturePart(folded, for_export=True), example_frames(folded, 2), (0, 2, 3)),
        "boxes": (BoxPart(folded), example_boxes(folded, 3), (0,)),
    }
    with adding_to_folder(folder) as building:
        names: list[str] = []
        for name, (module, example, free) in parts.items():
            program = trace_module(module, (example,), free=(free,), as_script=as_script)
            names += write_program(program, building, form, name)
        artefact = PeopleArtefact(
            building,
            form=form,
            facts=facts,
            maps=map_strides(network),
            weights=hash_weights(network.state_dict()),
            files={name: sha256_of(building / name) for name in names},
            versions={"torch": str(torch.__version__), FORM_NAMES[form]: version_of(form)},
        )
        _write(artefact)
        check_parts(network, open_sessions(artefact, Threads(torch.get_num_threads())))
    return read_people_artefact(folder)


def _write(artefact: PeopleArtefact) -> None:
    facts = artefact.facts
    content = {
        "format": PEOPLE_FORMAT,
        "version": FORMAT_VERSION,
        "form": artefact.form,
        "programs": _PLACES,
        "network": dataclasses.asdict(facts.numbers),
        "classes": list(facts.classes),
        "best_score": facts.best_score,
        "maps": dict(artefact.maps),
        "weights_sha256": artefact.weights,
        "source": facts.path.name,
        "files": dict(artefact.files),
        "versions": dict(artefact.versions),
    }
    write_signed(artefact.folder, content)


def read_people_artefact(folder: str | Path) -> PeopleArtefact:
    """Read an exported detector's folder; nothing of its programs is run.

    Raises `UserError` for a file that is missing or was changed since it was exported.
    """
    folder = Path(folder)
    said = SavedValues(str(folder / ARTEFACT_FILE), read_signed(folder, PEOPLE_FORMAT))
    numbers, maps = said.within("network"), said.within("maps")
    numbers.one_of("name", NETWORKS)
    best = said.raw("best_score", None)
    facts = PeopleFacts(
        PeopleNetworkNumbers(**numbers.fields(PeopleNetworkNumbers)),
        classes=said.texts("classes"),
        best_score=None if best is None else said.number("best_score", 0, 1),
        path=folder / text_in(said, "source"),
    )
    artefact = PeopleArtefact(
        folder,
        form=said.one_of("form", FORMS),
        facts=facts,
        maps={name: maps.whole(name, 1, LARGEST_SIDE_PX) for name in maps.names()},
        weights=text_in(said, "weights_sha256"),
        files=texts_in(said.within("files")),
        versions=texts_in(said.within("versions")),
    )
    check_files(folder, artefact.files)
    if not 0 < len(artefact.maps) <= _MOST_MAPS or not facts.classes:
        raise UserError(f"{folder / ARTEFACT_FILE}: states no classes and maps of a detector")
    missing = [name for name in _programs(artefact).values() if name not in artefact.files]
    if missing:
        raise UserError(f"{folder / ARTEFACT_FILE}: names no {missing[0]}")
    return artefact


def _programs(artefact: PeopleArtefact) -> dict[str, str]:
    return {name: name + _SUFFIXES[artefact.form] for name in PARTS}


def open_sessions(artefact: PeopleArtefact, threads: Threads) -> dict[str, RuntimeSession]:
    """Open the programs of an exported detector; errors as `open_exported`."""
    return {
        name: open_session(artefact.folder / program, artefact.form, threads=threads)
        for name, program in _programs(artefact).items()
    }


def open_exported_people(artefact: PeopleArtefact, threads: Threads) -> FasterRCNN:
    """Return a network of an exported detector's programs alone, in eval mode."""
    facts = artefact.facts
    network = build_people_network(
        num_classes=len(facts.classes), **dataclasses.asdict(facts.numbers)
    )
    return put_in_place(network.eval(), open_sessions(artefact, threads), artefact.maps)


def run_people_by(
    network: FasterRCNN, facts: PeopleFacts, runtime: Runtime, choice: RuntimeChoice
) -> tuple[FasterRCNN, str]:
    """Return a network in eval mode whose dense parts a runtime computes, and which, in words.

    network: with its weights; it may be changed.  choice: how `runtime` was asked for.
    """
    if runtime != "torch":
        try:
            run = open_people_beside(
                network, facts, runtime, threads=choice.threads, on_note=choice.on_note
            )
        except UserError as error:
            if not choice.may_fall_back:
                raise
            choice.on_note(f"{error}; PyTorch finds people")
        else:
            return run, describe_runtime(FORM_OF[runtime], "f32")
    return fold_for_inference(network), "torch"


def open_people_beside(
    network: FasterRCNN,
    facts: PeopleFacts,
    runtime: Runtime,
    *,
    threads: Threads,
    on_note: Callable[[str], object],
) -> FasterRCNN:
    """Return a network whose dense parts a runtime computes.

    They are exported once and kept beside the weights' file; where nothing can be written, they are
    exported for this process alone.
    network: with its weights; it is changed.  on_note: told a line before and after long work.
    Raises `UserError` as `export_people`.
    """
    form, digest = FORM_OF[runtime], hash_weights(network.state_dict())
    return open_kept(
        facts.path,
        runtime,
        read=read_people_artefact,
        is_current=lambda kept: (kept.form, kept.weights) == (form, digest),
        export=lambda folder: export_people(network, facts, folder, form),
        opened=lambda artefact: put_in_place(
            network.eval(), open_sessions(artefact, threads), artefact.maps
        ),
        takes="some seconds",
        on_note=on_note,
    )
