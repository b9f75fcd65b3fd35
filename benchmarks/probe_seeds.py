"""Seeds of a linear probe on test, when one pass of the trunk is all that there is time for.

    python benchmarks/probe_seeds.py features --cfg FILE --boxes small --out F.pt [a.b=value ...]
    python benchmarks/probe_seeds.py seed --cfg FILE --features F.pt --out DIR seed=N
    python benchmarks/track_scoring.py --run DIR/small --dataset DATA --split SPLIT --boxes small

A probe leaves the trunk as it was pretrained, so that what it sees of a test keyframe is the same
for every seed. `features` looks once at every keyframe of `data.val_split`, at ground-truth boxes
and at those of box files together (those that `data.box_score_threshold` lets through). `seed`
then does what `train_ava.py` does with `optim.epochs=0`: draws training keyframes by `seed`, runs
the trunk on them, fits the last layer, scores; its threshold may be higher. Nothing is chosen here:
every row is printed and written to DIR/metrics.json, and the probabilities of each box file to
DIR/NAME/detections.csv.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection import build  # noqa: E402
from detection.config import RunConfig, config_to_dict, load_config  # noqa: E402
from detection.datasets.actor_table import read_exclusions, read_ground_truth_rows  # noqa: E402
from detection.datasets.ava_csv import write_detections  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.engine.environment import keep_malloc_memory  # noqa: E402
from detection.engine.probe import collect_features, fit_linear, set_last_layer  # noqa: E402
from detection.engine.tasks.together import split_detections  # noqa: E402
from detection.evaluation.evaluator import ActionEvaluator  # noqa: E402
from detection.files import write_text  # noqa: E402
from detection.models.action_detector import ActionDetector  # noqa: E402
from detection.models.inference import prepare_for_inference  # noqa: E402
from detection.structures import GROUND_TRUTH_BOXES, ActorBoxes, Detections, Keyframe  # noqa: E402


def main() -> None:
    """Look, or fit and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("features", "seed"))
    parser.add_argument("--cfg", required=True, help="configuration, as for train_ava.py")
    parser.add_argument("--boxes", nargs="*", default=[], help="features: box files, by name")
    parser.add_argument("--features", type=Path, help="seed: what `features` wrote")
    parser.add_argument("--out", type=Path, required=True, help="file of features, or folder")
    parser.add_argument("overrides", nargs="*", help="options that replace the file's")
    options = parser.parse_intermixed_args()
    config = load_config(options.cfg, options.overrides)
    if config.clip.stream:
        raise SystemExit("clip.stream: clips alone are scored here")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_malloc_memory()
    if options.work == "features":
        write_features(config, options.boxes, options.out)
    else:
        fit_and_score(config, options.features, options.out)


def write_features(config: RunConfig, boxes: Sequence[str], path: Path) -> None:
    """Write what the last layer will see of every keyframe's actors, ground truth and detected."""
    folder = DatasetFolder.open(config.data.root)
    label_map, names = folder.read_label_map(), (GROUND_TRUTH_BOXES, *boxes)
    tables = []
    for name in names:
        asked = dataclasses.replace(config, data=dataclasses.replace(config.data, val_boxes=name))
        tables.append(build.read_val_table(asked, folder, label_map))
    datasets = [build.build_val_dataset(config, folder, table) for table in tables]
    dataset = build.build_joined_val_dataset(config, folder, datasets)
    device = build.build_device(config)
    model = prepare_for_inference(_pretrained(config, folder, device))
    seen: list[list[Detections]] = [[] for _ in names]
    loader = build.build_val_loader(config, dataset, device)
    for batch in tqdm(loader, desc="features", unit="batch", mininterval=10):
        with torch.inference_mode():
            inputs = [part.to(device) for part in batch.inputs]
            features = model.actor_features(*inputs).half().cpu().numpy()
        ends = np.cumsum([len(one) for one in batch.boxes])
        found = [
            Detections(key, one, features[end - len(one) : end])
            for key, one, end in zip(batch.keyframes, batch.boxes, ends.tolist(), strict=True)
        ]
        for of_name, part in zip(seen, split_detections(found, tables), strict=True):
            of_name += part
    torch.save(
        {
            "looks": _looks(config),
            "from_score": config.data.box_score_threshold,
            "boxes": {name: _as_tensors(part) for name, part in zip(names, seen, strict=True)},
        },
        path,
    )


def fit_and_score(config: RunConfig, path: Path, out: Path) -> None:
    """Fit the last layer to the keyframes that the seed draws; score it on the features."""
    written = torch.load(path, weights_only=True)
    if written["looks"] != _looks(config):
        raise SystemExit(f"{path}: is of another sampling or network than the configuration")
    from_score = config.data.box_score_threshold
    if from_score < written["from_score"]:
        raise SystemExit(
            f"{path}: holds boxes from {written['from_score']} on, "
            f"data.box_score_threshold={from_score} asks for more"
        )
    folder = DatasetFolder.open(config.data.root)
    device = build.build_device(config)
    model = _pretrained(config, folder, device)
    table = build.read_train_table(config, folder, folder.read_label_map())
    dataset = build.build_val_dataset(config, folder, table)
    loader = build.build_probe_loader(config, dataset, device)
    bar = tqdm(loader, desc="linear probe", unit="batch", mininterval=10)
    features, labels = collect_features(model, bar, device=device)
    layer = fit_linear(features, labels, parts=model.head.feature_parts, l2=config.probe.l2)
    set_last_layer(model, *layer)

    rows: dict[str, float] = {}
    for name, actors in written["boxes"].items():
        own = model.head.description.exclusive
        for exclusive in (own, not own):
            kind = f"{name}, {'exclusive' if exclusive else 'independent'}"
            found = _detections(model, actors, exclusive=exclusive)
            if name != GROUND_TRUTH_BOXES:
                found = [_only(one, one.boxes.score >= from_score) for one in found]
            rows[kind] = _mean_ap(config, folder, found)
            if exclusive == own:
                (out / name).mkdir(parents=True, exist_ok=True)
                label_map = folder.read_label_map()
                write_detections(out / name / "detections.csv", found, label_map)
            if name == GROUND_TRUTH_BOXES:
                rows[f"{kind}, mean over a clip"] = _mean_ap(config, folder, _over_clips(found))
            else:
                rows[f"{kind}, x box score"] = _mean_ap(config, folder, _weighted(found))
                best = [
                    _only(one, np.argsort(-one.boxes.score, kind="stable")[:1]) for one in found
                ]
                rows[f"{kind}, the best box of each frame alone"] = _mean_ap(config, folder, best)
                labelled = _on_labelled(found, written["boxes"][GROUND_TRUTH_BOXES])
                rows[f"{kind}, those of labelled people alone (an oracle)"] = _mean_ap(
                    config, folder, labelled
                )
    out.mkdir(parents=True, exist_ok=True)
    torch.save({"weights": layer[0], "biases": layer[1]}, out / "last_layer.pt")
    write_text(out / "metrics.json", json.dumps({"seed": config.seed, **rows}, indent=2) + "\n")
    print(f"seed {config.seed}, fitted to {len(labels)} actors")
    for row, value in rows.items():
        print(f"{value:.4f}  {row}")


def _pretrained(config: RunConfig, folder: DatasetFolder, device: torch.device) -> ActionDetector:
    label_map = folder.read_label_map()
    model = build.build_model(config, num_classes=len(label_map))
    build.start_from_pretrained(config, model, label_map)
    placed = build.place_model(model, device).eval()
    assert isinstance(placed, ActionDetector)
    return placed


def _looks(config: RunConfig) -> dict[str, Any]:
    """All that decides what the last layer sees."""
    values = config_to_dict(config)
    names = ("num_frames", "step", "at_ends", "test_short_side_px")
    clip = {name: values["clip"][name] for name in names}
    head = {name: value for name, value in values["model"].items() if name != "exclusive_actions"}
    return {"split": config.data.val_split, "clip": clip, "model": head}


def _as_tensors(seen: Sequence[Detections]) -> dict[str, Any]:
    return {
        "videos": [one.keyframe.video_id for one in seen],
        "times_s": [one.keyframe.time_s for one in seen],
        "counts": [len(one.boxes) for one in seen],
        "xyxy_01": torch.from_numpy(np.concatenate([one.boxes.xyxy_01 for one in seen])),
        "score": torch.from_numpy(np.concatenate([one.boxes.score for one in seen])),
        "features": torch.from_numpy(np.concatenate([one.action_scores for one in seen])),
    }


@torch.inference_mode()
def _detections(
    model: ActionDetector, actors: dict[str, Any], *, exclusive: bool
) -> list[Detections]:
    kept = model.head.description
    model.head.description = dataclasses.replace(kept, exclusive=exclusive)
    logits = [model.head.logits(part.float()) for part in actors["features"].split(1000)]
    scores = torch.split(torch.cat(logits).sigmoid(), actors["counts"])
    model.head.description = kept
    boxes = actors["xyxy_01"].split(actors["counts"])
    confidence = actors["score"].split(actors["counts"])
    return [
        Detections(Keyframe(video, time_s), ActorBoxes(box.numpy(), sure.numpy()), score.numpy())
        for video, time_s, box, sure, score in zip(
            actors["videos"], actors["times_s"], boxes, confidence, scores, strict=True
        )
    ]


def _over_clips(found: Sequence[Detections]) -> list[Detections]:
    """Give every frame the mean of its video's scores: one person a video is required."""
    by_video: dict[str, list[Detections]] = {}
    for one in found:
        by_video.setdefault(one.keyframe.video_id, []).append(one)
    if any(len(one.boxes) != 1 for one in found):
        raise SystemExit("averaging over a clip is for data of one person a frame")
    return [
        dataclasses.replace(one, action_scores=mean)
        for of_video in by_video.values()
        for mean in [np.mean([one.action_scores for one in of_video], axis=0)]
        for one in of_video
    ]


def _weighted(found: Sequence[Detections]) -> list[Detections]:
    return [
        dataclasses.replace(one, action_scores=one.action_scores * one.boxes.score[:, None])
        for one in found
    ]


def _only(one: Detections, index: NDArray[Any]) -> Detections:
    """Return the actors that `index` (a mask or positions) names."""
    return Detections(one.keyframe, one.boxes.select(index), one.action_scores[index])


def _on_labelled(found: Sequence[Detections], truth: dict[str, Any]) -> list[Detections]:
    """Leave out boxes without a ground-truth box at IoU 0.5: what they cost is told by the rest."""
    keys = [Keyframe(*key) for key in zip(truth["videos"], truth["times_s"], strict=True)]
    labelled = dict(zip(keys, truth["xyxy_01"].split(truth["counts"]), strict=True))
    kept = []
    for one in found:
        overlap = box_iou(torch.from_numpy(one.boxes.xyxy_01), labelled[one.keyframe])
        kept.append(_only(one, (overlap >= 0.5).any(1).numpy()))
    return kept


def _mean_ap(config: RunConfig, folder: DatasetFolder, found: Sequence[Detections]) -> float:
    split = folder.split(config.data.val_split)
    evaluator = ActionEvaluator(
        read_ground_truth_rows(split),
        folder.read_label_map(),
        exclusions=read_exclusions(split),
        protocol=config.evaluation.protocol or folder.file.evaluation.protocol,
        scored=folder.read_label_map(),
    )
    evaluator.update(found)
    return float(evaluator.compute().mean_ap)


if __name__ == "__main__":
    main()
