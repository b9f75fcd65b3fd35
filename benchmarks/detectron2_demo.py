"""Is the detectron2 adapter real? Trains detectron2's own Faster R-CNN on the demo's people.

    python benchmarks/detectron2_demo.py --data data/demo --out runs/detectron2_demo

From random weights, on the frames of the training keyframes: a ResNet-18 with an FPN, small enough
for one CPU core. Writes what a user of detectron2 has at the end of a training, config.yaml and
model_final.pth, and scores them on the validation keyframes through the adapter. A training that is
already finished in the output folder is not repeated. Needs detectron2 (docs/people.md says how it
is built).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import detectron2.data.transforms as transforms  # noqa: E402
from detectron2.checkpoint import DetectionCheckpointer  # noqa: E402
from detectron2.config import get_cfg  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402
from detectron2.solver import build_lr_scheduler, build_optimizer  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402
from detectron2.utils.events import EventStorage  # noqa: E402

from detection.datasets.actor_table import read_actor_table  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.datasets.open_video import open_video  # noqa: E402
from detection.evaluation.person_ap import PersonAp, person_ap  # noqa: E402
from detection.files import write_text  # noqa: E402
from detection.people.base import PeopleDetector  # noqa: E402
from detection.people.detectron2_rcnn import load_detectron2_detector  # noqa: E402
from detection.structures import ActorBoxes  # noqa: E402

# (H, W, 3) uint8 BGR as detectron2's networks take them, and its people.
Example = tuple[np.ndarray, ActorBoxes]


def main() -> None:
    """Train where needed, write the configuration and the weights, and score them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/demo", help="a data set folder in AVA's form")
    parser.add_argument("--out", type=Path, default=Path("runs/detectron2_demo"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=8, help="frames a step")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    np.random.seed(options.seed)  # noqa: NPY002  detectron2's augmentations draw from it
    torch.manual_seed(options.seed)

    folder = DatasetFolder.open(options.data)
    config, weights = options.out / "config.yaml", options.out / "model_final.pth"
    if not weights.is_file():
        cfg = small_config(options.steps, options.batch)
        write_text(config, cfg.dump())
        examples = read_examples(folder)
        started = time.perf_counter()
        network = train(cfg, examples)
        DetectionCheckpointer(network, str(options.out)).save(weights.stem)
        minutes = (time.perf_counter() - started) / 60
        print(f"{options.steps} steps of {options.batch} frames in {minutes:.1f} min")
    score = score_detector(load_detectron2_detector(str(config), str(weights)), folder)
    print(
        f"{folder.name}, {score.num_pictures} validation keyframes, {score.num_ground_truth} people"
    )
    print(f"AP50 {score.ap50:.3f}, AP {score.ap:.3f}, recall at IoU 0.5 {score.recall50:.3f}")
    print(
        "a box table: python -m ava_tools.detect_people --split val --out BOXES.csv "
        f"--dataset {options.data} --detectron2-config {config} --weights {weights}"
    )


def small_config(steps: int, batch: int) -> Any:
    """Return a Faster R-CNN with a ResNet-18 and a narrow FPN, for frames of 160 px."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0  # nothing was learnt before
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 64
    cfg.MODEL.FPN.NORM = "BN"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [96], [128]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0, 2.0, 3.0]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 64
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 200
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 100
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 32
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 256
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.PIXEL_STD = [58.0, 58.0, 58.0]
    cfg.INPUT.MIN_SIZE_TRAIN = (144, 160, 176)
    cfg.INPUT.MIN_SIZE_TEST = 160
    cfg.INPUT.MAX_SIZE_TRAIN = cfg.INPUT.MAX_SIZE_TEST = 288
    cfg.SOLVER.IMS_PER_BATCH = batch
    cfg.SOLVER.MAX_ITER = steps
    cfg.SOLVER.BASE_LR = 0.02
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    cfg.SOLVER.WARMUP_ITERS = min(50, steps // 4)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "norm"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 10.0
    return cfg


def read_examples(folder: DatasetFolder) -> list[Example]:
    """Return the frames of the training keyframes, all in memory (0.2 GB of the demo)."""
    return [
        (np.ascontiguousarray(frame.numpy().transpose(1, 2, 0)[:, :, ::-1]), people)
        for frame, people in read_frames(folder, "train")
    ]


def read_frames(folder: DatasetFolder, split: str) -> Iterator[tuple[torch.Tensor, ActorBoxes]]:
    """Yield the (3, H, W) uint8 RGB frame of each keyframe of a split, and who is in it."""
    people = read_actor_table(folder, split, folder.read_label_map())
    of_video: dict[str, list[int]] = {}
    for position, keyframe in enumerate(people.keyframes()):
        of_video.setdefault(keyframe.video_id, []).append(position)
    for video_id, positions in tqdm(of_video.items(), desc=f"{split} frames", unit="video"):
        with open_video(folder, video_id) as video:
            clip = video.read([people.keyframe(position).time_s for position in positions])
        yield from zip(clip.frames, map(people.boxes, positions), strict=True)


def score_detector(detector: PeopleDetector, folder: DatasetFolder) -> PersonAp:
    """Return COCO's figures on the validation keyframes that have people."""
    found, there = [], []
    for frame, people in read_frames(folder, "val"):
        found += detector.detect([frame])
        there.append(people)
    return person_ap(there, found)


def train(cfg: Any, examples: list[Example]) -> torch.nn.Module:
    """Return detectron2's network after cfg.SOLVER.MAX_ITER steps."""
    network: torch.nn.Module = build_model(cfg).train()
    optimizer = build_optimizer(cfg, network)
    scheduler = build_lr_scheduler(cfg, optimizer)
    augment = transforms.AugmentationList(
        [
            transforms.ResizeShortestEdge(
                cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, sample_style="choice"
            ),
            transforms.RandomFlip(),
            transforms.RandomBrightness(0.8, 1.2),
        ]
    )
    progress = tqdm(range(cfg.SOLVER.MAX_ITER), desc="training", unit="step")
    with EventStorage():
        for _ in progress:
            batch = random.sample(examples, cfg.SOLVER.IMS_PER_BATCH)
            losses = network([prepare(example, augment) for example in batch])
            loss = sum(losses.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return network


def prepare(example: Example, augment: transforms.AugmentationList) -> dict[str, Any]:
    """Return one frame and its people as detectron2's networks take them in training."""
    frame, people = example
    height, width = frame.shape[:2]
    given = transforms.AugInput(
        frame, boxes=people.xyxy_01 * np.asarray([width, height, width, height])
    )
    augment(given)
    instances = Instances(given.image.shape[:2])
    instances.gt_boxes = Boxes(given.boxes)
    instances.gt_classes = torch.zeros(len(people), dtype=torch.int64)
    image = torch.from_numpy(np.ascontiguousarray(given.image.transpose(2, 0, 1)))
    return {"image": image, "instances": instances}


if __name__ == "__main__":
    main()
