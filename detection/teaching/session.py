"""One data set being taught: its people, its network, what is decided, and the page written again.

Legend: R decided people at keyframes, K keyframes of a track, A classes, F features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detection import build
from detection.config import RunConfig
from detection.datasets.folder import DatasetFolder
from detection.datasets.labelling_task import LabellingTask, read_labelling_task
from detection.engine.environment import prepare_device
from detection.engine.probe import scores_out_of_fold, set_last_layer
from detection.errors import UserError
from detection.models.action_detector import ActionDetector
from detection.models.soundness import broken_signs, largest_logit
from detection.review.labelling import PeopleToLabel, find_people_to_label, write_label_pages
from detection.structures import ClassThresholds, LabelMap
from detection.teaching.features import FeatureStore, PersonKeyframes, compute_missing, feature_key
from detection.teaching.fit import choose_learned, fit_shown_classes, probabilities
from detection.teaching.labelled import Labelled, decisions_of, people_of, undecided_keyframes
from detection.teaching.order import suggest_order
from detection.teaching.run import write_taught_run

PAGE_FOLDER = "label"


@dataclass(frozen=True)
class Network:
    """A network that features are taken from, and the features that it has given so far."""

    model: ActionDetector
    store: FeatureStore
    device: torch.device
    report: str


@dataclass(frozen=True)
class Rows:
    """All decided people whose clips could be read.

    features: (R, F).  labels: (R, A) float32.  video: (R,) number of the video.  track: (R,) a
    number for each person.  learned: (R,) which are fitted to.  person_score: (R,).
    """

    features: Tensor
    labels: Tensor
    video: NDArray[np.int64]
    track: NDArray[np.int64]
    learned: NDArray[np.bool_]
    person_score: NDArray[np.float64]


@dataclass
class Session:
    """What stays the same while labels come in.

    folder: the data set.  task: whose people are labelled, with what.  config: how features are
    made and what is fitted.  run: the run folder.
    """

    folder: DatasetFolder
    task: LabellingTask
    config: RunConfig
    run: Path
    show_progress: bool = False
    computed: int = field(default=0, init=False)  # people at keyframes, just now
    known: int = field(default=0, init=False)  # people at keyframes whose features are needed
    unreadable: list[str] = field(default_factory=list, init=False)

    @classmethod
    def open(
        cls, dataset: Path, config: RunConfig, run: Path, *, show_progress: bool = False
    ) -> Session:
        """Read what is to be labelled; the configuration takes its data from there."""
        folder = DatasetFolder.open(dataset)
        task = read_labelling_task(folder.root)
        data = dataclasses.replace(
            config.data,
            root=str(dataset),
            train_split=task.split,
            val_split=task.split,
            val_boxes=task.boxes,
            box_score_threshold=task.min_score,
        )
        _check_config(config)
        config = dataclasses.replace(config, data=data, output=str(run))
        return cls(folder, task, config, run, show_progress)

    @cached_property
    def label_map(self) -> LabelMap:
        """The classes, with which exclude each other."""
        return self.task.label_map(self.folder)

    @cached_property
    def people(self) -> PeopleToLabel:
        """The people of the page."""
        return find_people_to_label(
            self.folder,
            self.task.split,
            self.task.boxes,
            num_classes=len(self.label_map),
            least_person_score=self.task.min_score,
            least_length=self.task.min_length,
        )

    @cached_property
    def network(self) -> Network:
        """The network with its pretrained weights, fetched where they have a published name."""
        device = prepare_device(self.config)
        torch.manual_seed(self.config.seed)
        model = build.build_model(self.config, num_classes=len(self.label_map))
        report = build.start_from_pretrained(self.config, model, self.label_map)
        width = model.head.classes.in_features
        store = FeatureStore(self.folder, feature_key(model, self.config), num_features=width)
        placed = build.place_model(model, device)
        assert isinstance(placed, ActionDetector)
        return Network(placed, store, device, str(report).split("\n")[0])

    def compute_features(self, labelled: Mapping[str, Labelled]) -> None:
        """Compute what is not kept yet: of everybody on the page and in the label files."""
        of_videos = {}
        for video_id, tracks in self.people.tracks.items():
            parts = [people_of(track) for track in tracks]
            if video_id in labelled:
                parts.append(labelled[video_id].people)
            of_videos[video_id] = PersonKeyframes.joined(parts)
        self.known = sum(len(np.unique(people.keys, axis=0)) for people in of_videos.values())
        network = self.network
        self.computed, self.unreadable = compute_missing(
            network.store,
            self.config,
            network.model,
            of_videos,
            device=network.device,
            show_progress=self.show_progress,
        )

    def rows(self, labelled: Mapping[str, Labelled]) -> Rows:
        """Return what there is to learn from."""
        parts: list[Labelled] = []
        features: list[NDArray[np.float32]] = []
        for video_id in sorted(labelled):
            seen, found = self.network.store.read(video_id, labelled[video_id].people)
            parts.append(labelled[video_id].select(found))
            features.append(seen[found])
        if not sum(map(len, parts)):
            raise UserError("none of the decided people has a clip that can be read")
        video = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        pairs = np.stack([video, np.concatenate([part.track for part in parts])])
        labels = np.concatenate([part.labels for part in parts])
        track = np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1)
        time_us = np.concatenate([part.people.time_us for part in parts])
        return Rows(
            torch.from_numpy(np.concatenate(features)),
            torch.from_numpy(labels.astype(np.float32)),
            video,
            track,
            choose_learned(track, time_us, labels),
            np.concatenate([part.person_score for part in parts]),
        )

    def fit(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Fit the last layer, put it into the network, and return it."""
        head = self.network.model.head
        learned = torch.from_numpy(rows.learned)
        layer = fit_shown_classes(
            rows.features[learned],
            rows.labels[learned],
            parts=head.feature_parts,
            l2=self.config.probe.l2,
        )
        set_last_layer(self.network.model, *layer)
        return layer

    def broken_signs(self, rows: Rows, layer: tuple[Tensor, Tensor]) -> tuple[str, ...]:
        """Return a line for each sign that the network, or what it says of the rows, is broken."""
        weights, biases = layer
        largest = largest_logit(rows.features @ weights.T + biases)
        return broken_signs(self.network.model, largest)

    def held_out_scores(self, rows: Rows) -> Tensor:
        """Return (R, A) probabilities by layers that were fitted to other videos."""
        return scores_out_of_fold(
            rows.features,
            rows.labels,
            rows.video,
            self.network.model.head.feature_parts,
            self.config.probe.l2,
            learned=rows.learned,
        )

    def write_run(self, summary: Mapping[str, Any], thresholds: ClassThresholds | None) -> None:
        """Write the run folder with the network as it is."""
        write_taught_run(
            self.run,
            self.network.model,
            config=self.config,
            folder=self.folder,
            label_map=self.label_map,
            summary=summary,
            thresholds=thresholds,
        )

    def score_undecided(
        self, labelled: Mapping[str, Labelled], layer: tuple[Tensor, Tensor]
    ) -> tuple[dict[tuple[str, int], NDArray[np.float32]], NDArray[np.float32]]:
        """Return (K, A) scores by (video, track) of tracks not wholly decided, and their means.

        The (T, A) means are over keyframes that are not decided; keyframes whose clip cannot be
        read have scores of 0 and do not count.
        """
        scores: dict[tuple[str, int], NDArray[np.float32]] = {}
        means = []
        for video_id, tracks in self.people.tracks.items():
            for track in tracks:
                open_ones = undecided_keyframes(track, labelled.get(video_id))
                if not open_ones.any():
                    continue
                features, found = self.network.store.read(video_id, people_of(track))
                mine = probabilities(features, layer).numpy() * found[:, None]
                scores[video_id, track.track_id] = mine.astype(np.float32)
                counted = mine[open_ones & found]
                means.append(counted.mean(0) if len(counted) else np.zeros(mine.shape[1]))
        width = len(self.label_map)
        return scores, np.array(means, np.float32).reshape(-1, width)

    def suggest(
        self, rows: Rows, labelled: Mapping[str, Labelled], layer: tuple[Tensor, Tensor]
    ) -> Path:
        """Write the page again: suggestions, who is next, and what is decided so far."""
        scores, means = self.score_undecided(labelled, layer)
        has_it = rows.labels.numpy() > 0
        counts = np.array([len(np.unique(rows.track[column])) for column in has_it.T], np.int64)
        names = list(scores)
        num_labelled = len(np.unique(rows.track))
        order = suggest_order(
            means,
            counts,
            num_none=num_labelled - len(np.unique(rows.track[has_it.any(1)])),
            num_labelled=num_labelled,
            seed=self.config.seed,
        )
        return self.write_page(
            labelled, scores=scores, order=[names[place] for place in order.tolist()]
        )

    def write_first_page(self) -> Path:
        """Write the page of people about whom nothing is known: in random order."""
        names = [(v, t.track_id) for v, tracks in self.people.tracks.items() for t in tracks]
        shuffled = np.random.default_rng(self.config.seed).permutation(len(names)).tolist()
        return self.write_page({}, scores=None, order=[names[place] for place in shuffled])

    def write_page(
        self,
        labelled: Mapping[str, Labelled],
        *,
        scores: Mapping[tuple[str, int], NDArray[np.float32]] | None,
        order: Sequence[tuple[str, int]],
    ) -> Path:
        """Write DATASET/label/review.html."""
        return write_label_pages(
            self.folder.root / PAGE_FOLDER,
            self.folder,
            self.task.split,
            self.task.boxes,
            self.label_map,
            self.label_map.exclusive,
            scores=scores,
            order=order,
            decisions={video_id: decisions_of(one) for video_id, one in labelled.items()},
            least_person_score=self.task.min_score,
            least_length=self.task.min_length,
            show_progress=self.show_progress,
        )


def _check_config(config: RunConfig) -> None:
    if config.task != "actions":
        raise UserError(f"task '{config.task}': 'actions' is required, people are taught")
    if config.model.pretrained is None:
        raise UserError("model.pretrained is required: random features tell little")
    if config.model.actor_input != "roi":
        raise UserError(
            f"model.actor_input={config.model.actor_input}: what is kept of a person must hang on "
            "one box, 'roi' is required"
        )
    if config.model.exclusive_actions:
        raise UserError("model.exclusive_actions=true: classes are fitted one by one, false is "
                        "required")  # fmt: skip
    if config.people.relevance != "none":
        raise UserError("people.relevance=fit: teach fits none, people.relevance=none is required")
