"""People detectors of detectron2, from its model zoo or from custom configurations and weights.

Legend: B frames, H W pixels, N boxes of a frame. The only importer of detectron2, an optional
package, which is imported when a detector is opened. Frames are preprocessed as in detectron2's
`DefaultPredictor` (Pillow's bilinear scaling, the configuration's channel order), as in training.
"""

from __future__ import annotations

import difflib
import importlib.util
import logging
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detection.errors import UserError
from detection.people.base import NetworkDetector, check_frame, find_classes
from detection.people.detectron2_weights import Detectron2Weights, read_detectron2_weights
from detection.structures import ActorBoxes

INSTALL_HINT = (
    'pip install "setuptools<81" wheel && pip install --no-build-isolation '
    '"git+https://github.com/facebookresearch/detectron2@02b5c4e295e990042a714712c21dc79b731e8833"'
)
# Networks of the model zoo that predict no boxes with a class, and why.
_NO_BOXES = {
    "ProposalNetwork": "it proposes regions without a class",
    "SemanticSegmentor": "it labels pixels, not objects",
    "PanopticDeepLab": "it labels pixels, not objects",
}


class Detectron2Detector(NetworkDetector):
    """Detects actors with a network of detectron2; a `PeopleDetector`.

    network: with inputs and outputs of detectron2's detectors.
    actor_ids: its classes (from 0) that are actors.
    short_side_px, long_side_px: frames are scaled until one of them is met (short side 0: never).
    channel_order: "BGR" or "RGB", as in training.

    The other options: see `NetworkDetector`. Results do not depend on the other frames of a call.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        actor_ids: Sequence[int],
        short_side_px: int,
        long_side_px: int,
        channel_order: str = "BGR",
        nms_iou: float = 0.5,
        device: torch.device | str = "cpu",
        half_precision: bool = False,
        score_floor: float = 0.05,
        max_people: int = 100,
    ) -> None:
        if channel_order not in ("BGR", "RGB"):
            raise UserError(f"{name}: channel order {channel_order!r}, BGR or RGB is required")
        if not actor_ids:
            raise ValueError("no class is an actor")
        super().__init__(
            network,
            name=name,
            classes=actor_ids,
            nms_iou=nms_iou,
            device=device,
            half_precision=half_precision,
            max_people=max_people,
        )
        self._sides_px = (short_side_px, long_side_px)
        self._backwards = channel_order == "BGR"
        self._score_floor = score_floor

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor]) -> list[ActorBoxes]:
        """Return the actors of each (3, H, W) uint8 RGB frame, best score first."""
        by_size: dict[tuple[int, ...], list[dict[str, Any]]] = defaultdict(list)
        for index, image in enumerate(images):
            scaled = self._scale(image)
            height, width = image.shape[-2:]
            by_size[tuple(scaled.shape)].append(
                {"image": scaled, "height": height, "width": width, "index": index}
            )
        found = [ActorBoxes.empty()] * len(images)
        for inputs in by_size.values():  # padding to a common size would change results
            with torch.autocast(self.device.type, dtype=torch.float16, enabled=self._half):
                outputs = self.network(inputs)
            for given, output in zip(inputs, outputs, strict=True):
                found[given["index"]] = self._to_actors(output, given["width"], given["height"])
        return found

    def _scale(self, image: Tensor) -> Tensor:
        """Return the (3, h, w) uint8 frame in the network's size and channel order."""
        from detectron2.data.transforms import ResizeShortestEdge, ResizeTransform

        check_frame(image)
        pixels = image.cpu().permute(1, 2, 0).numpy()  # (H, W, 3)
        pixels = np.ascontiguousarray(pixels[:, :, ::-1] if self._backwards else pixels)
        short_side, long_side = self._sides_px
        if short_side > 0:
            size = ResizeShortestEdge.get_output_shape(*pixels.shape[:2], short_side, long_side)
            height, width = (max(1, side) for side in size)  # at least one pixel
            pixels = ResizeTransform(*pixels.shape[:2], height, width).apply_image(pixels)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def _to_actors(self, output: Mapping[str, Any], width: int, height: int) -> ActorBoxes:
        if "instances" not in output:
            raise UserError(f"{self.name}: this network gives {', '.join(output)}, and no boxes")
        instances = output["instances"]
        boxes, scores = instances.pred_boxes.tensor.float(), instances.scores.float()
        kept = scores >= self._score_floor
        classes = instances.pred_classes[kept]
        return self._actors(boxes[kept], scores[kept], classes, size_px=(width, height))


def load_detectron2_detector(
    config: str,
    weights: str | None,
    *,
    actor_classes: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    score_floor: float = 0.05,
    half_precision: bool = False,
    max_people: int = 100,
) -> Detectron2Detector:
    """Open a detector of detectron2.

    config: a name in its model zoo, as COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml, or a
        YAML file.
    weights: a file (.pth, .pkl) or URL (https://, detectron2://); None: the model zoo's for
        `config`, downloaded to detectron2's cache.
    actor_classes: by name, or by number (from 0) if the classes have no names; by default "person",
        or the only class.
    score_floor: lower-scored boxes are dropped.
    Raises `UserError` where detectron2 is absent or broken, for a configuration or weights that do
    not load or do not belong together, and for unknown classes.
    """
    _check_installed()
    cfg = _read_config(config)
    _check_gives_boxes(cfg, config)
    _ask_for_boxes(cfg, score_floor)
    source = weights if weights is not None else _published_weights(config)
    actor_ids = _find_actors(_class_names(cfg), actor_classes, config)
    network = _build(cfg, config)
    _fill(network, read_detectron2_weights(_local_file(source)), config)
    return Detectron2Detector(
        network,
        name=f"detectron2 {config.removesuffix('.yaml')} ({weights or 'model zoo'})",
        actor_ids=actor_ids,
        short_side_px=cfg.INPUT.MIN_SIZE_TEST,
        long_side_px=cfg.INPUT.MAX_SIZE_TEST,
        channel_order=cfg.INPUT.FORMAT,
        nms_iou=_head(cfg).NMS_THRESH_TEST,
        device=device,
        half_precision=half_precision,
        score_floor=score_floor,
        max_people=max_people,
    )


def _check_installed() -> None:
    if importlib.util.find_spec("detectron2") is None:
        raise UserError(f"detectron2 is not installed; it is built from its source: {INSTALL_HINT}")
    for name in ("detectron2", "fvcore", "iopath"):
        # Without a handler Python prints the libraries' warnings to stderr.
        logging.getLogger(name).addHandler(logging.NullHandler())
    # A warning for detectron2's authors, not for its users.
    warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated")
            import detectron2.checkpoint
            import detectron2.data
            import detectron2.modeling  # noqa: F401
    except Exception as error:
        # A build for another torch can fail with any exception, such as undefined symbols.
        raise UserError(
            f"detectron2 is installed but cannot be imported ({_in_short(error)}); "
            f"build it again for torch {torch.__version__}: {INSTALL_HINT}"
        ) from error


def _read_config(config: str) -> Any:
    """Read a configuration of detectron2.

    A user's YAML may hold plain values only: detectron2 would construct any Python object that it
    names. The package's own files need that (RetinaNet's anchors) and are trusted like its code.
    """
    import yaml
    from detectron2.config import get_cfg

    path = _find_config(config)
    part_of_package = path.resolve().is_relative_to(_zoo_folder().resolve())
    cfg = get_cfg()
    try:
        cfg.merge_from_file(str(path), allow_unsafe=part_of_package)
    except (yaml.YAMLError, OSError, HTTPException) as error:
        raise UserError(f"{config}: cannot be read ({_in_short(error)})") from error
    except (
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        AssertionError,
        RecursionError,
    ) as error:
        # What detectron2 raises for unknown keys, wrong types, text that is not a mapping and
        # circular bases.
        raise UserError(
            f"{config}: not a configuration of detectron2 ({_in_short(error)})"
        ) from error
    cfg.MODEL.DEVICE = "cpu"  # built on the CPU, then moved: the file may name a missing GPU
    return cfg


def _find_config(config: str) -> Path:
    if config.endswith(".py"):
        raise UserError(
            f"{config}: configurations in Python are not executed; a YAML file or a YAML name of "
            "the model zoo is required"
        )
    zoo = _zoo_folder()
    for path in (Path(config), zoo / config):
        if path.is_file():
            return path
    names = [path.relative_to(zoo).as_posix() for path in zoo.rglob("*.yaml")]
    close = difflib.get_close_matches(config, names, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UserError(f"{config}: not found, neither as a file nor in detectron2's model zoo{hint}")


def _zoo_folder() -> Path:
    """Return the folder of the model zoo; detectron2's own function needs pkg_resources."""
    import detectron2

    return Path(detectron2.__file__).parent / "model_zoo" / "configs"


def _published_weights(config: str) -> str:
    if Path(config).is_file():
        raise UserError(f"{config}: a custom configuration requires weights")
    try:
        from detectron2 import model_zoo
    except ModuleNotFoundError as error:
        raise UserError(
            f"detectron2's model zoo cannot be imported ({_in_short(error)}); it needs "
            "'setuptools<81' for pkg_resources, or give the weights as a file"
        ) from error
    try:
        return str(model_zoo.get_checkpoint_url(config))
    except RuntimeError as error:
        raise UserError(f"{config}: the model zoo lists no weights for it") from error


def _local_file(source: str) -> Path:
    """Return the weights file, downloaded if `source` is a URL."""
    if not source.startswith(("https://", "http://", "detectron2://")):
        return Path(source)
    from detectron2.utils.file_io import PathManager

    try:
        return Path(PathManager.get_local_path(source))
    except (OSError, HTTPException) as error:
        raise UserError(
            f"{source}: weights cannot be fetched ({_in_short(error)}); where there is no network, "
            "give the file itself as the weights"
        ) from error


def _check_gives_boxes(cfg: Any, config: str) -> None:
    reason = _NO_BOXES.get(cfg.MODEL.META_ARCHITECTURE)
    if reason is None and cfg.MODEL.LOAD_PROPOSALS:
        reason = "it requires proposals of another network"
    if reason is not None:
        raise UserError(f"{config}: cannot find people with this network, {reason}")


def _ask_for_boxes(cfg: Any, score_floor: float) -> None:
    """Configure the network to return all boxes above the floor, and no masks or keypoints."""
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = float(score_floor)
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = float(score_floor)
    # This limit is over all classes: other classes must not displace actors.
    cfg.TEST.DETECTIONS_PER_IMAGE = 10_000
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN":
        cfg.MODEL.MASK_ON = False
        cfg.MODEL.KEYPOINT_ON = False


def _head(cfg: Any) -> Any:
    """Return the options of the head that predicts classes."""
    is_retinanet = cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    return cfg.MODEL.RETINANET if is_retinanet else cfg.MODEL.ROI_HEADS


def _class_names(cfg: Any) -> list[str]:
    """Return class names: the test data set's if detectron2 knows it, else numbers."""
    from detectron2.data import MetadataCatalog

    count = int(_head(cfg).NUM_CLASSES)
    for dataset in cfg.DATASETS.TEST[:1]:
        if dataset in MetadataCatalog.list():
            names = MetadataCatalog.get(dataset).get("thing_classes", [])
            # Configurations derived from COCO's often still name COCO's data set.
            if len(names) == count:
                return [str(name) for name in names]
    return [str(number) for number in range(count)]


def _find_actors(
    names: Sequence[str], actor_classes: Sequence[str] | None, config: str
) -> list[int]:
    if actor_classes is None:
        if len(names) > 1 and "person" not in names:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise UserError(f"{config}: no class 'person'; name the actors' classes among {shown}")
        actor_classes = ["person"] if "person" in names else names
    return find_classes(names, actor_classes, source=config)


def _build(cfg: Any, config: str) -> nn.Module:
    from detectron2.modeling import build_model

    try:
        network: nn.Module = build_model(cfg)
    except Exception as error:
        # Invalid numbers of the file end in assertions, KeyErrors of a registry, and errors of
        # layers.
        raise UserError(f"{config}: no network can be built of it ({_in_short(error)})") from error
    return network


def _fill(network: nn.Module, weights: Detectron2Weights, config: str) -> None:
    """Load weights; raises `UserError` if one is missing or has another shape.

    detectron2's own loader warns and leaves such layers random. Surplus weights are ignored: masks
    and keypoints are turned off.
    """
    from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts

    own = network.state_dict()
    state = weights.state
    if weights.match_names:
        try:
            state = align_and_update_state_dicts(own, state, c2_conversion=weights.caffe2_names)
        except (ValueError, AssertionError, KeyError, RuntimeError) as error:
            raise UserError(
                f"{weights.path}: its names do not fit {config} ({_in_short(error)})"
            ) from error
    wrong = [k for k, value in state.items() if k in own and own[k].shape != value.shape]
    kept = {key: value for key, value in state.items() if key not in wrong}
    missing = network.load_state_dict(kept, strict=False).missing_keys
    # BatchNorm's counters are missing in published files; they do not affect results.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if wrong or missing:
        problem = (
            f"{wrong[0]} has shape {tuple(state[wrong[0]].shape)}, {tuple(own[wrong[0]].shape)} "
            "is required"
            if wrong
            else f"{len(missing)} weights are not in it, {missing[0]} among them"
        )
        raise UserError(f"{weights.path}: weights of another network than {config} ({problem})")


def _in_short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
