"""From a name or anybody's X3D file to a checkpoint that says all that is needed to run it.

Files of other projects hold weights alone. Which frames their network was trained on, and at which
short side it is tested, stands in one table (`detection.models.x3d.VARIANTS`); the names of 400
classes are Kinetics-400's, from torchvision, whose own video networks have the same columns.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from contextlib import nullcontext
from pathlib import Path

from detection.checkpoints.file import (
    ModelFile,
    NetworkDescription,
    check_class_layer,
    read_model_file,
)
from detection.checkpoints.hub import PUBLISHED, fetch_published, told_to_fetch_again
from detection.checkpoints.huggingface import local_source
from detection.checkpoints.load import describe_foreign, guess_variant
from detection.errors import UserError, printable
from detection.models.x3d import VARIANTS
from detection.structures import LabelMap

_ALIKE = ("xs", "s", "m")  # one network, sampled in three ways
_IN_NAME = re.compile(r"x3d[_-]?(xs|s|m)(?![a-z0-9])", re.IGNORECASE)
_KINETICS = 400


def read_network_file(
    source: str | Path, *, variant: str | None = None, label_map: LabelMap | None = None
) -> ModelFile:
    """Read any network of this family whole: with its numbers, classes, sampling and short side.

    source: a name in `detection.checkpoints.hub.PUBLISHED` ("x3d_s_kinetics400"; fetched once); a
        classification file of SlowFast, pytorchvideo or mmaction2; a run folder or a checkpoint of
        this project, of actions or of clips; a file of `convert`; a model folder, or
        "hub:user/name", one on the Hugging Face Hub.
    variant: "xs", "s", "m", ...: how another project's network is sampled. XS, S and M have the
        same weights' shapes; which is meant is told by the published name or by the file's name,
        else M is taken, and `notes` of the result say so.
    label_map: names of the columns, where the file tells none or in place of its own. Without it,
        400 clip classes without names are Kinetics-400's.

    `load_network(read_network_file(source))` is an `ActionDetector` or an `X3DClassifier`:

        file = read_network_file("x3d_s_kinetics400")
        network = load_network(file)  # frames (B, 3, T, H, W) uint8 RGB -> logits (B, 400)
        file.classes.names, file.sampling.times_s(5.0), file.short_side_px

    Raises `UserError`, one line, where nothing can be fetched, for files that are damaged or hold
    another network, and where the classes or the variant do not fit.
    """
    path, published = find_weights(source)
    with nullcontext() if published is None else told_to_fetch_again(path):
        file = read_model_file(path, weights_only=True)
    file = complete_file(file, variant=variant or published, label_map=label_map)
    if file.classes is None:
        raise UserError(
            f"{file.path}: does not name its {file.num_classes} classes; a label map with as many "
            "is required (--class-list FILE, --label-map of convert, label_map= from Python)"
        )
    return file


def find_weights(source: str | Path) -> tuple[Path, str | None]:
    """Return the file or run folder that is meant, and the variant where a published name tells it.

    source: a published name or `hub:user/name` (fetched once) or a path.
    """
    source = local_source(source)
    name = str(source)
    if name in PUBLISHED:
        return fetch_published(name), PUBLISHED[name].variant
    path = Path(source)
    if "x3d" in name.lower() and not path.suffix and len(path.parts) == 1 and not path.exists():
        close = difflib.get_close_matches(name, PUBLISHED, n=3, cutoff=0.6) or PUBLISHED
        raise UserError(
            f"{printable(name)}: neither a file nor a run folder nor the name of published weights;"
            f" did you mean {' or '.join(close)}?"
        )
    return path, None


def complete_file(
    file: ModelFile, *, variant: str | None = None, label_map: LabelMap | None = None
) -> ModelFile:
    """Return a file with what it does not say itself filled in; `classes` None: they have no names.

    variant, label_map: see `read_network_file`.
    """
    network, notes = file.network, list(file.notes)
    if network is None:
        variant, told = _choose_variant(file, variant)
        notes += told
        network = describe_foreign(file, variant)
    elif variant is not None and network.trunk != VARIANTS[variant]:
        raise UserError(
            f"{file.path}: states its own network, which is not X3D-{variant.upper()}; a variant "
            "is for other projects' files"
        )
    classes, told = _choose_classes(file, network, label_map)
    sampled = file.sampling is not None
    return dataclasses.replace(
        file,
        network=network,
        classes=classes,
        sampling=file.sampling if sampled else network.trunk.sampling,
        short_side_px=file.short_side_px if sampled else network.trunk.test_crop,
        notes=(*notes, *told),
    )


def _choose_variant(file: ModelFile, asked: str | None) -> tuple[str, list[str]]:
    """Return the variant of another project's file, and a note where it was guessed."""
    if asked is not None and asked not in VARIANTS:
        raise UserError(f"variant '{asked}' is not one of {', '.join(VARIANTS)}")
    by_shape = guess_variant(file)
    fitting = _ALIKE if by_shape in _ALIKE else (by_shape,)
    if asked is not None:
        if asked not in fitting:
            raise UserError(
                f"{file.path}: its shapes are those of X3D-{', '.join(fitting).upper()}, not of "
                f"X3D-{asked.upper()}"
            )
        return asked, []
    if len(fitting) == 1:
        return by_shape, []
    named = _IN_NAME.search(Path(file.path).name)
    chosen = named[1].lower() if named else by_shape
    why = "as the file's name says" if named else "as nothing says which"
    sampling = VARIANTS[chosen].sampling
    return chosen, [
        f"X3D-XS, S and M have the same shapes: taken for {chosen.upper()} ({sampling.num_frames} "
        f"frames, step {sampling.step:g}, short side {VARIANTS[chosen].test_crop}), {why}"
    ]


def _choose_classes(
    file: ModelFile, network: NetworkDescription, label_map: LabelMap | None
) -> tuple[LabelMap | None, list[str]]:
    """Return the classes of a file's columns, and a note where they were guessed."""
    if label_map is not None:
        check_class_layer(file.path, file.state, len(label_map))
        return label_map, []
    kinetics = network.task == "classification" and network.head.num_classes == _KINETICS
    if file.classes is not None or not kinetics:
        return file.classes, []
    name = Path(file.path).name
    return kinetics_classes(), [f"{name}: its 400 classes are taken for those of Kinetics-400"]


def kinetics_classes() -> LabelMap:
    """Return the classes of Kinetics-400 in the order of every published network; ids from 1."""
    from torchvision.models.video import MViT_V1_B_Weights

    names = tuple(MViT_V1_B_Weights.KINETICS400_V1.meta["categories"])
    return LabelMap(names, tuple(range(1, len(names) + 1)))
