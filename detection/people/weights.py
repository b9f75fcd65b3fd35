"""Weights of people detectors: this project's own files, torchvision's, and how to open them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from detection.checkpoints.file import check_version, read_state, save_plain
from detection.checkpoints.huggingface import local_source
from detection.checkpoints.model_folder import PEOPLE_FORMAT, read_saved_content
from detection.checkpoints.plain_file import (
    SavedValues,
    checked_config,
    find_checkpoint,
    read_plain,
)
from detection.checkpoints.weights import check_weights, find_state, unwrap
from detection.errors import UserError
from detection.export.artefact import (
    ARTEFACT_FILE,
    check_weights_of_run,
    find_artefact,
    hash_weights,
    run_beside,
)
from detection.export.runtimes import RuntimeChoice, choose_runtime, describe_runtime
from detection.export.session import Threads
from detection.people.base import PeopleDetector, find_classes
from detection.people.coco import COCO as COCO
from detection.people.coco import (
    COCO_SCORES,
    coco_classes,
    coco_network,
    fetch_coco,
    is_coco,
    tell_network,
)
from detection.people.exported import (
    PeopleArtefact,
    PeopleFacts,
    open_exported_people,
    read_people_artefact,
    run_people_by,
)
from detection.people.onnx_detector import is_onnx, load_onnx_detector
from detection.people.torchvision_rcnn import (
    NETWORKS,
    NetworkName,
    TorchvisionDetector,
    build_people_network,
    count_classes,
)
from detection.people.torchvision_rcnn import PeopleNetworkNumbers as PeopleNetworkNumbers

FORMAT = PEOPLE_FORMAT
FORMAT_VERSION = 1
_CLASS_WEIGHT = "roi_heads.box_predictor.cls_score.weight"
_PREDICTOR = "roi_heads.box_predictor."
_MOST_CLASSES = 10_000


@dataclass(frozen=True)
class PeopleFile:
    """A checkpoint of this project's people detectors.

    classes: names of labels 1, 2, ...
    config, training: what the trainer keeps.
    best_score: the score from which boxes are best kept (the highest F1, as measured by the run);
        None in files that do not say.
    """

    path: str
    state: dict[str, Tensor]
    numbers: PeopleNetworkNumbers
    classes: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    best_score: float | None = None

    def build_network(self) -> FasterRCNN:
        """Build the network of the file, with the file's weights."""
        network = build_people_network(
            num_classes=len(self.classes), **dataclasses.asdict(self.numbers)
        )
        self.fill(network)
        return network

    def fill(self, network: FasterRCNN) -> None:
        """Load the file's weights; raises `UserError` where they are another network's."""
        _fill(network, self.state, self.path, self.numbers.name)


def load_people_detector(
    weights: str | Path,
    *,
    network: str | None = None,
    actor_classes: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    half_precision: bool = False,
    score_floor: float = 0.05,
    max_people: int = 100,
    detectron2_config: str | None = None,
    runtime: RuntimeChoice | None = None,
) -> PeopleDetector:
    """Open a people detector.

    weights: a checkpoint of `train_people`, its run folder, or the folder of an exported detector;
    a model folder or `hub:user/name`; a state dict (.pth) of one of torchvision's networks
    (mobile_320, mobile, resnet50_v2), which its keys tell; "coco" or "coco:NETWORK", torchvision's
    weights of these, fetched once ("coco" alone: mobile_320 on a CPU, resnet50_v2 on a GPU); an
    ONNX file of others (YOLOX's layout, or boxes, labels and scores), run on the CPU in float32 by
    ONNX Runtime (extra `export`).  network: that of the weights.
    actor_classes: the classes that are actors, by name (or by label number, as text); by default
    every class of our own checkpoints, and "person" of COCO's.  score_floor: boxes below are not
    returned.  detectron2_config: a model zoo name or a file of detectron2's; weights are then its
    too, "coco" those that the model zoo lists.  runtime: what computes the network's dense parts;
    None: the exported detector's own, else PyTorch.
    Its `best_score` is for `person_threshold`; its `notes` say what was guessed.
    Raises `UserError` for files that are missing, damaged, of another network, or not to be
    fetched, and for unknown classes.
    """
    weights = local_source(weights)
    if detectron2_config is not None:
        from detection.people.detectron2_rcnn import load_detectron2_detector  # optional package

        return load_detectron2_detector(
            detectron2_config,
            None if str(weights) == COCO else str(weights),  # None: the model zoo's own
            actor_classes=actor_classes,
            device=device,
            half_precision=half_precision,
            score_floor=score_floor,
            max_people=max_people,
        )
    if is_onnx(weights) and find_artefact(weights) is None:
        return _open_onnx(weights, network, actor_classes, score_floor, max_people)
    found, by = _open_by_runtime(weights, network, torch.device(device), runtime or RuntimeChoice())
    names, source = found.classes, str(weights)
    chosen = actor_classes if actor_classes is not None else _default_classes(names, source)
    places = find_classes(names, chosen, source=source, numbered=True)
    return TorchvisionDetector(
        found.network,
        name=f"{found.kind} ({weights})",
        actor_labels=[place + 1 for place in places],
        device=device,
        half_precision=half_precision,
        score_floor=score_floor,
        max_people=max_people,
        best_score=found.best_score,
        notes=found.notes,
        runtime=by,
    )


def _open_onnx(
    weights: str | Path, network: str | None, actor_classes: Sequence[str] | None,
    score_floor: float, max_people: int,
) -> PeopleDetector:  # fmt: skip
    if network is not None:
        raise UserError(f"{weights}: an ONNX file holds its network, '{network}' cannot be chosen")
    return load_onnx_detector(
        weights, actor_classes=actor_classes, score_floor=score_floor, max_people=max_people
    )


def save_people_file(
    path: str | Path,
    network: FasterRCNN,
    *,
    numbers: PeopleNetworkNumbers,
    classes: Sequence[str],
    config: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    best_score: float | None = None,
) -> None:
    """Write a checkpoint, whole or not at all; only plain types and tensors go into it.

    best_score: see `PeopleFile`.
    """
    facts = plain_people_facts(numbers, classes, config=config, best_score=best_score)
    weights = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    save_plain(path, {**facts, "model_state": weights, "training": dict(training or {})})


def plain_people_facts(
    numbers: PeopleNetworkNumbers,
    classes: Sequence[str],
    *,
    config: Mapping[str, Any] | None,
    best_score: float | None,
) -> dict[str, Any]:
    """Return in plain types what a detector is beside its weights; see `PeopleFile`."""
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "network": dataclasses.asdict(numbers),
        "classes": list(classes),
        "config": dict(config or {}),
        "best_score": best_score,
    }


def write_best_score(path: str | Path, best_score: float) -> None:
    """Put the score from which boxes are best kept into a checkpoint; all else stays as it is."""
    save_plain(path, {**read_plain(Path(path)), "best_score": best_score})


def read_people_file(file_or_run: str | Path, *, weights_only: bool = False) -> PeopleFile:
    """Read a checkpoint, or the one in a run folder; `weights_only` drops the trainer's part."""
    path, found = _read(file_or_run, weights_only=weights_only)
    if not isinstance(found, PeopleFile):
        raise UserError(f"{path}: not a checkpoint of train_people")
    return found


def _read(
    file_or_run: str | Path, *, weights_only: bool = True
) -> tuple[str, PeopleFile | dict[str, Tensor]]:
    """Return a file's path, and its content: ours, or weights of a file of torchvision's kind."""
    path = str(find_people_file(file_or_run))
    content, _ = read_saved_content(Path(path))
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return path, _unpack(path, content, weights_only=weights_only)
    return path, unwrap(path, find_state(path, content).state).state


def find_people_file(file_or_run: str | Path) -> Path:
    """Return the file that a path names: itself, or a run folder's best.pt, else last.pt.

    Of an exported detector's folder, and of a model folder, the description, which has the
    digests of all else.
    """
    file_or_run = local_source(file_or_run)
    folder = find_artefact(file_or_run)
    if folder is not None:
        return folder / ARTEFACT_FILE
    return find_checkpoint(file_or_run, what="file of weights", names=("best.pt", "last.pt"))


def start_from_weights(network: FasterRCNN, name: NetworkName, weights: str | Path) -> None:
    """Fill a network from weights that may know other classes; its last layer is then left random.

    weights: "coco", "coco:NETWORK", a file of torchvision's state dict or a checkpoint of ours.
    """
    state, source = _state_to_start_from(name, weights)
    own = network.state_dict()
    kept = {
        key: value
        for key, value in state.items()
        if not key.startswith(_PREDICTOR) or value.shape == own[key].shape
    }
    kept.update({key: own[key] for key in own if key.startswith(_PREDICTOR) and key not in kept})
    _fill(network, kept, source, name)


def _state_to_start_from(name: NetworkName, weights: str | Path) -> tuple[dict[str, Tensor], str]:
    if is_coco(weights):
        return _download_coco(coco_network(weights, network=name))[1], str(weights)
    path, found = _read(weights)
    return (found.state if isinstance(found, PeopleFile) else found), path


@dataclass(frozen=True)
class OpenedPeople:
    """A detector's network with its weights, and what their file says; see `PeopleFile`."""

    network: FasterRCNN
    path: Path
    classes: tuple[str, ...]
    kind: NetworkName
    best_score: float | None
    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> PeopleFacts:
        """Return what it is beside its weights."""
        transform = self.network.transform
        sides = int(transform.min_size[-1]), int(transform.max_size)
        numbers = PeopleNetworkNumbers(self.kind, *sides)
        return PeopleFacts(numbers, self.classes, self.best_score, self.path)


def _open_by_runtime(
    weights: str | Path, network: str | None, device: torch.device, runtime: RuntimeChoice
) -> tuple[OpenedPeople, str]:
    """Open a network whose dense parts a runtime computes; return what that is, in words, too."""
    folder = find_artefact(weights)
    if folder is not None:
        artefact = read_people_artefact(folder)
        choose_runtime(runtime.asked, device, artefact=artefact)
        by = describe_runtime(artefact.form, "f32")
        return _open_artefact(artefact, network, runtime.threads), by
    chosen, _ = choose_runtime(runtime.asked, device)
    opened = _open_network(weights, network, device)
    run, by = run_people_by(opened.network, opened.facts, chosen, runtime)
    return dataclasses.replace(opened, network=run), by


def _open_artefact(artefact: PeopleArtefact, network: str | None, threads: Threads) -> OpenedPeople:
    facts = artefact.facts
    kind = facts.numbers.name
    if network not in (None, kind):
        raise UserError(f"{artefact.folder}: a '{kind}' network, not '{network}'")
    run = run_beside(artefact.folder)
    checkpoint = None if run is None else run / "checkpoints" / facts.path.name
    if checkpoint is not None and checkpoint.is_file():
        state = read_people_file(checkpoint, weights_only=True).build_network().state_dict()
        found = hash_weights(state)
        check_weights_of_run(artefact.weights, found, artefact.folder, checkpoint, artefact.form)
    opened = open_exported_people(artefact, threads)
    return OpenedPeople(opened, artefact.folder, facts.classes, kind, facts.best_score)


def open_for_export(weights: str | Path) -> OpenedPeople:
    """Open a detector's own network; weights and errors as `load_people_detector`."""
    return _open_network(weights, None, "cpu")


def read_as_people_file(weights: str | Path) -> PeopleFile:
    """Return a detector as a file of ours, torchvision's weights and "coco" too.

    Raises `UserError` as `load_people_detector`.
    """
    if not is_coco(weights):
        _, found = _read(weights)
        if isinstance(found, PeopleFile):
            return found
    opened = _open_network(weights, None, "cpu")
    facts, state = opened.facts, dict(opened.network.state_dict())
    return PeopleFile(
        str(opened.path), state, facts.numbers, facts.classes, best_score=facts.best_score
    )


def is_people_file(weights: str | Path) -> bool:
    """Say whether weights are "coco" or a file or run folder of a Faster R-CNN that is known here.

    Raises `UserError` for a file that cannot be read.
    """
    if is_coco(weights):
        return True
    weights = local_source(weights)
    if not Path(weights).exists() or find_artefact(weights) is not None:
        return False
    path = find_people_file(weights)
    content, _ = read_saved_content(path)
    if isinstance(content, dict) and "format" in content:
        return bool(content["format"] == FORMAT)
    try:
        return _CLASS_WEIGHT in unwrap(str(path), find_state(str(path), content).state).state
    except UserError:  # what it is instead is said by whoever opens it
        return False


def _open_network(
    weights: str | Path, network: str | None, device: torch.device | str
) -> OpenedPeople:
    if network is not None and network not in NETWORKS:
        raise UserError(f"network '{network}' is not one of {', '.join(NETWORKS)}")
    notes: tuple[str, ...] = ()
    if is_coco(weights):
        name = coco_network(weights, network=network, device=device)
        path, state = _download_coco(name)
    else:
        path, found = _read(weights)
        if isinstance(found, PeopleFile):
            kind = found.numbers.name
            if network not in (None, kind):
                raise UserError(f"{path}: a '{kind}' network, not '{network}'")
            opened = found.build_network()
            return OpenedPeople(opened, Path(path), found.classes, kind, found.best_score)
        state = found
        name, notes = tell_network(path, state, network=network)
    if _CLASS_WEIGHT not in state:
        raise UserError(f"{weights}: weights of another network, not of torchvision's Faster R-CNN")
    rows = len(state[_CLASS_WEIGHT]) if state[_CLASS_WEIGHT].ndim == 2 else 0
    num_classes = rows - 1
    if not 1 <= num_classes <= _MOST_CLASSES:
        raise UserError(
            f"{weights}: its class layer has {rows} rows, 2 to {_MOST_CLASSES + 1} are required"
        )
    model = build_people_network(name, num_classes=num_classes)
    _fill(model, state, str(weights), name)
    coco = coco_classes()
    if len(coco) == num_classes:
        return OpenedPeople(model, Path(path), coco, name, COCO_SCORES[name], notes)
    numbered = tuple(str(n + 1) for n in range(num_classes))
    return OpenedPeople(model, Path(path), numbered, name, None, notes)


def _download_coco(name: NetworkName) -> tuple[str, dict[str, Tensor]]:
    path = str(fetch_coco(name))
    return path, unwrap(path, find_state(path, read_plain(Path(path))).state).state


def _unpack(path: str, content: Mapping[str, Any], *, weights_only: bool) -> PeopleFile:
    check_version(path, content, FORMAT_VERSION)
    said = SavedValues(path, content)
    numbers = said.within("network")
    numbers.refuse_others(("name", "short_side_px", "long_side_px"))
    classes = said.texts("classes")
    if not 0 < len(classes) <= _MOST_CLASSES:
        said.refuse("classes", classes, f"a list of 1 to {_MOST_CLASSES} names is")
    best = said.raw("best_score", None)  # absent from older files
    return PeopleFile(
        path,
        state=unwrap(path, read_state(path, said)).state,
        numbers=PeopleNetworkNumbers(**numbers.fields(PeopleNetworkNumbers)),
        classes=classes,
        config=checked_config(path, said.raw("config")) or {},
        training={} if weights_only else dict(said.within("training").items()),
        best_score=None if best is None else said.number("best_score", 0, 1),
    )


def _fill(network: FasterRCNN, state: Mapping[str, Tensor], source: str, name: str) -> None:
    check_weights(source, state)
    own = network.state_dict()
    # Counters of BatchNorm are absent from files of frozen norms; they change no result.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    wrong = [key for key in state if key in own and state[key].shape != own[key].shape]
    problem = (
        f"it has no {missing[0]}"
        if missing
        else f"its {unexpected[0]} is unknown there"
        if unexpected
        else f"its {wrong[0]} has another shape"
        if wrong
        else None
    )
    if problem is not None:
        raise UserError(
            f"{source}: weights of another network, not of '{name}' with "
            f"{count_classes(network) - 1} classes ({problem})"
        )
    network.load_state_dict(dict(state), strict=False)


def _default_classes(names: Sequence[str], source: str) -> list[str]:
    if "person" in names and len(names) > 1:
        return ["person"]
    if list(names) == [str(n + 1) for n in range(len(names))] and len(names) > 1:
        raise UserError(f"{source}: {len(names)} classes without names: actor classes are required")
    return list(names)
