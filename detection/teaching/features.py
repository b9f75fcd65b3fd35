"""Features of people at keyframes, computed once and kept in the data set folder.

    DATASET/features/KEY/VIDEO.npz     rows found by time and box: format, made_of, keys, features
    DATASET/features/KEY/about.json    what the key stands for

The key is a hash of all that decides what a network sees in a frame: its weights but for the last
layer, its form, which frames a clip holds, and their short side. Files of another key stay until
they are deleted. A file is written when its video is done, whole or not at all.

Legend: R people at keyframes of one video, F features that the last layer takes.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from detection import build
from detection.checkpoints.load import describe_network
from detection.config import RunConfig
from detection.datasets.actor_table import ActorTable, build_actor_table
from detection.datasets.ava_csv import AvaRows
from detection.datasets.folder import DatasetFolder
from detection.datasets.loader import ClipLoader, collate
from detection.datasets.workers import FixedBatches
from detection.errors import printable
from detection.files import identity_of, replacing, sha256_of_text, write_text
from detection.formats.json_text import json_text
from detection.models.action_detector import ActionDetector
from detection.models.inference import prepare_for_inference
from detection.structures import Batch, Keyframe, LabelMap

FORMAT = "x3d-action-detection features 1"
FOLDER = "features"
_NOT_SEEN = ("num_classes", "dropout", "exclusive")  # of the head: what comes after the features
_BOX_STEPS = 1e6  # boxes are the same where they are in millionths of the frame
_NO_CLASSES = LabelMap(("person",), (1,))  # a table needs classes; these rows have no labels


@dataclass(frozen=True)
class PersonKeyframes:
    """People at keyframes of one video, in any order.

    time_us: (R,) int64, microseconds.  boxes_01: (R, 4) float64.
    """

    time_us: NDArray[np.int64]
    boxes_01: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.boxes_01.shape != (len(self.time_us), 4):
            raise ValueError(f"{len(self.time_us)} times but boxes of {self.boxes_01.shape}")

    def __len__(self) -> int:
        return len(self.time_us)

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """(R, 5): time and box in whole numbers, by which rows are found again."""
        boxes = np.rint(self.boxes_01 * _BOX_STEPS).astype(np.int64)
        return np.column_stack([self.time_us.astype(np.int64), boxes]).reshape(-1, 5)

    @classmethod
    def none(cls) -> PersonKeyframes:
        """Return an empty list."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 4)))

    @classmethod
    def joined(cls, parts: Sequence[PersonKeyframes]) -> PersonKeyframes:
        """Return the people of several lists, one after the other."""
        parts = [cls.none(), *parts]
        return cls(
            np.concatenate([part.time_us for part in parts]),
            np.concatenate([part.boxes_01 for part in parts]),
        )


def feature_key(model: ActionDetector, config: RunConfig) -> str:
    """Return 20 hexadecimal digits for all that decides a network's features."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith("head.classes.") and not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    numbers = describe_network(model).numbers()
    form = {name: value for name, value in numbers.items() if name not in _NOT_SEEN}
    digest.update(json.dumps([FORMAT, form, _sampling(config)], sort_keys=True).encode())
    return digest.hexdigest()[:20]


class FeatureStore:
    """The features of a data set's people that one network has seen so far.

    num_features: F.
    """

    def __init__(self, folder: DatasetFolder, key: str, *, num_features: int) -> None:
        self.folder = folder
        self.place = folder.root / FOLDER / key
        self._num_features = num_features
        self._contents: dict[str, str] = {}

    def path(self, video_id: str) -> Path:
        """Return the file of a video."""
        short = len(video_id.encode()) <= 200
        return self.place / f"{video_id if short else sha256_of_text(video_id)}.npz"

    def read(
        self, video_id: str, people: PersonKeyframes
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return (R, F) features, and (R,) whether they are there; zeros where they are not.

        A file that is damaged, of another video or of another network counts as absent, and is
        named on stderr.
        """
        keys, features = self._stored(video_id)
        rows = {key.tobytes(): row for row, key in enumerate(keys)}
        found = np.array([rows.get(key.tobytes(), -1) for key in people.keys], np.int64)
        result = np.zeros((len(people), self._num_features), np.float32)
        result[found >= 0] = features[found[found >= 0]]
        return result, found >= 0

    def add(self, video_id: str, keys: NDArray[np.int64], features: NDArray[np.float32]) -> None:
        """Keep more rows of a video beside those that are there."""
        old_keys, old = self._stored(video_id, quiet=True)
        path = self.path(video_id)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                format=np.array(FORMAT),
                made_of=np.array(self._made_of(video_id)),
                keys=np.concatenate([old_keys, keys]),
                features=np.concatenate([old, features]),
            )

    def describe(self, config: RunConfig) -> None:
        """Write once what the key stands for, for people who look into the folder."""
        path = self.place / "about.json"
        if not path.is_file():
            write_text(path, json_text({"weights": config.model.pretrained, **_sampling(config)}))

    def _stored(
        self, video_id: str, *, quiet: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        empty = np.zeros((0, 5), np.int64), np.zeros((0, self._num_features), np.float32)
        path = self.path(video_id)
        if not path.is_file():
            return empty
        try:
            return self._checked(path, video_id)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            if not quiet:
                reason = str(error) or type(error).__name__
                _say(f"{path}: features are computed anew ({reason})")
            return empty

    def _checked(self, path: Path, video_id: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Read a file; raises ValueError for one that holds something else."""
        if not zipfile.is_zipfile(path):
            raise ValueError("damaged")
        with np.load(path, allow_pickle=False) as file:
            if str(file["format"]) != FORMAT:
                raise ValueError(f"format '{printable(str(file['format'])[:60])}'")
            if str(file["made_of"]) != self._made_of(video_id):
                raise ValueError("of another video, or its file has changed")
            keys, features = file["keys"], file["features"]
        fits = keys.dtype == np.int64 and features.dtype == np.float32
        if not fits or keys.shape != (len(features), 5):
            raise ValueError("damaged")
        if features.shape != (len(keys), self._num_features) or not np.isfinite(features).all():
            raise ValueError("damaged")
        return keys, features

    def _made_of(self, video_id: str) -> str:
        """Say what a video is: its id, and its content wherever it lies and whenever it came."""
        if video_id not in self._contents:
            known = identity_of(self.folder.video_path(video_id))
            facts = [video_id, known.get("bytes", known.get("files")), known["sha256"]]
            self._contents[video_id] = json.dumps(facts)
        return self._contents[video_id]


def compute_missing(
    store: FeatureStore,
    config: RunConfig,
    model: ActionDetector,
    of_videos: Mapping[str, PersonKeyframes],
    *,
    device: torch.device,
    show_progress: bool = False,
) -> tuple[int, list[str]]:
    """Compute and keep what the store does not have yet of the people of each video.

    of_videos: by id, also those that are there already.
    Returns how many people at keyframes were computed, and a line for each keyframe whose clip
    cannot be read: its people stay without features. Raises `UserError` for a keyframe outside its
    video. Ended in the middle, all videos before the one under way are kept.
    """
    missing = {}
    for video_id, people in of_videos.items():
        keys = np.unique(people.keys[~store.read(video_id, people)[1]], axis=0)
        if len(keys):
            missing[video_id] = keys
    if not missing:
        return 0, []
    store.describe(config)
    table = _table(missing)
    dataset = build.build_val_dataset(config, store.folder, table)
    dataset.check_videos(most_unreadable=1.0)
    groups = [np.flatnonzero(table.video_index == v) for v in range(len(table.video_names))]
    # No batch holds two videos: a video's features then depend on no other one.
    order = FixedBatches(groups, batch_size=config.evaluation.batch_size)
    loader = build.build_loader(
        config, dataset, order, device, collate=collate, on_unreadable="leave out"
    )
    computed = 0
    bar = tqdm(
        total=len(table), desc="features", unit="keyframe", leave=False, disable=not show_progress
    )
    with bar:
        for video_id, keyframes, features in _by_video(loader, model, device, bar.update):
            keys = missing[video_id]
            done = np.isin(keys[:, 0], [round(key.time_s * 1e6) for key in keyframes])
            store.add(video_id, keys[done], features)
            computed += len(features)
    return computed, list(loader.unreadable)


def _by_video(
    loader: ClipLoader[Batch],
    model: ActionDetector,
    device: torch.device,
    advance: Callable[[int], object],
) -> Iterable[tuple[str, list[Keyframe], NDArray[np.float32]]]:
    """Yield each video when it is done: its keyframes, and the features of all their people."""
    model = prepare_for_inference(model)
    keyframes: list[Keyframe] = []
    features: list[NDArray[np.float32]] = []
    for batch in loader:
        if keyframes and keyframes[0].video_id != batch.keyframes[0].video_id:
            yield keyframes[0].video_id, keyframes, np.concatenate(features)
            keyframes, features = [], []
        with torch.no_grad():
            inputs = (values.to(device, non_blocking=True) for values in batch.inputs)
            features.append(model.actor_features(*inputs).float().cpu().numpy())
        keyframes += batch.keyframes
        advance(len(batch.keyframes))
    if keyframes:
        yield keyframes[0].video_id, keyframes, np.concatenate(features)


def _table(keys_of: Mapping[str, NDArray[np.int64]]) -> ActorTable:
    """Return the rows of sorted, distinct (R, 5) keys of each video as a table, in their order."""
    names = sorted(keys_of)
    counts = [len(keys_of[name]) for name in names]
    keys = np.concatenate([keys_of[name] for name in names])
    rows = AvaRows(
        path="people of the label page",
        video_names=tuple(names),
        video_index=np.repeat(np.arange(len(names)), counts).astype(np.int32),
        time_us=keys[:, 0],
        boxes_01=keys[:, 1:] / _BOX_STEPS,
        action_id=np.full(len(keys), -1, np.int32),
    )
    return build_actor_table(rows, _NO_CLASSES, labelled=False)


def _sampling(config: RunConfig) -> dict[str, object]:
    sampling = config.clip.sampling
    return {
        "num_frames": sampling.num_frames,
        "step": sampling.step,
        "at_ends": sampling.at_ends,
        **({"stream": True} if sampling.stream else {}),
        "short_side_px": config.clip.test_short_side_px,
    }


def _say(text: str) -> None:
    tqdm.write(printable(text), file=sys.stderr)
