"""Draw ground truth beside predictions: annotated videos, sheets and a review page."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import (
    any_seconds,
    command_parser,
    file_name,
    run_command,
    seconds,
    share,
    whole_number,
)
from detection.errors import UserError, printable

if TYPE_CHECKING:
    from detection.datasets.ava_csv import AvaRows
    from detection.datasets.folder import DatasetFolder
    from detection.datasets.open_video import FrameSource
    from detection.drawing.annotated_video import Look, VideoActors
    from detection.structures import ClassThresholds, LabelMap

EPILOG = """examples:
  python -m ava_tools.visualize --run runs/demo_x3d_xs
  python -m ava_tools.visualize --run runs/demo_x3d_xs --video-id val_003 --sheet
  python -m ava_tools.visualize --video clip.mp4 --ground-truth gt.csv --detections det.csv \\
      --label-map map.pbtxt --out drawn.mp4 --sheet keyframes.png
  python -m ava_tools.visualize --run runs/demo_x3d_xs --review       # the review page alone
  python -m ava_tools.visualize --review --dataset data/mine --split val --detections det.csv \\
      --out review_of_val
  python -m ava_tools.visualize --review --video clip.mp4 --detections det.csv \\
      --label-map map.pbtxt --out review_of_clip

A run's review page, of its whole validation set, is RUN/visualize/review/review.html: open it from
disk with a browser. It takes corrections, see docs/review.md.

Boxes move in a straight line from keyframe to keyframe where they are the same person's. A label is
right when the ground truth's best-overlapping person carries it."""


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser("visualize", __doc__, EPILOG)
    # fmt: off
    run = parser.add_argument_group("a run")
    run.add_argument("--run", type=Path, help="run folder; videos and sheets go to RUN/visualize")
    run.add_argument("--videos", type=whole_number(1), default=3, help="how many (default: 3)")
    run.add_argument("--data", type=Path, help="data set folder, if it moved since the run")
    split = parser.add_argument_group("a split of a data set (with --review)")
    split.add_argument("--dataset", type=Path, help="data set folder")
    split.add_argument("--split", default="val", help="its split (default: val)")
    files = parser.add_argument_group("single files")
    files.add_argument("--video", type=Path, help="video file")
    files.add_argument("--ground-truth", type=Path, help="ground-truth CSV")
    files.add_argument("--detections", type=Path, help="detections CSV")
    files.add_argument("--label-map", type=Path, help="label map (pbtxt)")
    files.add_argument("--out", type=Path,
        help="annotated video to write (.mp4); with --review: a folder")
    review = parser.add_mutually_exclusive_group()
    review.add_argument("--review", action="store_true", help="write the review page, no video")
    review.add_argument("--no-review", action="store_true", help="with --run: no review page")
    add = parser.add_argument
    add("--video-id", help="id in the CSV files (default: the file's name)")
    add("--sheet", nargs="?", const="", metavar="PNG",
        help="also a sheet of keyframes (with --run: RUN/visualize/keyframes.png)")
    add("--keyframes-only", action="store_true", help="the sheet alone, no annotated video")
    add("--sheet-keyframes", type=whole_number(1), default=12,
        help="keyframes on the sheet (default 12)")
    add("--threshold", type=share, metavar="S", help="lowest probability of a label "
        "(default: 0.3; with --run as the run learned it for each class)")
    add("--top-k", type=whole_number(1), default=3, help="most labels of a person (default 3)")
    add("--iou", type=share, default=0.5,
        help="lowest IoU of boxes of the same person (default 0.5)")
    add("--start", type=seconds, metavar="S", help="first second that is drawn")
    add("--end", type=any_seconds, metavar="S", help="last second that is drawn")
    add("--seconds", type=any_seconds, default=60.0,
        help="longest annotated video; 0: no limit (default: 60)")
    add("--short-side", type=whole_number(64, 4320), metavar="PX", help="of a panel, in pixels")
    # fmt: on
    options = parser.parse_args(arguments)
    _check(parser, options)
    options.as_learned = options.threshold is None
    options.threshold = 0.3 if options.as_learned else options.threshold
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    sources = (options.run, options.video, options.dataset)
    run, video, dataset = (source is not None for source in sources)
    files, drawn = options.ground_truth or options.detections, not options.review
    sheet, keyframes_only, no_out = options.sheet, options.keyframes_only, options.out is None
    for wrong, message in (
        (run + video + dataset != 1, "give --run RUN, or --video V with --label-map, --out and CSV "
         "files, or --review with --dataset DIR"),
        (dataset and drawn, "--dataset goes with --review"),
        (not drawn and (sheet is not None or keyframes_only),
         "--review writes the review page alone: --sheet cannot be combined with it"),
        (video and (options.label_map is None or not files),
         "--video needs --label-map, and --ground-truth, --detections or both"),
        (run and options.detections is not None,
         "--detections goes with --video or --dataset; a run has its own"),
        (not drawn and not run and no_out, "--review needs --out FOLDER"),
        (run and not no_out,
         "--out goes with --video; what is drawn of a run goes to RUN/visualize"),
        (drawn and video and no_out and not keyframes_only,
         "--video needs --out FILE (or --keyframes-only with --sheet PNG)"),
        (drawn and video and (sheet == "" or (keyframes_only and sheet is None)),
         "--sheet needs a file name with --video"),
    ):  # fmt: skip
        if wrong:
            parser.error(message)


@dataclass(frozen=True)
class Job:
    """One video to draw: where its frames are and who is in it."""

    actors: VideoActors
    video_path: Path | None
    open: Callable[[], FrameSource]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    opened = None if options.run is None else _open_run(options)
    if options.review:
        print(printable(str(_write_review(options, opened))))
        return 0
    look, jobs = _file_jobs(options) if opened is None else _run_jobs(options, opened)
    _warn_of_glyphs(jobs)
    for job in jobs:
        if job.video_path is not None:
            _write_video(job, options, look)
            print(printable(str(job.video_path)))
    if options.sheet is not None or options.keyframes_only:
        sheet = Path(options.sheet or options.run / "visualize" / "keyframes.png")
        _write_sheet(sheet, jobs, options, look)
        print(printable(str(sheet)))
    whole = options.run is not None and options.video_id is None and not options.keyframes_only
    if whole and not options.no_review:
        print(printable(str(_write_review(options, opened))))
    return 0


def _warn_of_glyphs(jobs: Sequence[Job]) -> None:
    from detection.drawing.text import font_warning

    names = {job.actors.video_id for job in jobs}
    for job in jobs:
        for keyframes in (job.actors.truth or {}, job.actors.predicted or {}):
            actors = itertools.chain.from_iterable(keyframes.values())
            names.update(label.name for actor in actors for label in actor.labels)
    if warning := font_warning(names):
        print(warning, file=sys.stderr)


def _read_files(options: argparse.Namespace) -> tuple[LabelMap, AvaRows | None, AvaRows | None]:
    """Return label map, ground truth and detections; all are found before any is read."""
    for path in (options.video, options.label_map, options.ground_truth, options.detections):
        if path is not None and not path.is_file():
            raise UserError(f"{path}: {'video ' * (path is options.video)}file not found")
    from detection.datasets.ava_csv import read_detections, read_ground_truth
    from detection.datasets.label_map import read_label_map

    return (
        read_label_map(options.label_map),
        read_ground_truth(options.ground_truth) if options.ground_truth else None,
        read_detections(options.detections) if options.detections else None,
    )


def _file_jobs(options: argparse.Namespace) -> tuple[Look, list[Job]]:
    label_map, truth, predicted = _read_files(options)
    from detection.drawing.annotated_video import actors_of
    from detection.video.reader import VideoReader

    look = _look(options)
    video_id = options.video_id or options.video.stem
    actors = actors_of(video_id, label_map, truth=truth, predicted=predicted, look=look)
    path = None if options.keyframes_only else options.out
    return look, [Job(actors, path, partial(VideoReader, options.video))]


@dataclass(frozen=True)
class ScoredRun:
    """A run folder that was scored, and the data it was scored on."""

    folder: DatasetFolder
    split: str
    detections: Path
    heading: str
    note: str
    learned: ClassThresholds | None = None
    classes: LabelMap | None = None
    taught: LabelMap | None = None  # of a run that `teach` wrote: there is no ground truth

    def read_truth(self) -> AvaRows | None:
        """Return the ground truth of the split, None for a taught run."""
        from detection.datasets.actor_table import read_ground_truth_rows

        if self.taught is not None:
            return None
        return read_ground_truth_rows(self.folder.split(self.split))

    def label_map(self) -> LabelMap:
        """Return the classes of the data."""
        return self.folder.read_label_map() if self.taught is None else self.taught

    def thresholds_by_name(self) -> dict[str, float]:
        """Return learned thresholds by class name."""
        if self.learned is None or self.classes is None:
            return {}
        return dict(zip(self.classes.names, self.learned.score.tolist(), strict=True))

    def thresholds_by_id(self, label_map: LabelMap) -> dict[int, float]:
        """Return learned thresholds by the ids of a label map."""
        by_name = self.thresholds_by_name()
        named = zip(label_map.names, label_map.ids, strict=True)
        return {number: by_name[name] for name, number in named if name in by_name}


def _learned_thresholds(
    run: Path, *, multiplied: bool | None
) -> tuple[ClassThresholds | None, LabelMap | None]:
    """Return the thresholds in a run's checkpoint, and its classes; None where it has none.

    multiplied: whether the run's detections are multiplied by the confidence in the person; None
    where they were made as the thresholds ask for.
    """
    from detection.checkpoints.file import read_model_file
    from detection.reports.thresholds_text import thresholds_line

    path = run / "checkpoints" / "last.pt"
    file = read_model_file(path, weights_only=True) if path.is_file() else None
    if file is None or file.thresholds is None or file.classes is None:
        return None, None
    if multiplied is not None and file.thresholds.times_person_score != multiplied:
        print(
            f"{printable(str(path))}: its thresholds are for scores "
            + ("that are not " * multiplied + "multiplied by the confidence in the person")
            + ", unlike those that are drawn; 0.3 is used (--threshold S)",
            file=sys.stderr,
        )
        return None, None
    print(printable(thresholds_line(file.thresholds, file.classes)), file=sys.stderr)
    return file.thresholds, file.classes


def _open_run(options: argparse.Namespace) -> ScoredRun:
    from detection.checkpoints.plain_file import is_model_folder
    from detection.config import load_config
    from detection.datasets.folder import DatasetFolder
    from detection.structures import GROUND_TRUTH_BOXES
    from detection.teaching.scored import is_taught, score_taught_run

    run: Path = options.run
    if not run.is_dir():
        raise UserError(f"{run}: run folder not found")
    if is_model_folder(run):
        raise UserError(
            f"{run}: a model folder, which holds no detections; python train_ava.py --eval-only "
            f"--checkpoint {run} output=FOLDER makes them, and --review --dataset DIR --detections "
            "FOLDER/detections.csv shows them"
        )
    config = load_config(run / "config.yaml")
    if config.task == "classification":
        raise UserError(
            f"{run}: classifies whole clips, there are no boxes to draw; its answers are in "
            f"{run / 'predictions.csv'}"
        )
    detections, taught = run / "detections.csv", None
    if is_taught(run):
        detections, taught = score_taught_run(run, dataset=options.data, show_progress=True)
    elif not detections.is_file():
        raise UserError(
            f"{detections}: file not found; make it with: python train_ava.py --eval-only "
            f"--checkpoint {run}"
        )
    folder = DatasetFolder.open(options.data or config.data.root)
    on_truth = config.data.val_boxes == GROUND_TRUTH_BOXES
    heading = "Prediction on ground-truth boxes" if on_truth else "Prediction"
    note = folder.name + " (made-up people)" * folder.file.made_up
    learned, classes = None, None
    if options.as_learned:
        multiplied = config.evaluation.multiply_person_score and not on_truth
        as_scored = None if taught is not None else multiplied
        learned, classes = _learned_thresholds(run, multiplied=as_scored)
    split = config.data.val_split
    return ScoredRun(folder, split, detections, heading, note, learned, classes, taught)


def _write_review(options: argparse.Namespace, run: ScoredRun | None) -> Path:
    from detection.datasets.actor_table import read_ground_truth_rows
    from detection.datasets.ava_csv import read_detections
    from detection.datasets.folder import DatasetFolder
    from detection.review.dataset_pages import ReviewRows, review_file, review_split

    if options.video is not None:
        rows = ReviewRows(*_read_files(options), score_threshold=options.threshold)
        video_id = options.video_id or options.video.stem
        return review_file(options.out, options.video, video_id, rows)
    if run is not None:
        out, folder, name = options.run / "visualize" / "review", run.folder, run.split
        detections, title, note = run.detections, options.run.resolve().name, run.note
        note = f"{run.heading}, {note}"
        by_id, truth = run.thresholds_by_id(run.label_map()), run.read_truth()
    else:
        out, folder, name = options.out, DatasetFolder.open(options.dataset), options.split
        detections, title, note = options.detections, folder.name, f"split {name}"
        by_id = {}
        truth = read_ground_truth_rows(folder.split(name))
    split = folder.split(name)
    return review_split(
        out,
        folder,
        split,
        read_detections(detections) if detections else None,
        truth=truth,
        label_map=None if run is None else run.taught,
        title=title,
        note=note,
        score_threshold=options.threshold,
        class_thresholds=by_id,
        video_ids=[options.video_id] if options.video_id else None,
        show_progress=True,
    )


def _run_jobs(options: argparse.Namespace, opened: ScoredRun) -> tuple[Look, list[Job]]:
    from detection.datasets.ava_csv import read_detections
    from detection.datasets.open_video import open_video
    from detection.drawing.annotated_video import actors_of

    run, folder = options.run, opened.folder
    look = replace(
        _look(options, heading=opened.heading, note=opened.note),
        class_thresholds=opened.thresholds_by_name(),
        exclusive=tuple(tuple(names) for names in folder.file.exclusive.values()),
    )
    truth, label_map = opened.read_truth(), opened.label_map()
    predicted = read_detections(opened.detections)
    video_ids = [options.video_id] if options.video_id else _spread(predicted, options.videos)
    if not video_ids:
        raise UserError(f"{opened.detections}: no rows at all")
    jobs: list[Job] = []
    for number, video_id in enumerate(video_ids):
        actors = actors_of(video_id, label_map, truth=truth, predicted=predicted, look=look)
        path = None
        if not options.keyframes_only:
            path = run / "visualize" / f"{file_name(video_id, otherwise='video')}.mp4"
            if path in [job.video_path for job in jobs]:
                path = path.with_name(f"{path.stem}_{number}.mp4")
        jobs.append(Job(actors, path, partial(open_video, folder, video_id)))
    return look, jobs


def _spread(rows: AvaRows, count: int) -> list[str]:
    names = sorted(rows.video_names)
    if len(names) <= count:
        return names
    return [names[round(i * (len(names) - 1) / max(1, count - 1))] for i in range(count)]


def _look(options: argparse.Namespace, heading: str = "Prediction", note: str = "") -> Look:
    from detection.drawing.annotated_video import Look

    return Look(
        score_threshold=options.threshold,
        top_k=options.top_k,
        iou_threshold=options.iou,
        short_side_px=options.short_side,
        prediction_heading=heading,
        note=note,
    )


def _write_video(job: Job, options: argparse.Namespace, look: Look) -> None:
    from tqdm import tqdm

    from detection.drawing.annotated_video import choose_frames, write_annotated_video

    assert job.video_path is not None
    with job.open() as source:
        all_times_s = source.frame_times_s()
        limits = {"start_s": options.start, "end_s": options.end}
        times_s = choose_frames(all_times_s, job.actors, max_s=options.seconds or None, **limits)
        whole = choose_frames(all_times_s, job.actors, max_s=None, **limits)
        if len(times_s) < len(whole):
            print(
                f"{printable(job.actors.video_id)}: {options.seconds:g} s of "
                f"{whole[-1] - whole[0]:.0f} s drawn (--seconds 0: all)",
                file=sys.stderr,
            )
        with tqdm(
            total=len(times_s), unit="frame", desc=printable(job.video_path.name)[-40:]
        ) as bar:
            write_annotated_video(
                job.video_path, source, job.actors, times_s, look=look, on_progress=bar.update
            )


def _write_sheet(path: Path, jobs: Sequence[Job], options: argparse.Namespace, look: Look) -> None:
    from detection.drawing.annotated_video import SheetPart, spread_keyframes, write_sheet

    each = max(1, options.sheet_keyframes // len(jobs))
    with ExitStack() as opened:
        parts = []
        for job in jobs:
            source = job.open()
            opened.callback(source.close)
            times_s = source.frame_times_s()
            keyframes_s = spread_keyframes(job.actors, times_s, each)
            parts.append(SheetPart(source, job.actors, keyframes_s))
        write_sheet(path, parts, look=look)


if __name__ == "__main__":
    run_command(main)
