"""Does "my own three actions" work with the defaults of the documents alone? On JHMDB's clips.

    python benchmarks/own_actions.py --data ../shared/data --people runs/people_jhmdb
    python benchmarks/own_actions.py --data ../shared/data --onnx yolox_nano.onnx

A draw takes 8 clips of each of three actions, labelled, and 4 others of each that stay unseen, no
film in both. The commands of docs/data.md are given as they stand (import, check, train,
detect_actions), but for paths. A held-out clip is right where one of its events has its action, and
wrong where one has another of the three. Labels are on the annotated boxes (ground truth); the
people of held-out clips are detected: by --people (weights or run of train_people), or by --onnx
(YOLOX of 416 px, opened here with cv2.dnn through the Python interface).

--of train: held-out clips are other training clips of JHMDB's first split; --of test: its test
clips, for the end. Options of the training go last: --train model.freeze_batch_norm=false ...
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection import ActionDetectorPipeline  # noqa: E402
from detection.formats.safe_pickle import read_plain_pickle  # noqa: E402
from detection.structures import ActorBoxes  # noqa: E402

ACTIONS = ("stand", "sit", "wave")
LABELLED, HELD_OUT = 8, 4  # of each action
TABLE = "video,frame,x1,y1,x2,y2,frame_width,frame_height,action,person"
_FILM = re.compile(r"^(.*)_[a-z_]+_[fuhl]_[cn]m_np\d_(?:fr|ba|le|ri)_(?:bad|med|goo)_\d+$")


def draw(
    annotation: dict[str, Any], actions: Sequence[str], seed: int, of: str
) -> tuple[list[str], list[str]]:
    """Return the labelled clips and the held-out ones (CLASS/NAME), no film in both."""
    chance = random.Random(seed)
    labelled: list[str] = []
    held_out: list[str] = []
    for action in actions:
        pool = [n for n in annotation["train_videos"][0] if n.split("/")[0] == action]
        chance.shuffle(pool)
        labelled += pool[:LABELLED]
    films = {film_of(name) for name in labelled}
    for action in actions:
        names = annotation["train_videos" if of == "train" else "test_videos"][0]
        pool = sorted(n for n in names if n.split("/")[0] == action and film_of(n) not in films)
        chance.shuffle(pool)
        held_out += pool[:HELD_OUT]
    if len(held_out) < HELD_OUT * len(actions):
        raise SystemExit(f"seed {seed}: too few clips of other films")
    return labelled, held_out


def film_of(name: str) -> str:
    """Return the film that a clip is from, by HMDB's naming."""
    found = _FILM.match(name.split("/")[-1])
    return found[1] if found else name


def write_table(path: Path, annotation: dict[str, Any], names: Sequence[str]) -> None:
    """Write the annotated boxes of clips as a table for `import_dataset csv`, frames from 0."""
    height, width = annotation["resolution"][names[0]]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(TABLE.split(","))
        for name in names:
            ((tube,),) = annotation["gttubes"][name].values()
            for frame, *box in tube.tolist():
                video = name.split("/")[-1]
                action = name.split("/")[0]
                rows.writerow([video, int(frame) - 1, *box, width, height, action, 1])


def run(arguments: Sequence[str], folder: Path) -> float:
    """Give a command; return its seconds of processor time. Its output goes to commands.log."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / "commands.log").open("a") as log:
        log.write(f"$ python {' '.join(arguments)}\n")
        log.flush()
        paths = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, *arguments]
        code = subprocess.run(command, cwd=folder, env=paths, stdout=log, stderr=log).returncode
    if code:
        raise SystemExit(f"exit code {code}: {' '.join(arguments)}; see {folder}/commands.log")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class OnnxPeople:
    """YOLOX's people as a detector of the Python interface: trained on COCO, 416 px, cv2.dnn."""

    name = "YOLOX"
    sides_px = (416, 832)
    _SIDE = 416

    def __init__(self, path: Path) -> None:
        self._network = cv2.dnn.readNetFromONNX(str(path), engine=cv2.dnn.ENGINE_CLASSIC)
        self._one_at_a_time = threading.Lock()
        cells, strides = [], []
        for stride in (8, 16, 32):
            count = self._SIDE // stride
            y, x = np.mgrid[:count, :count]
            cells.append(np.stack([x, y], -1).reshape(-1, 2))
            strides.append(np.full((count * count, 1), stride))
        self._cells, self._strides = np.concatenate(cells), np.concatenate(strides)

    def detect(self, images: Sequence[torch.Tensor]) -> list[ActorBoxes]:
        """See `PeopleDetector.detect`."""
        return [self._detect(image.permute(1, 2, 0).numpy()) for image in images]

    def _detect(self, rgb: NDArray[np.uint8]) -> ActorBoxes:
        height, width = rgb.shape[:2]
        scale = min(self._SIDE / height, self._SIDE / width)
        small = cv2.resize(rgb[..., ::-1], (int(width * scale), int(height * scale)))
        padded = np.full((self._SIDE, self._SIDE, 3), 114, np.uint8)
        padded[: small.shape[0], : small.shape[1]] = small
        with self._one_at_a_time:
            self._network.setInput(padded.transpose(2, 0, 1)[None].astype(np.float32))
            rows = self._network.forward()[0].copy()
        centre = (rows[:, :2] + self._cells) * self._strides
        half = np.exp(rows[:, 2:4]) * self._strides / 2
        scores = rows[:, 4] * rows[:, 5]
        boxes = np.concatenate([centre - half, centre + half], 1) / scale
        boxes_01 = np.clip(boxes / [width, height, width, height], 0, 1).astype(np.float32)
        kept = np.flatnonzero((scores > 0.05) & (boxes_01[:, 2:] > boxes_01[:, :2]).all(1))
        best = nms(torch.from_numpy(boxes_01[kept]), torch.from_numpy(scores[kept]), 0.5).numpy()
        order = kept[best]
        return ActorBoxes(boxes_01[order], scores[order].clip(0, 1).astype(np.float32))


def detect(options: argparse.Namespace, folder: Path, clips: Sequence[Path]) -> list[set[str]]:
    """Find the actions of clips by the defaults; return the actions of each one's events."""
    found = []
    if options.onnx:
        pipeline = ActionDetectorPipeline.from_checkpoint(
            folder / "runs/mine_x3d_xs", people=OnnxPeople(options.onnx)
        )
        for clip in clips:
            found.append({event.action for event in pipeline.run(str(clip))})
        return found
    command = ["-m", "ava_tools.detect_actions", "held_out", "--checkpoint", "runs/mine_x3d_xs"]
    run([*command, "--people", str(options.people.resolve()), "--out", "found"], folder)
    for clip in clips:
        lines = (folder / "found" / clip.stem / "events.jsonl").read_text().splitlines()
        found.append({json.loads(line)["action"] for line in lines})
    return found


def trial(
    options: argparse.Namespace, annotation: dict[str, Any], seed: int, folder: Path
) -> tuple[int, int, float]:
    """Follow the documents once; return right clips, wrong ones, and training's processor time."""
    labelled, held_out = draw(annotation, options.actions, seed, options.of)
    for place, names in (("videos", labelled), ("held_out", held_out)):
        (folder / place).mkdir()
        for name in names:
            source = options.data / "jhmdb/videos" / f"{name}.mp4"
            shutil.copyfile(source, folder / place / source.name)
    write_table(folder / "boxes.csv", annotation, labelled)
    group = f"--exclusive=action={','.join(options.actions)}"
    source = ["csv", "--source", "boxes.csv", "--videos", "videos", "--out", "data/mine", "--link"]
    run(["-m", "ava_tools.import_dataset", *source, group], folder)
    run(["-m", "ava_tools.check", "data/mine"], folder)
    start = options.data.resolve() / "weights/x3d_xs_k400_from_int8.pyth"
    config = str(REPOSITORY / "configs/mine_x3d_xs.yaml")
    training = [f"model.pretrained={start}", *options.train]
    seconds = run([str(REPOSITORY / "train_ava.py"), "--cfg", config, *training], folder)
    clips = [folder / "held_out" / f"{name.split('/')[-1]}.mp4" for name in held_out]
    right = wrong = 0
    for name, actions in zip(held_out, detect(options, folder, clips), strict=True):
        own = name.split("/")[0]
        right += own in actions
        wrong += bool(actions - {own})
        print(f"  {name}: {', '.join(sorted(actions)) or 'nothing'}", flush=True)
    return right, wrong, seconds


def main() -> None:
    """Run the trial for each seed and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    people = parser.add_mutually_exclusive_group(required=True)
    people.add_argument("--people", type=Path)
    people.add_argument("--onnx", type=Path)
    parser.add_argument("--actions", nargs="+", default=list(ACTIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--of", choices=("train", "test"), default="train")
    parser.add_argument("--keep", type=Path, help="keep the folders of the draws here")
    parser.add_argument("--train", nargs="*", default=[], help="options of train_ava.py")
    options = parser.parse_args()
    annotation = read_plain_pickle(options.data / "jhmdb/JHMDB-GT.pkl")
    count = HELD_OUT * len(options.actions)
    rows = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.keep / f"draw{seed}" if options.keep else Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            print(f"draw {seed}: {', '.join(options.actions)}")
            rows.append((seed, *trial(options, annotation, seed, folder)))
    print(f"\n| draw | right of {count} | with a wrong action | processor time of training |")
    print("|---|---|---|---|")
    for seed, right, wrong, seconds in rows:
        print(f"| {seed} | {right} | {wrong} | {seconds:.0f} s |")


if __name__ == "__main__":
    main()
