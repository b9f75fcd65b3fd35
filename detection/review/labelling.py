"""Writes the page on which people whom no one has labelled yet are given their actions.

It is the review page in another mode (`ReviewDocument.mode`): people are detected boxes linked over
time, one decision labels a person from first to last. Legend: K keyframes of a track, A classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detection.datasets.ava_csv import AvaRows, read_person_boxes
from detection.datasets.folder import DatasetFolder
from detection.datasets.linked_boxes import link_person_boxes
from detection.datasets.open_video import FrameSource, open_video
from detection.errors import UserError, first_few
from detection.files import sha256_of_text
from detection.review.dataset_pages import video_as_displayed, write_thumbnail
from detection.review.document import Decision as Decision
from detection.review.document import ReviewDocument, ReviewTrack, ReviewVideo
from detection.review.from_csv import keyframes_of
from detection.review.media import place_playable_video, write_playable
from detection.review.page import write_review
from detection.structures import LabelMap

# A free action is suggested from here on; the page's slider moves it.
_LEAST_SUGGESTED = 0.5


def label_tracks(
    boxes: AvaRows,
    *,
    num_classes: int = 0,
    least_person_score: float = 0.5,
    least_length: int = 1,
) -> list[ReviewTrack]:
    """Link the person boxes of one video; the same boxes always give the same tracks.

    num_classes: A of the tracks' scores, which are all 0.
    least_person_score: lowest person score that starts a track.
    least_length: tracks of fewer boxes are left out.

    Boxes keep the numbers of the file.
    """
    linked = link_person_boxes(boxes, least_score=least_person_score, least_length=least_length)
    return [_track(number, boxes, rows, num_classes) for number, rows in linked.tracks.items()]


def _track(number: int, boxes: AvaRows, rows: NDArray[np.int64], num_classes: int) -> ReviewTrack:
    assert boxes.score is not None
    return ReviewTrack(
        number,
        boxes.time_us[rows] / 1e6,
        boxes.boxes_01[rows],
        np.zeros((len(rows), num_classes), np.float32),
        boxes.score[rows].astype(np.float32),
    )


@dataclass(frozen=True)
class PeopleToLabel:
    """The people of a split, by video in the order of the ids; videos without people are there too.

    tracks: as `label_tracks` gives them.
    keyframes_s: all keyframes of the box file.
    loose: boxes that are left out, below the least score.
    short: tracks that are left out, shorter than the least length.
    """

    tracks: Mapping[str, Sequence[ReviewTrack]]
    keyframes_s: Mapping[str, Sequence[float]]
    loose: int
    short: int

    @property
    def count(self) -> int:
        """How many people there are, in all videos."""
        return sum(map(len, self.tracks.values()))


def find_people_to_label(
    folder: DatasetFolder,
    split_name: str,
    boxes_name: str,
    *,
    num_classes: int = 0,
    least_person_score: float = 0.5,
    least_length: int = 1,
) -> PeopleToLabel:
    """Read the registered person boxes of a split and link them.

    Raises `UserError` for an unknown split or name, for boxes without scores, and for videos that
    are gone.
    """
    path = folder.boxes_path(folder.split(split_name), boxes_name)
    rows = read_person_boxes(path)
    if rows.score is None:
        raise UserError(f"{path}: person boxes need a score in column 8")
    tracks: dict[str, list[ReviewTrack]] = {}
    keyframes_s: dict[str, list[float]] = {}
    loose = short = 0
    for video_id in sorted({*rows.video_names, *(key.video_id for key in rows.empty_keyframes)}):
        keyframes_s[video_id] = keyframes_of(video_id, rows)
        tracks[video_id] = []
        if video_id not in rows.video_names:
            continue
        mine = rows.select(rows.video_index == rows.video_names.index(video_id))
        linked = link_person_boxes(mine, least_score=least_person_score, least_length=least_length)
        tracks[video_id] = [_track(n, mine, at, num_classes) for n, at in linked.tracks.items()]
        loose += linked.loose
        short += linked.short
    _check_videos(folder, path, list(tracks))
    return PeopleToLabel(tracks, keyframes_s, loose, short)


def _check_videos(folder: DatasetFolder, boxes: Path, video_ids: Sequence[str]) -> None:
    """Name videos that are gone before anything is computed: the page plays all of them."""
    gone = []
    for video_id in video_ids:
        try:
            folder.video_path(video_id)
        except UserError as error:
            gone.append(str(error))
    if gone:
        many = f"{len(gone):,} video{'s' * (len(gone) > 1)} with people"
        raise UserError(
            f"{boxes}: {many} not there ({first_few(gone)}): put back what was removed, or make "
            "the boxes again without it (detect_people)"
        )


def write_label_pages(
    out: str | Path,
    folder: DatasetFolder,
    split_name: str,
    boxes_name: str,
    label_map: LabelMap,
    exclusive: Mapping[str, Sequence[int]],
    *,
    scores: Mapping[tuple[str, int], NDArray[np.float32]] | None = None,
    order: Sequence[tuple[str, int]] | None = None,
    decisions: Mapping[str, Sequence[Decision]] | None = None,
    least_person_score: float = 0.5,
    least_length: int = 1,
    note: str = "",
    show_progress: bool = False,
) -> Path:
    """Write one page for all videos of a split into the folder `out`; return its path.

    exclusive: columns of classes that exclude each other, by group.
    scores: (K, A) probabilities by (video id, track id); such tracks show suggestions.
    order: (video id, track id) of the people that are to be decided first.
    decisions: by video, what is decided already.
    note: a line below the title.

    What is picked is kept in the browser by classes, videos and boxes alone: it survives that the
    page is written again with other scores, another order or more decisions. Videos and thumbnails
    that are there and no older than their source stay. Raises `UserError` for a video that cannot
    be read, `ValueError` for scores, an order or decisions on other tracks.
    """
    people = find_people_to_label(
        folder,
        split_name,
        boxes_name,
        num_classes=len(label_map),
        least_person_score=least_person_score,
        least_length=least_length,
    )
    path = folder.boxes_path(folder.split(split_name), boxes_name)
    given, videos = dict(scores or {}), []
    bar = tqdm(people.tracks, unit="video", desc="label page", disable=not show_progress)
    for video_id in bar:
        tracks = [_scored(track, given, video_id) for track in people.tracks[video_id]]
        decided = (decisions or {}).get(video_id, ())
        times_s = people.keyframes_s[video_id]
        videos.append(_video(Path(out), folder, path, video_id, tracks, times_s, decided))
    unknown = [*given, *((v, 0) for v in decisions or {} if v not in people.tracks)]
    if unknown:
        raise ValueError(f"scores or decisions of {unknown[0]}, which is not on the page")
    document = ReviewDocument(
        folder.name,
        label_map,
        videos,
        exclusive=exclusive,
        score_threshold=_LEAST_SUGGESTED,
        note=note or f"people: {boxes_name}, split {split_name}",
        mode="label",
        order=tuple(order or ()),
        in_dataset=True,
    )
    return write_review(out, document)


def _scored(
    track: ReviewTrack, given: dict[tuple[str, int], NDArray[np.float32]], video_id: str
) -> ReviewTrack:
    """Return a track with its scores, which are taken out of `given`; as it is where none are."""
    mine = given.pop((video_id, track.track_id), None)
    return track if mine is None else dataclasses.replace(track, action_scores=mine)


def _video(
    out: Path,
    folder: DatasetFolder,
    boxes_path: Path,
    video_id: str,
    tracks: Sequence[ReviewTrack],
    keyframes_s: Sequence[float],
    decisions: Sequence[Decision],
) -> ReviewVideo:
    # Named by the id, not by a number: another set of videos must not find the old ones' files.
    name = sha256_of_text(video_id)[:16]
    path = folder.video_path(video_id)
    with open_video(folder, video_id) as source:
        video = dataclasses.replace(
            video_as_displayed(video_id, _place(out, path, source, name), source),
            keyframes_s=keyframes_s,
            tracks=tracks,
            thumbnail=f"thumbnails/{name}.jpg",
            decisions=decisions,
        )
        assert video.thumbnail is not None
        if not _is_newer(out / video.thumbnail, path, boxes_path):
            write_thumbnail(out / video.thumbnail, source, video, _most_people_s(video))
    return video


def _place(out: Path, path: Path, source: FrameSource, name: str) -> str:
    """Put a video beside the page unless it is there; return its relative path."""
    for place in (f"videos/{name}{suffix}" for suffix in (".mp4", ".m4v", ".webm")):
        if _is_newer(out / place, path):
            return place
    if not path.is_dir():
        return place_playable_video(path, out, name=name)
    write_playable(out / f"videos/{name}.mp4", source)
    return f"videos/{name}.mp4"


def _is_newer(path: Path, *sources: Path) -> bool:
    if not path.is_file():
        return False
    return path.stat().st_mtime >= max(source.stat().st_mtime for source in sources)


def _most_people_s(video: ReviewVideo) -> float:
    """Return the keyframe with the most people, the middle one of several."""
    times_s = [time_s for track in video.tracks for time_s in track.times_s.tolist()]
    if not times_s:
        return video.start_s + video.duration_s / 2
    found, counts = np.unique(times_s, return_counts=True)
    most = found[counts == counts.max()]
    return float(most[len(most) // 2])
