"""The annotator of a label page, played by a script that knows one person of each video.

    python -m benchmarks.page_annotator --dataset data/raw --annotation JHMDB-GT.pkl

It sees the people of the page as the page's reader does (tracks of detected boxes) and writes the
file that the page exports, `labels/labels.json`, by the project's own writer. The page itself is
driven in a browser by `label_page.py`. Legend: n annotated frames, K keyframes of a track.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.boxes import paired_iou
from detection.datasets.folder import DatasetFolder
from detection.datasets.label_file import LabelFile, LabelledPerson, LabelledVideo, write_label_file
from detection.datasets.labelling_task import read_labelling_task
from detection.formats.safe_pickle import read_plain_pickle
from detection.review.document import ReviewTrack
from detection.review.labelling import find_people_to_label
from detection.review.page import page_key
from detection.structures import LabelMap
from detection.video.frame_folder import nearest_frames
from detection.video.reader import VideoReader

LEAST_IOU = 0.4  # with the annotated person, of a track that the annotator takes for that person
_SAME_FRAME_S = 0.05


@dataclass(frozen=True)
class KnownPerson:
    """The annotated person of a clip.

    action: the one that is done.  times_s: (n,) ascending.  boxes_01: (n, 4).
    """

    action: str
    times_s: NDArray[np.float64]
    boxes_01: NDArray[np.float64]

    def overlap(self, times_s: NDArray[np.float64], boxes_01: NDArray[np.floating]) -> float:
        """Return the mean IoU of (K, 4) boxes at (K,) times, of those where the person is known.

        0 where the person is known at none of them.
        """
        if not len(self.times_s) or not len(times_s):
            return 0.0
        frame = nearest_frames(self.times_s, np.asarray(times_s, np.float64))
        known = np.abs(self.times_s[frame] - times_s) < _SAME_FRAME_S
        if not known.any():
            return 0.0
        boxes = np.asarray(boxes_01, np.float64)[known]
        return float(paired_iou(boxes, self.boxes_01[frame[known]]).mean())


def known_person(annotation: Mapping[str, Any], name: str, video: Path) -> KnownPerson:
    """Return the person of a JHMDB clip (CLASS/NAME), at the presentation times of its frames.

    annotation: the pickle: frames from 1, pixels of which the last one lies inside.
    """
    ((tube,),) = annotation["gttubes"][name].values()
    with VideoReader(video) as reader:
        times_s = reader.decoded_times_s()
    height, width = annotation["resolution"][name]
    frame = tube[:, 0].astype(np.int64) - 1
    there = frame < len(times_s)  # a few clips are shorter than their annotation
    boxes = (tube[there, 1:5] + [0, 0, 1, 1]) / [width, height, width, height]
    return KnownPerson(name.split("/")[0], times_s[frame[there]], np.clip(boxes, 0, 1))


def label_people(root: Path, known: Mapping[str, KnownPerson]) -> int:
    """Label the page of the data set `root` and export; return how many tracks were labelled.

    known: by video. A track of at least `LEAST_IOU` with the known person gets that person's action
    from first to last. Everybody else stays undecided: what they do is not known, nor whether a box
    without a known person is of nobody.
    """
    folder = DatasetFolder.open(root)
    task = read_labelling_task(folder.root)
    label_map = task.label_map(folder)
    people = find_people_to_label(
        folder,
        task.split,
        task.boxes,
        num_classes=len(label_map),
        least_person_score=task.min_score,
        least_length=task.min_length,
    )
    videos = []
    for video_id, tracks in people.tracks.items():
        video = _labelled_video(video_id, tracks, known[video_id], label_map)
        if video is not None:
            videos.append(video)
    path = folder.root / "labels" / "labels.json"
    path.parent.mkdir(exist_ok=True)
    page = page_key(folder.root / "label" / "review.html")
    exported = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    file = LabelFile(str(path), page, "script", exported, folder.name, label_map, tuple(videos))
    write_label_file(path, file)
    return sum(len(video.people) for video in videos)


def _labelled_video(
    video_id: str, tracks: Sequence[ReviewTrack], known: KnownPerson, label_map: LabelMap
) -> LabelledVideo | None:
    """Return what is decided in one video, as the page exports it; None: nothing."""
    people = []
    others_us = [np.zeros(0, np.int64)]
    for track in tracks:
        times_us = np.rint(track.times_s * 1e6).astype(np.int64)
        if known.overlap(track.times_s, track.boxes_01) < LEAST_IOU:
            others_us.append(times_us)
            continue
        labels = np.zeros((len(times_us), len(label_map)), bool)
        labels[:, label_map.index_by_name[known.action]] = True
        boxes_01 = np.asarray(track.boxes_01, np.float64)
        people.append(LabelledPerson(track.track_id, times_us, boxes_01, labels))
    if not people:
        return None
    keyframes_us = np.unique(np.concatenate([person.times_us for person in people]))
    others = np.concatenate(others_us)
    undecided = (others[None, :] == keyframes_us[:, None]).sum(1).astype(np.int64)
    return LabelledVideo(video_id, keyframes_us, undecided, tuple(people))


def label_jhmdb(root: Path, annotation: Mapping[str, Any]) -> int:
    """Label the page of a data set of JHMDB's clips, named as there; as `label_people`."""
    names = {name.split("/")[-1]: name for name in annotation["gttubes"]}
    known = {}
    for path in sorted((root / "videos").iterdir()):
        if path.stem in names:
            known[path.stem] = known_person(annotation, names[path.stem], path)
    try:
        return label_people(root, known)
    except KeyError as missing:
        raise SystemExit(f"{root}: no clip of JHMDB is named {missing}") from None


def main() -> None:
    """Write the labels of a data set's page, and say how many people were labelled."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--annotation", type=Path, required=True, help="JHMDB-GT.pkl")
    options = parser.parse_args()
    labelled = label_jhmdb(options.dataset, read_plain_pickle(options.annotation))
    print(f"{labelled} people labelled -> {options.dataset}/labels/labels.json")


if __name__ == "__main__":
    main()
