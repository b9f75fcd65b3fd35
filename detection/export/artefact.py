"""An exported network on disk: a folder with its program, and what is needed to trust and run it.

artefact.json     what runs it, classes, sampling, frames it takes, SHA-256 of weights and files
network.*         the program in its runtime's own form
card.json, .md    how near it is to PyTorch and how fast (`card.py`)

Legend: B clips, T frames, H W pixels, R people in the batch, A classes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from detection.bounds import LARGEST_SIDE_PX, LARGEST_WHOLE
from detection.checkpoints.file import (
    ModelFile,
    check_version,
    plain_facts,
    read_model_file,
    read_plain_facts,
)
from detection.checkpoints.plain_file import MODEL_CONFIG, SavedValues, is_model_folder
from detection.errors import UserError
from detection.files import sha256_of, sha256_of_text, write_text
from detection.formats.json_text import json_text, read_json_object

Form = Literal["onnx", "openvino", "torch"]
FORMS: tuple[Form, ...] = get_args(Form)
ARTEFACT_FILE = "artefact.json"
EXPORTED = "exported"  # the folder of a run that holds its exported networks
FORMAT = "x3d-action-detection-export"
PEOPLE_FORMAT = "people-detector-export"
FORMAT_VERSION = 1
# What programs are called, without suffix.
PROGRAM_NAMES = ("network", "features", "boxes")

# What programs take and give, for whoever runs one without this project.
_PLACES = {
    "actions": {
        "frames": "uint8 (B, 3, T, H, W): RGB clips",
        "rois_px": "float32 (R, 5): number of the clip, x1, y1, x2, y2 in pixels of the frames; "
        "(R, T, 5), one for each frame, where network.actor_input is not 'roi'",
        "logits": "float32 (R, A): logits; their sigmoids are independent probabilities",
    },
    "classification": {
        "frames": "uint8 (B, 3, T, H, W): RGB clips",
        "logits": "float32 (B, P, A): logits at P window positions, before the softmax",
    },
}


@dataclass(frozen=True)
class FrameLimits:
    """Which frames (B, 3, T, H, W) a program takes.

    num_frames: T.
    longer: whether more frames are taken too.
    least_side_px: of H and W.
    side_px: what H and W must be; None: anything from `least_side_px` on.
    """

    num_frames: int
    longer: bool = False
    least_side_px: int = 1
    side_px: int | None = None

    def check(self, shape: Sequence[int], source: str) -> None:
        """Raise `UserError` for frames of a shape that the program was not made for."""
        _, _, frames, height, width = shape
        fits = frames == self.num_frames or (self.longer and frames > self.num_frames)
        sides = (height, width)
        if self.side_px is not None:
            fits = fits and sides == (self.side_px, self.side_px)
        if not fits or min(sides) < self.least_side_px:
            raise UserError(
                f"{source}: clips of {frames} frames of {width} x {height} px are outside what was "
                f"exported: {self} required"
            )

    def __str__(self) -> str:
        frames = f"{self.num_frames} frames" + (" or more" if self.longer else "")
        if self.side_px is not None:
            return f"{frames} of {self.side_px} x {self.side_px} px are"
        return f"{frames} with sides of at least {self.least_side_px} px are"


@dataclass(frozen=True)
class Artefact:
    """An exported network; `read_artefact` has checked that its files are the ones written.

    folder: where it lies.
    form: of its program.
    file: classes, sampling, thresholds and the network's numbers, without weights.
    limits: which frames it takes.
    weights: SHA-256 of the weights it was made of (`hash_weights`).
    source: name of the checkpoint that held them.
    files: SHA-256 of each file of the program, by name.
    versions: of the packages that made it.
    damage: what says that the network is broken, in a line; None: nothing does.
    """

    folder: Path
    form: Form
    file: ModelFile
    limits: FrameLimits
    weights: str
    source: str
    files: Mapping[str, str]
    versions: Mapping[str, str]
    damage: str | None = None

    @property
    def program(self) -> Path:
        """The file that a runtime opens; others are named in it or beside it."""
        return self.folder / next(iter(self.files))


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, types, shapes and values, in order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def find_artefact(path: str | Path) -> Path | None:
    """Return the folder of an exported network that a path names: it, or a file in it; else None.

    Any other file (a checkpoint beside one) is none of it.
    """
    path = Path(path)
    if path.is_dir():
        return path if (path / ARTEFACT_FILE).is_file() else None
    if not path.is_file() or not (path.parent / ARTEFACT_FILE).is_file():
        return None
    is_part = path.name == ARTEFACT_FILE or path.stem in PROGRAM_NAMES
    return path.parent if is_part else None


def place_beside(checkpoint: str | Path, form: Form) -> Path:
    """Return where the exported network of a checkpoint file is kept: RUN/exported/FORM.

    Of other checkpoints than a run's last, and of files outside runs, the name tells which; of a
    model folder it is exported/FORM in it.
    """
    path = Path(checkpoint)
    if path.name == MODEL_CONFIG:
        return path.parent / EXPORTED / form
    if path.parent.name != "checkpoints":
        return path.parent / f"{path.stem}_{EXPORTED}" / form
    name = form if path.stem == "last" else f"{path.stem}_{form}"
    return path.parent.parent / EXPORTED / name


def run_beside(folder: Path) -> Path | None:
    """Return the run or model folder in which an exported network is kept; None: elsewhere."""
    run = folder.absolute().parent.parent
    if folder.absolute().parent.name != EXPORTED:
        return None
    return run if (run / "checkpoints").is_dir() or is_model_folder(run) else None


def write_description(artefact: Artefact) -> None:
    """Write artefact.json into the artefact's folder, which holds the program."""
    file = artefact.file
    assert file.network is not None
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "form": artefact.form,
        "program": _PLACES[file.network.task],
        **plain_facts(
            network=file.network,
            classes=file.classes,
            sampling=file.sampling,
            short_side_px=file.short_side_px,
            config=file.config,
            thresholds=file.thresholds,
            relevance=file.relevance,
        ),
        "limits": dataclasses.asdict(artefact.limits),
        "weights_sha256": artefact.weights,
        "source": artefact.source,
        "files": dict(artefact.files),
        "versions": dict(artefact.versions),
        "damage": artefact.damage,
    }
    write_signed(artefact.folder, content)


def write_signed(folder: Path, content: Mapping[str, Any]) -> None:
    """Write artefact.json with the digest of its content."""
    content = json.loads(json_text(content))  # as it will be read back
    text = json_text({**content, "sha256": _digest(content)})
    write_text(folder / ARTEFACT_FILE, text)


def read_signed(folder: Path, expected: str) -> dict[str, Any]:
    """Read the artefact.json of a folder; `UserError` unless it is whole and of that format."""
    path = folder / ARTEFACT_FILE
    content = read_json_object(path)
    found = content.get("format")
    if found != expected:
        if found not in (FORMAT, PEOPLE_FORMAT):
            raise UserError(f"{path}: not the description of an exported network")
        kinds = {FORMAT: "an action network", PEOPLE_FORMAT: "a people detector"}
        raise UserError(f"{folder}: holds {kinds[found]}, {kinds[expected]} is required")
    check_version(str(path), content, FORMAT_VERSION)
    given = content.pop("sha256", None)
    if given != _digest(content):
        raise UserError(f"{path}: changed since it was exported; export it again")
    return content


def read_artefact(folder: str | Path, *, check_run: bool = True) -> Artefact:
    """Read an exported network's folder; nothing of the program is run.

    check_run: hold it against the weights of the run beside which it lies.
    Raises `UserError` for a file that is missing or was changed since it was exported, and for a
    program of other weights than the run's.
    """
    folder = Path(folder)
    path = folder / ARTEFACT_FILE
    content = read_signed(folder, FORMAT)
    said = SavedValues(str(path), content)
    artefact = Artefact(
        folder,
        form=said.one_of("form", FORMS),
        file=_contract(path, content),
        limits=_limits(said.within("limits")),
        weights=text_in(said, "weights_sha256"),
        source=text_in(said, "source"),
        files=texts_in(said.within("files")),
        versions=texts_in(said.within("versions")),
        damage=None if said.raw("damage", None) is None else text_in(said, "damage"),
    )
    check_files(folder, artefact.files)
    if check_run:
        _check_run(artefact)
    return artefact


def _contract(path: Path, content: Mapping[str, Any]) -> ModelFile:
    file = read_plain_facts(str(path), content, state={})
    if file.network is None or file.classes is None or file.sampling is None:
        raise UserError(f"{path}: states no network, classes and sampling")
    if len(file.classes) != file.network.head.num_classes:
        raise UserError(
            f"{path}: states {len(file.classes)} classes, its network has "
            f"{file.network.head.num_classes}"
        )
    return file


def _limits(said: SavedValues) -> FrameLimits:
    side = said.raw("side_px", None)
    return FrameLimits(
        num_frames=said.whole("num_frames", 1, LARGEST_WHOLE),
        longer=said.flag("longer"),
        least_side_px=said.whole("least_side_px", 1, LARGEST_SIDE_PX),
        side_px=None if side is None else said.whole("side_px", 1, LARGEST_SIDE_PX),
    )


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise `UserError` unless every file of the programs is the one that was written."""
    if not files:
        raise UserError(f"{folder / ARTEFACT_FILE}: names no file of a program")
    for name, digest in files.items():
        path = folder / name
        if Path(name).name != name:
            raise UserError(f"{folder / ARTEFACT_FILE}: '{name}' is no file beside it")
        try:
            found = sha256_of(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if found != digest:
            raise UserError(f"{path}: changed since it was exported; export it again")


def _check_run(artefact: Artefact) -> None:
    """Raise `UserError` where the checkpoint in the run beside it has other weights by now."""
    run = run_beside(artefact.folder)
    checkpoint = None if run is None else run / "checkpoints" / artefact.source
    if checkpoint is None or not checkpoint.is_file():
        return
    found = hash_weights(read_model_file(checkpoint, weights_only=True).state)
    check_weights_of_run(artefact.weights, found, artefact.folder, checkpoint, artefact.form)


def check_weights_of_run(
    exported: str, found: str, folder: Path, checkpoint: Path, form: Form
) -> None:
    """Raise `UserError` unless the weights of a checkpoint are those of the export beside it."""
    if found != exported:
        run = checkpoint.parent.parent
        raise UserError(
            f"{folder}: exported from other weights than {checkpoint} has now; export it again: "
            f"python -m ava_tools.export --checkpoint {run} --to {form} --overwrite"
        )


def _digest(content: Mapping[str, Any]) -> str:
    return sha256_of_text(json.dumps(content, sort_keys=True))


def text_in(said: SavedValues, name: str) -> str:
    """Return a text of a description that is not empty; else `UserError`."""
    value = said.raw(name)
    if type(value) is not str or not value:
        said.refuse(name, value, "a text is")
    return str(value)


def texts_in(said: SavedValues) -> dict[str, str]:
    """Return the texts of a part of a description, by name."""
    return {name: text_in(said, name) for name in said.names()}
