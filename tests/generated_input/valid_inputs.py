"""One small valid input of every kind that a command reads, and the commands on them.

Everything is made here: two squares that move, a network of random weights, tables of their boxes.
Paths in `COMMANDS` are relative to the folder; `out` names what a command writes.
"""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numbered_video import write_numbered
from tiny_data import LABELS, make_dataset

from detection.build import build_model
from detection.checkpoints.file import save_model_file
from detection.checkpoints.load import describe_network
from detection.config import config_from_dict, config_to_dict
from detection.datasets.folder import DatasetFolder
from detection.datasets.label_file import (
    LabelFile,
    LabelledPerson,
    LabelledVideo,
    write_label_file,
)
from detection.datasets.label_map import write_label_map
from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import PeopleNetworkNumbers, save_people_file
from detection.structures import ClipSampling, LabelMap

NETWORK = {
    "data": {"root": "data"},
    "model": {"variant": "x2d", "head_width": 16, "width_factor": 0.5, "dropout": 0.0},
    "clip": {
        "num_frames": 2,
        "step": 6,
        "train_short_side_px": [64, 72],
        "train_crop_px": 64,
        "test_short_side_px": 64,
    },
    "optim": {"epochs": 1, "batch_size": 4, "lr": 0.01, "warmup_epochs": 0},
    "workers": 0,
    "threads": 1,
    "device": "cpu",
}
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>7</id><name>a</name><size>40</size>
<mode>interpolation</mode><labels><label><name>person</name><attributes>
<attribute><name>pose</name><mutable>True</mutable><input_type>select</input_type>
<default_value>none</default_value><values>none
stand
sit</values></attribute></attributes></label></labels>
<original_size><width>160</width><height>96</height></original_size><source>a.mp4</source></task>
</meta>
<track id="0" label="person" source="manual">
{boxes}</track></annotations>
"""
CVAT_BOX = """<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" xtl="{left}"
 ytl="9.6" xbr="{right}" ybr="86.4" z_order="0"><attribute name="pose">{pose}</attribute></box>
"""


@dataclass(frozen=True)
class Command:
    """One way to call a command.

    arguments: the command line after the module's name.  inputs: the files that can be damaged.
    """

    module: str
    arguments: tuple[str, ...]
    inputs: tuple[str, ...]


def _command(line: str, *inputs: str) -> Command:
    module, *arguments = line.split()
    return Command(module, tuple(arguments), inputs)


_DATA = ("data/dataset.yaml", "data/annotations/val.csv", "data/annotations/label_map.pbtxt")
_VIDEO = "data/videos/val_0.mp4"
COMMANDS = (
    _command(
        "evaluate --ground-truth gt.csv --detections det.csv --label-map map.pbtxt --exclusions "
        "excluded.csv --json out.json --csv out.csv --html out.html --diagnose --iou 0.5",
        "gt.csv", "det.csv", "map.pbtxt", "excluded.csv",
    ),
    _command(
        "evaluate --ground-truth gt.csv --detections det.csv --label-map map.pbtxt --compare "
        "other.csv --draws 20 --video-map --least-frames 2",
        "gt.csv", "det.csv", "other.csv", "map.pbtxt",
    ),
    _command(
        "evaluate --run trained --compare other.csv --draws 20 --html out.html",
        *_DATA, "trained/detections.csv", "trained/config.yaml", "other.csv",
    ),
    _command(
        "visualize --video data/videos/val_0.mp4 --ground-truth gt.csv --detections det.csv "
        "--label-map map.pbtxt --out out/drawn.mp4 --threshold 0.3 --top-k 3",
        _VIDEO, "gt.csv", "det.csv", "map.pbtxt",
    ),
    _command(
        "visualize --run trained --videos 1 --sheet-keyframes 2",
        *_DATA, "trained/detections.csv", "trained/metrics.json", "trained/config.yaml", _VIDEO,
    ),
    _command(
        "detect_people --dataset data --split val --weights people.pt --out out.csv --workers 0 "
        "--score-floor 0.05 --quiet",
        *_DATA, "people.pt", _VIDEO,
    ),
    _command(
        "report_boxes --dataset data --split val --boxes boxes.csv --threshold 0.5 --json out.json "
        "--html out.html --png out.png",
        *_DATA, "boxes.csv",
    ),
    _command("download --dataset ava-v2.2 --out out --attempts 1 --timeout 1 --jobs 1 --base-url "
             "http://127.0.0.1:9/"),
    _command("prepare --dataset data --out out --short-side 64 --jobs 1 --crf 20", *_DATA, _VIDEO),
    _command("prepare --dataset data --out out --frames --jobs 1 --fps 10", *_DATA, _VIDEO),
    _command("verify data --jobs 1 --json out.json", *_DATA, _VIDEO),
    _command("verify data --cfg actions.yaml --jobs 1", *_DATA, _VIDEO, "actions.yaml"),
    _command("check data --out out --json out.json --pictures 2 --limit 3", *_DATA, _VIDEO),
    _command(
        "import_dataset jhmdb --source jhmdb --out out", "jhmdb/JHMDB-GT.pkl",
        "jhmdb/videos/wave/one.mp4",
    ),
    _command(
        "import_dataset corrections --dataset data --split train --corrections labels.json "
        "--out out",
        *_DATA, "labels.json",
    ),
    _command("import_dataset clips --dataset data --out out", *_DATA),
    _command("import_dataset cvat --source cvat --videos videos --out out --every 0.5",
             "cvat/a.xml", "cvat/b.zip", "videos/a.mp4"),
    _command("import_dataset coco --source coco.json --videos videos --out out --val-share 0.5",
             "coco.json", "videos/a.mp4"),
    _command("import_dataset csv --source table.csv --videos videos --out out --val-share 0.5",
             "table.csv", "videos/b.mp4"),
    _command("import_dataset videos --source videos --out out", "videos/a.mp4"),
    _command("export_labels via3 --dataset data --split val --out out.json", *_DATA, _VIDEO),
    _command("export_labels mot --dataset data --split val --out out", *_DATA, _VIDEO),
    _command("publish run --out out --licence MIT", "run/checkpoints/last.pt"),
    _command(
        "detect_actions data/videos/val_0.mp4 --checkpoint run --people people.pt --out out "
        "--batches-at-once 1 --threads 1 --quiet --threshold 0.5 --every 1.0 --person-score 0.3",
        _VIDEO, "run/checkpoints/last.pt", "people.pt",
    ),
    _command("verify framed --jobs 1", "framed/frames/val_0/val_0_000003.jpg",
             "framed/dataset.yaml"),
    _command("train_ava --eval-only --checkpoint run output=out data.root=framed",
             "framed/frames/val_0/val_0_000003.jpg", "framed/dataset.yaml"),
    _command("inspect_model --checkpoint run/checkpoints/last.pt --no-timing --frames 4 --size 64 "
             "--actors 2", "run/checkpoints/last.pt"),
    _command("inspect_model --cfg actions.yaml --no-timing --json", "actions.yaml"),
    _command("convert --checkpoint run/checkpoints/last.pt --out out.safetensors",
             "run/checkpoints/last.pt"),
    _command("convert --checkpoint weights.safetensors --to own --out out.pt",
             "weights.safetensors"),
    _command("expand --replay paper --draws 2"),
    _command("expand --cfg expand.yaml output=out", "expand.yaml", *_DATA),
    _command("score_views --checkpoint classified --clips 1,2 --crops 1 --json out.json",
             "classified/checkpoints/last.pt", "lists/val.csv", "lists/classes.txt"),
    _command("make_demo --out out --num-train 1 --num-val 1 --keyframes 1 --fps 5 --size 96x80 "
             "--workers 1 --seed 3"),
    _command("export_cvat --dataset data --split val --boxes boxes.csv --actions wave --out out "
             "--min-score 0.2 --every 1 --keep-iou 0.9", *_DATA, "boxes.csv"),
    _command("label --dataset data --split val --boxes found --one-of pose=a,b --actions wave "
             "--out out --overwrite --quiet", *_DATA, "data/annotations/boxes_found.csv", _VIDEO),
    _command("train_ava --cfg actions.yaml output=out", *_DATA, "actions.yaml", _VIDEO,
             "data/annotations/train.csv", "data/videos/train_0.mp4"),
    _command("train_ava --cfg clips.yaml output=out", "clips.yaml", "lists/train.csv",
             "lists/val.csv", "lists/classes.txt"),
    _command("train_ava --eval-only --checkpoint run output=out data.val_boxes=found "
             "data.box_score_threshold=0.1", *_DATA, "run/checkpoints/last.pt",
             "data/annotations/boxes_found.csv"),
    _command("train_ava --resume trained", "trained/checkpoints/last.pt", "trained/config.yaml",
             *_DATA),
    _command("train_people --cfg people.yaml output=out", *_DATA, "people.yaml",
             "data/videos/train_0.mp4"),
    _command("train_people --eval-only --checkpoint people.pt --cfg people.yaml output=out",
             "people.pt", *_DATA),
)  # fmt: skip


def make_valid_inputs(root: Path) -> Path:
    """Write the folder that `COMMANDS` speak of; takes some seconds."""
    make_dataset(root / "data", train=2, val=1)
    _tables(root)
    _sources(root)
    _networks(root)
    return root


def _tables(root: Path) -> None:
    truth = (root / "data/annotations/val.csv").read_text()
    (root / "gt.csv").write_text(truth)
    rows = [line.split(",") for line in truth.split()]
    found = [[*row[:6], row[6], "0.75"] for row in rows]
    found += [[*row[:6], "7", "0.25"] for row in rows[::2]]
    (root / "det.csv").write_text("".join(",".join(row) + "\n" for row in found))
    (root / "other.csv").write_text("".join(",".join(row) + "\n" for row in found[1:]))
    write_label_map(root / "map.pbtxt", LABELS)
    (root / "excluded.csv").write_text("val_0,0002\n")
    boxes = "".join(",".join([*row[:6], "", "0.9"]) + "\n" for row in rows[::2])
    (root / "boxes.csv").write_text(boxes)
    (root / "data/annotations/boxes_found.csv").write_text(boxes)
    listed = root / "data/dataset.yaml"
    text = listed.read_text()
    place = "annotations: annotations/val.csv\n"
    indent = text[: text.index(place)].rpartition("\n")[2]
    entry = f"{indent}boxes: {{found: annotations/boxes_found.csv}}\n"
    listed.write_text(text.replace(place, place + entry))
    assert "found" in DatasetFolder.open(root / "data").split("val").boxes
    person = LabelledPerson(
        0, np.array([1_000_000]), np.array([[0.1, 0.1, 0.5, 0.5]]), np.array([[True, False, False]])
    )
    video = LabelledVideo("train_0", np.array([1_000_000]), np.array([0]), (person,))
    file = LabelFile("", "ab", "cd", "2026-11-29T05:00:00Z", "", LABELS, (video,))
    write_label_file(root / "labels.json", file)


def _sources(root: Path) -> None:
    for name in ("a", "b"):
        write_numbered(root / f"videos/{name}.mp4", [i / 10 for i in range(40)], fps=10)
    (root / "cvat").mkdir()
    boxes = [(0, 0, 16, "sit"), (20, 0, 56, "stand"), (25, 1, 56, "none")]
    drawn = "".join(
        CVAT_BOX.format(frame=frame, outside=outside, left=left, right=left + 32, pose=pose)
        for frame, outside, left, pose in boxes
    )
    (root / "cvat/a.xml").write_text(CVAT.format(boxes=drawn))
    (root / "zipped").mkdir()
    (root / "zipped/annotations.xml").write_text(
        CVAT.format(boxes=drawn).replace("a.mp4", "b.mp4").replace("<name>a<", "<name>b<")
    )
    shutil.make_archive(str(root / "cvat/b"), "zip", root / "zipped")
    images = [
        {"id": i, "video": f"{'ab'[i % 2]}.mp4", "frame": 5 * i, "width": 160, "height": 96}
        for i in range(6)
    ]
    annotations = [
        {"id": i, "image_id": i, "bbox": [16, 9, 40, 70], "category_id": 1 + i % 2, "track_id": 4}
        for i in range(6)
    ]
    categories = [{"id": 1, "name": "walk"}, {"id": 2, "name": "sit"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco.json").write_text(json.dumps(content))
    table = "video,time,x1,y1,x2,y2,action,person\n"
    for i in range(1, 4):
        table += f"a.mp4,{i},14,20,80,90,stand;wave,ann\nb.mp4,{i}.5,10,10,60,80,sit,bob\n"
    (root / "table.csv").write_text(table)
    folder = root / "jhmdb/videos/wave"
    folder.mkdir(parents=True)
    names = ("wave/one", "wave/two")
    for name in names:
        times_s = [i / 30 for i in range(12)]
        write_numbered(root / f"jhmdb/videos/{name}.mp4", times_s, fps=30, width=320, height=240)
    tube = np.array([[i, 32, 24, 95, 119] for i in range(1, 13)], np.float32)
    values = {
        "labels": ["sit", "wave"],
        "gttubes": {name: {1: [tube]} for name in names},
        "nframes": dict.fromkeys(names, 12),
        "train_videos": [names[:1]] * 3,
        "test_videos": [names[1:]] * 3,
        "resolution": dict.fromkeys(names, (240, 320)),
    }
    (root / "jhmdb/JHMDB-GT.pkl").write_bytes(pickle.dumps(values, protocol=2))
    for name in ("train_0", "train_1", "val_0"):
        (root / f"framed/frames/{name}").mkdir(parents=True)
        for i in range(1, 31):
            frame = np.full((72, 96, 3), 60 + 5 * i, np.uint8)
            cv2.imwrite(str(root / f"framed/frames/{name}/{name}_{i:06d}.jpg"), frame)
    shutil.copytree(root / "data/annotations", root / "framed/annotations")
    text = (root / "data/dataset.yaml").read_text()
    frames = "frames: {folder: frames, fps: 10, start_s: 0}"
    assert "videos: videos\n" in text
    (root / "framed/dataset.yaml").write_text(text.replace("videos: videos", frames))


def _networks(root: Path) -> None:
    import train_ava
    from ava_tools import convert, import_dataset

    torch.manual_seed(0)
    (root / "actions.yaml").write_text(json.dumps(NETWORK, indent=1))
    config = config_from_dict(NETWORK, "made")
    model = build_model(config, num_classes=len(LABELS)).eval()
    save_model_file(
        root / "run/checkpoints/last.pt",
        model.state_dict(),
        network=describe_network(model),
        classes=LabelMap(LABELS.names, LABELS.ids, LABELS.groups, {}),
        sampling=ClipSampling(2, 6, "repeat"),
        short_side_px=64,
        config=config_to_dict(config),
    )
    convert.main(
        ["--checkpoint", f"{root}/run/checkpoints/last.pt", "--out", f"{root}/weights.safetensors"]
    )
    people = PeopleNetworkNumbers("small", 64, 96)
    network = build_people_network("small", num_classes=1, short_side_px=64, long_side_px=96)
    save_people_file(root / "people.pt", network, numbers=people, classes=["person"])
    import_dataset.main(["clips", "--dataset", f"{root}/data", "--out", f"{root}/lists"])
    for split in ("train", "val"):
        listed = root / f"lists/{split}.csv"
        listed.write_text(listed.read_text().replace(";be here", ""))
    (root / "lists/classes.txt").write_text("be red\nbe blue\n")
    clips = NETWORK | {
        "task": "classification",
        "data": {"root": "lists"},
        "model": {"variant": "x2d", "head_width": 16, "dropout": 0.0},
        "classification": {"test_clips": 2, "test_crops": 1},
    }
    (root / "clips.yaml").write_text(json.dumps(clips, indent=1))
    frame = {"short_side_px": 64, "long_side_px": 96}
    optim = {"epochs": 1, "batch_size": 4, "warmup_updates": 1}
    values = {"data": {"root": "data", "held_out_share": 0.5}, "picture": frame, "optim": optim}
    values |= {"device": "cpu", "workers": 0, "threads": 1}
    (root / "people.yaml").write_text(json.dumps(values, indent=1))
    training = {key: NETWORK[key] for key in ("data", "optim")}
    training["model"] = {"head_width": 16, "dropout": 0.0}
    search = {
        "target": 0.21,
        "cost": "macs",
        "axes": ["frames"],
        "basis": {"crop_px": 32, "width_factor": 0.5, "step": 6},
        "training": training | {"workers": 0},
    }
    (root / "expand.yaml").write_text(json.dumps(search, indent=1))
    assert train_ava.main(["--cfg", "actions.yaml", "output=trained"]) == 0
    assert train_ava.main(["--cfg", "clips.yaml", "output=classified"]) == 0
