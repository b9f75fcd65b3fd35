"""Writes the review page of a data set's split or of one file, with videos and thumbnails."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detection.datasets.ava_csv import AvaRows, read_keyframe_list, time_us_of
from detection.datasets.folder import DatasetFolder, Split
from detection.datasets.open_video import FrameSource, open_video
from detection.drawing.annotated_video import displayed_size, which_videos
from detection.drawing.paint import TRUTH
from detection.drawing.palette import Color, track_color
from detection.files import replacing
from detection.review.document import ReviewDocument, ReviewTrack, ReviewTruth, ReviewVideo
from detection.review.errors import find_errors
from detection.review.from_csv import keyframes_of, tracks_of, truth_of
from detection.review.media import place_playable_video, write_playable
from detection.review.page import write_review
from detection.structures import Keyframe, LabelMap
from detection.video.reader import VideoReader

_THUMBNAIL_SHORT_SIDE_PX = 240


@dataclass(frozen=True)
class ReviewRows:
    """Rows of the videos of a page: ground truth, detections or both (None: not given).

    exclusive: as `ReviewDocument.exclusive`.
    left_out: keyframes that are not reviewed.
    score_threshold, class_thresholds: as those of `ReviewDocument`.
    """

    label_map: LabelMap
    truth: AvaRows | None
    predicted: AvaRows | None
    exclusive: Mapping[str, Sequence[int]] = field(default_factory=dict)
    left_out: frozenset[Keyframe] = frozenset()
    score_threshold: float = 0.3
    class_thresholds: Mapping[int, float] = field(default_factory=dict)


def review_split(
    out: str | Path,
    folder: DatasetFolder,
    split: Split,
    predicted: AvaRows | None,
    *,
    truth: AvaRows | None,
    title: str,
    note: str = "",
    label_map: LabelMap | None = None,
    score_threshold: float = 0.3,
    class_thresholds: Mapping[int, float] | None = None,
    video_ids: Sequence[str] | None = None,
    show_progress: bool = False,
) -> Path:
    """Write the page of a split (or some of its videos) into the folder `out`; return its path.

    predicted: detections; None for the ground truth alone, which may be None beside detections.
    label_map: the classes, where the data set has no label map of its own.
    score_threshold, class_thresholds: as those of `ReviewDocument`.
    video_ids: videos to show (None: all that either file has).
    Raises `UserError` for a video that cannot be read, and for an id without any row.
    """
    exclusive: Mapping[str, Sequence[int]]
    if label_map is None:
        label_map = folder.read_label_map()
        exclusive = folder.exclusive_groups(label_map)
    else:
        exclusive = label_map.exclusive
    rows = ReviewRows(
        label_map,
        truth,
        predicted,
        exclusive=exclusive,
        left_out=read_keyframe_list(split.exclusions) if split.exclusions else frozenset(),
        score_threshold=score_threshold,
        class_thresholds=class_thresholds or {},
    )
    files = [given for given in (truth, predicted) if given is not None]
    known = {given.video_names[n] for given in files for n in np.unique(given.video_index)}
    known |= {key.video_id for given in files for key in given.empty_keyframes}
    for video_id in video_ids or ():
        if video_id not in known:
            raise which_videos(files[0], video_id)
    if video_ids is None:
        video_ids = sorted(known)
    videos = []
    bar = tqdm(video_ids, unit="video", desc="review page", disable=not show_progress)
    for number, video_id in enumerate(bar):
        name = f"{number:05d}"
        with open_video(folder, video_id) as source:
            path = folder.video_path(video_id)
            if path.is_dir():
                place = f"videos/{name}.mp4"
                write_playable(Path(out) / place, source)
            else:
                place = place_playable_video(path, out, name=name)
            videos.append(_video(Path(out), video_id, place, source, rows, number))
    document = _document(title, note, videos, rows)
    return write_review(out, dataclasses.replace(document, in_dataset=True))


def review_file(
    out: str | Path, video: str | Path, video_id: str, rows: ReviewRows, *, note: str = ""
) -> Path:
    """Write the page of one video file into the folder `out`; return its path.

    Raises `UserError` for a video that cannot be read, or that has no rows.
    """
    for given in (rows.truth, rows.predicted):
        if given is not None and not keyframes_of(video_id, given):
            raise which_videos(given, video_id)
    place = place_playable_video(video, out)
    with VideoReader(video) as source:
        videos = [_video(Path(out), video_id, place, source, rows)]
    return write_review(out, _document(video_id, note, videos, rows))


def _document(
    title: str, note: str, videos: Sequence[ReviewVideo], rows: ReviewRows
) -> ReviewDocument:
    return ReviewDocument(
        title,
        rows.label_map,
        videos,
        exclusive=rows.exclusive,
        score_threshold=rows.score_threshold,
        class_thresholds=rows.class_thresholds,
        note=note,
    )


def _video(
    out: Path,
    video_id: str,
    place: str,
    source: FrameSource,
    rows: ReviewRows,
    number: int | None = None,
) -> ReviewVideo:
    """Return a video's part of a page; `number`: with a thumbnail of that name."""
    thumbnail = None if number is None else f"thumbnails/{number:05d}.jpg"
    keyframes_s = keyframes_of(video_id, rows.truth, rows.predicted, left_out=rows.left_out)
    truth: ReviewTruth | None = None
    tracks: tuple[ReviewTrack, ...] = ()
    if rows.truth is not None:
        truth = truth_of(rows.truth, video_id, rows.label_map, keyframes_s)
    if rows.predicted is not None:
        tracks = tracks_of(rows.predicted, video_id, rows.label_map, keyframes_s, truth=truth)
    shown = video_as_displayed(video_id, place, source)
    video = dataclasses.replace(
        shown, keyframes_s=keyframes_s, tracks=tracks, truth=truth, thumbnail=thumbnail
    )
    if thumbnail is not None:
        _write_thumbnail(out / thumbnail, source, video, rows)
    return video


def video_as_displayed(video_id: str, place: str, source: FrameSource) -> ReviewVideo:
    """Return an opened video's size and span for a page, without keyframes or people.

    place: of the file that the page plays, relative to it.
    """
    width, height = displayed_size(source)
    start_s, end_s = source.span_s()
    return ReviewVideo(video_id, place, width, height, max(0.0, end_s - start_s), start_s)


def _write_thumbnail(path: Path, source: FrameSource, video: ReviewVideo, rows: ReviewRows) -> None:
    """Draw the keyframe with the worst error (else the middle one) with its boxes."""
    time_s = video.start_s + video.duration_s / 2
    if keyframes_s := list(video.keyframes_s):
        place = {time_us_of(t): k for k, t in enumerate(keyframes_s)}
        errors = find_errors(video, _document("", "", [video], rows), place)
        time_s = float(keyframes_s[errors[0][0] if errors else len(keyframes_s) // 2])
    write_thumbnail(path, source, video, time_s)


def write_thumbnail(path: Path, source: FrameSource, video: ReviewVideo, time_s: float) -> None:
    """Write the frame at a time as a small JPEG, with the boxes of that keyframe."""
    clip = source.read([time_s], short_side=min(_THUMBNAIL_SHORT_SIDE_PX, *source.frame_size()))
    frame: NDArray[np.uint8] = clip.frames[0].permute(1, 2, 0).contiguous().numpy()
    for person in () if video.truth is None else video.truth.people:
        _draw_boxes(frame, person.boxes_01[_at(person.times_s, time_s)], TRUTH, 2)
    for track in video.tracks:
        boxes_01 = track.boxes_01[_at(track.times_s, time_s)]
        _draw_boxes(frame, boxes_01, track_color(track.track_id), 1)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80]
    )
    assert done, "cv2 cannot encode a JPEG"
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _at(times_s: NDArray[np.float64], time_s: float) -> NDArray[np.bool_]:
    return np.isclose(times_s, time_s, rtol=0, atol=1e-6)


def _draw_boxes(
    frame: NDArray[np.uint8], boxes_01: NDArray[np.floating], color: Color, line_px: int
) -> None:
    size = np.array([frame.shape[1], frame.shape[0]] * 2)
    for box in boxes_01:
        x1, y1, x2, y2 = np.rint(box * size).astype(int).tolist()
        cv2.rectangle(frame, (x1, y1), (x2, y2), color, line_px, cv2.LINE_AA)
