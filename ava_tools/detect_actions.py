"""Detect actions in any video: an annotated video, a review page, tables and events."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import (
    any_seconds,
    any_seconds_above_0,
    command_parser,
    file_name,
    path_text,
    run_command,
    seconds,
    seconds_above_0,
    share,
    whole_number,
)
from detection.errors import EXIT_STOPPED, UserError, printable
from detection.files import only_writer

if TYPE_CHECKING:
    from detection.pipeline import ActionDetectorPipeline, PipelineOptions
    from detection.pipeline.video_folders import VideoFolder
    from detection.video.stream import Gap, VideoStream

EXAMPLE = """examples:
  python -m ava_tools.detect_actions video.mp4
  python -m ava_tools.detect_actions video.mp4 --checkpoint runs/demo_x3d_xs --out found/video
  python -m ava_tools.detect_actions videos/ --checkpoint RUN --people runs/people --out found
  python -m ava_tools.detect_actions a.mp4 b.mp4 videos/ --checkpoint RUN --out found
  torchrun --nproc-per-node 4 -m ava_tools.detect_actions videos/ --checkpoint RUN --out found
  python -m ava_tools.detect_actions rtsp://10.0.0.7/door --checkpoint RUN --out found/door
  ffmpeg -i tape.avi -f matroska - | python -m ava_tools.detect_actions - --checkpoint RUN --out f

--out gets annotated.mp4, review.html, detections.csv (AVA's form), tracks.jsonl and events.jsonl;
of a folder or several videos a folder with these for each, index.html, events.csv and events.jsonl.
A run that was killed goes on from its last whole segment when the same command is given again."""

WHOLE_FRAME = "whole-frame"  # of `detection.people.whole_frame`, which loads torch
MOST_GAPS = 3  # of a video named one by one
_BAR_WITHOUT_END = "{desc} {n:.0f} s of video, {rate_noinv_fmt}"
_BAR = (
    "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of video, {rate_noinv_fmt}, "
    "{remaining} left"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    if options.status is not None:
        return _print_status(options.status)
    if options.engine is not None:
        return _run_archive(options)
    videos, root = _find(options.video, None if options.out is None else Path(options.out))
    import torch

    from detection.checkpoints.hub import DEFAULT_NETWORK
    from detection.devices import choose_device
    from detection.engine.environment import keep_malloc_memory
    from detection.pipeline import ActionDetectorPipeline
    from detection.signals import stop_signals

    keep_malloc_memory()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    detector = ActionDetectorPipeline.from_checkpoint(
        options.checkpoint or DEFAULT_NETWORK,
        people=options.people,
        options=_pipeline_options(options),
        device=choose_device(options.device),
        half_precision=options.half,
        runtime=options.runtime,
        on_note=lambda note: print(f"note: {printable(note)}", file=sys.stderr),
    )
    if options.film:
        from detection.drawing.text import font_warning

        if warning := font_warning(detector.networks.label_map.names):
            print(warning, file=sys.stderr)
    for note in detector.networks.notes:
        print(f"note: {note}", file=sys.stderr)
    with stop_signals() as should_stop:
        if root is None:
            (video,) = videos
            stopped = _run_one(detector, video, options, should_stop)
        else:
            stopped = _run_folder(detector, videos, root, options, should_stop)
    for sign in detector.networks.signs_of_damage():
        print(f"warning: {sign}", file=sys.stderr)
    return EXIT_STOPPED if stopped else 0


def _print_status(root: str) -> int:
    from detection.archive.status import status_lines

    print("\n".join(status_lines(root)))
    return 0


def _run_archive(options: argparse.Namespace) -> int:
    """Run thousands of videos by an engine; see detection/archive/."""
    from detection.archive.pieces import WorkOptions
    from detection.archive.run import ArchiveOptions, run_archive
    from detection.cores import has_gpu
    from detection.jobs.base import Resources
    from detection.people.shards import Shard
    from detection.signals import stop_signals

    on_gpu = options.device.startswith("cuda") or options.device == "auto" and has_gpu()
    threads = options.threads or 1
    pipeline = _pipeline_options(options)
    work = WorkOptions(
        root=str(options.out or "found"),
        checkpoint=options.checkpoint,
        people=options.people,
        # The same batches whichever machine makes them.
        pipeline=replace(pipeline, workers=pipeline.workers or threads),
        device=options.device,
        half_precision=options.half,
        runtime=options.runtime,
        threads=threads,
        start_s=options.start,
        end_s=options.end,
        film=options.film,
        page=options.page,
        overwrite=options.overwrite,
        span_s=options.span,
    )
    archive = ArchiveOptions(
        work,
        options.engine,
        workers=options.workers,
        resources=Resources(threads, gpus=float(on_gpu)),
        address=options.address,
        retries=options.retries,
        shard=Shard.parse(options.shard) if options.shard else Shard(),
        quiet=options.quiet,
    )
    with stop_signals() as should_stop:
        return run_archive(options.video, archive, should_stop=should_stop)


def _find(sources: Sequence[str], out: Path | None) -> tuple[list[VideoFolder], Path | None]:
    """Return the videos, and the folder of their index: None for one that is not of a folder."""
    from detection.pipeline.folder_index import check_index
    from detection.pipeline.video_folders import find_videos, is_one_video
    from detection.pipeline.writers import check_folder

    found = Path("found")
    root = out or (found / _file_name(sources[0]) if len(sources) == 1 else found)
    videos = find_videos(sources, root)
    if is_one_video(sources):
        return videos, None
    check_folder(root)
    check_index(root)
    return videos, root


def _run_folder(
    detector: ActionDetectorPipeline,
    videos: Sequence[VideoFolder],
    root: Path,
    options: argparse.Namespace,
    should_stop: Callable[[], bool],
) -> bool:
    """Run this process's share of the videos and write the index; as `_run_one`."""
    from detection.pipeline.folder_index import index_line, write_index

    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    share = videos[rank::processes]
    outcomes: dict[str, str | None] = {}
    stopped = False
    for number, video in enumerate(share, 1):
        if stopped or should_stop():
            stopped = True
            break
        try:
            place = f"[{number}/{len(share)}] "
            stopped = _run_one(detector, video, options, should_stop, place=place)
            outcomes[video.name] = None
        except UserError as error:
            outcomes[video.name] = str(error)
            print("error: " + printable(str(error)), file=sys.stderr)
    print(index_line(root, write_index(root, videos, outcomes)), file=sys.stderr)
    if failed := sum(error is not None for error in outcomes.values()):
        others = "were stopped" if stopped else "are done"
        raise UserError(f"{failed} of {len(share)} videos failed; the others {others}")
    return stopped


def _run_one(
    detector: ActionDetectorPipeline,
    video: VideoFolder,
    options: argparse.Namespace,
    should_stop: Callable[[], bool],
    *,
    place: str = "",
) -> bool:
    """Run one video; return whether it was stopped before its end and can go on.

    place: printed before the video's name.
    """
    from detection.pipeline.writers import check_folder
    from detection.video.repairs import repair_lines
    from detection.video.stream import VideoStream

    folder = video.folder
    check_folder(folder)
    # The folder is made once there is a video to put results into it of.
    with (
        VideoStream(video.source, live=options.live, reconnect_s=options.reconnect) as stream,
        only_writer(folder, busy="another process writes here; another --out"),
    ):
        live, name = stream.is_live, stream.shown_name
        _announce(detector, stream, options, place)
        _follow(detector, stream, folder, options, should_stop)
    for line in repair_lines({name: stream.repairs().descriptions()}):
        print(f"note: {line}", file=sys.stderr)
    return _say(name, folder, detector, options, live=live)


def _announce(
    detector: ActionDetectorPipeline, stream: VideoStream, options: argparse.Namespace, place: str
) -> None:
    """Say what the video is before it is run; with --timing also how much memory is used."""
    from detection.pipeline.summary import facts_of, scores_text, video_line

    line = video_line(
        facts_of(stream),
        start_s=options.start,
        end_s=options.end,
        interval_s=detector.options.keyframe_interval_s,
    )
    networks = detector.networks
    runtime = networks.runtime + (f" ({networks.runtime_why})" if networks.runtime_why else "")
    how = detector.options.for_source(live=stream.is_live)
    scores = scores_text(how, networks)
    lines = [f"{place}{stream.shown_name}: {line}; runtime {runtime}; {scores}"]
    if options.timing:
        lines.append(detector.describe_bound(live=stream.is_live))
    print("\n".join(lines), file=sys.stderr)


def _follow(
    detector: ActionDetectorPipeline,
    stream: VideoStream,
    folder: Path,
    options: argparse.Namespace,
    should_stop: Callable[[], bool],
) -> None:
    """Run one video to its end behind a progress bar; a live one's events are printed."""
    from tqdm import tqdm

    from detection.pipeline.writers import event_line

    live, name = stream.is_live, stream.shown_name
    end_s = min(options.end, stream.duration_s or options.end)
    total = None if live or end_s == float("inf") else round(end_s, 1)
    with tqdm(
        total=total, initial=options.start if total else 0, unit="s", desc=name[-30:],
        disable=options.quiet, dynamic_ncols=True,
        bar_format=_BAR if total else _BAR_WITHOUT_END,
    ) as bar:  # fmt: skip

        def progress(time_s: float) -> None:
            resumed_s = detector.report.resumed_s
            if bar.n < resumed_s:  # taken over, not computed: it tells nothing of the speed
                bar.initial = bar.n = bar.last_print_n = resumed_s
            bar.update(max(0.0, time_s - bar.n))

        gaps: list[Gap] = []

        def on_gap(gap: Gap) -> None:
            gaps.append(gap)
            if len(gaps) <= MOST_GAPS:  # the others are counted at the end
                where = f"{gap.start_s:.2f} to {gap.end_s:.2f} s"
                reason = printable(gap.reason)
                bar.write(f"warning: {name}: {where} skipped ({reason})", file=sys.stderr)

        for event in detector.run(
            stream,
            out=folder,
            start_s=options.start,
            end_s=options.end,
            film=options.film,
            page=options.page,
            overwrite=options.overwrite,
            should_stop=should_stop,
            on_progress=progress,
            on_gap=on_gap,
        ):
            if live:
                print(event_line(event), end="", flush=True)
        if (more := len(gaps) - MOST_GAPS) > 0:
            bar.write(f"warning: {name}: {more:,} more stretches skipped", file=sys.stderr)
        if total and not detector.report.stopped:
            progress(total)  # the last keyframe is before the end


def _say(
    name: str,
    folder: Path,
    detector: ActionDetectorPipeline,
    options: argparse.Namespace,
    *,
    live: bool,
) -> bool:
    from detection.pipeline.summary import summary_lines

    shown, report = printable(str(folder)), detector.report
    if report.already_complete:
        print(f"{shown}: already made with these options, kept", file=sys.stderr)
        return False
    lines = [f"note: {name}: {note}" for note in report.notes]
    if report.resumed_s:
        lines.append(f"went on from {report.resumed_s:.1f} s")
    lines += summary_lines(name, report, detector.networks, written_to=shown)
    if live:
        lines.append(f"{report.latency}; {report.dropped} keyframes left out")
    if options.timing:
        lines.append(report.clock.table(max(0.0, report.end_s - report.resumed_s)))
    if report.stopped and not live:
        lines.append(
            f"stopped at {report.end_s:.1f} s; what was found until there is written, and the same "
            "command goes on"
        )
    print("\n".join(lines), file=sys.stderr)
    return report.stopped and not live


def _file_name(video: str) -> str:
    name = "stdin" if video == "-" else f"camera{video}" if video.isdecimal() else Path(video).stem
    return file_name(name, otherwise="video")


def _pipeline_options(options: argparse.Namespace) -> PipelineOptions:
    from detection.pipeline import PipelineOptions

    usual: float | None = None
    by_class = {}
    for text in options.threshold or []:
        name, separator, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError as error:
            raise UserError(
                f"--threshold {text}: a number, or CLASS=NUMBER, is required"
            ) from error
        if separator:
            by_class[name] = number
        else:
            usual = number
    return PipelineOptions(
        keyframe_interval_s=options.every,
        people_per_keyframe=options.people_per_keyframe,
        batch_size=options.batch_size,
        workers=options.batches_at_once,
        smoothing_s=options.smoothing,
        fill_misses=options.fill_misses,
        multiply_person_score=options.multiply_person_score,
        threshold=usual,
        class_thresholds=by_class,
        classes=tuple(options.classes or ()),
        gathered_classes=options.label_map,
        class_list=options.class_list,
        max_people=options.max_people,
        top_k=options.top_k,
        person_score=options.person_score,
        max_gap_s=options.max_gap,
        relevance=options.relevance,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("detect_actions", __doc__, EXAMPLE)
    add = parser.add_argument
    # fmt: off
    add("video", type=path_text, nargs="*", metavar="VIDEO",
        help="files and folders, or one camera number, address, or - for stdin; with --engine also "
        "lists of them (.txt, .csv) and remote ones (s3://, gs://, https://)")
    add("--checkpoint", type=path_text, metavar="RUN",
        help="action network: run folder or checkpoint, another project's X3D file, an exported "
        "network, a model folder or hub:user/name, or published weights by name, fetched once "
        "(default: x3d_s_kinetics400)")
    parser.shared("--out", required=False, type=path_text,
        help="folder of the results (default: found/NAME, of several: found)")
    add("--threshold", action="append", metavar="[CLASS=]S",
        help="lowest score of an event, for all classes or for one; repeatable, in place of what "
        "the run learned (default 0.5; 0.6 for networks of whole clips)")
    add("--classes", nargs="+", metavar="NAME", help="only these classes, by name or id")
    add("--label-map", type=Path, metavar="FILE",
        help="YAML file that gathers a whole-clip network's classes under your own names or "
        "leaves some out (docs/pipeline.md)")
    add("--class-list", type=Path, metavar="FILE",
        help="names of the classes of another project's file: a name a line, `N: name` lines, or "
        "JSON of ids and names (docs/models.md)")
    add("--top-k", type=int, metavar="K", help="a person does at most K things at a time")
    add("--every", type=seconds_above_0, default=0.5, metavar="S",
        help="seconds between keyframes (default %(default)s)")
    add("--max-gap", type=seconds, default=2.0, metavar="S",
        help="a person not seen for longer gets a new track (default %(default)s)")
    add("--start", type=seconds, default=0.0, metavar="S",
        help="first second of the video to process")
    add("--end", type=any_seconds, default=float("inf"), metavar="S",
        help="last second of the video to process")
    add("--live", action=argparse.BooleanOptionalAction,
        help="process the newest keyframes, skip late ones (default: cameras and addresses)")
    add("--reconnect", type=seconds, default=30.0, metavar="S",
        help="longest wait for a live source to return (default %(default)s)")
    add("--film", action=argparse.BooleanOptionalAction, default=True,
        help="write the annotated video, annotated.mp4")
    add("--page", action=argparse.BooleanOptionalAction, default=True,
        help="write the review page, review.html")
    add("--batch-size", type=whole_number(high=1024), default=8, metavar="N",
        help="keyframes processed at a time (default %(default)s)")
    add("--batches-at-once", type=whole_number(high=1024), default=0, metavar="N",
        help="batches processed at a time (default: one per core that this process may use, "
        "fewer than --batch-size; at most 2 on a GPU and with --live)")
    parser.shared("--threads", "--device", "--half", "--runtime")
    parser.shared("--overwrite", "--quiet")
    add("--timing", action="store_true", help="print processor time by stage")
    # fmt: on
    _add_people(parser)
    _add_averaging(parser)
    _add_engine(parser)
    options = parser.parse_args(arguments)
    _check_engine(options)
    return options


def _add_people(parser: argparse.ArgumentParser) -> None:
    """Add the options of people and their boxes."""
    add = parser.add_argument
    # fmt: off
    add("--people", type=path_text, metavar="WEIGHTS",
        help="people detector: run or checkpoint of train_people, coco, coco:NETWORK, an ONNX "
        "file, a .pth of torchvision's or an exported detector's folder (default: RUN/people.pt; "
        "coco for networks of whole clips)")
    add("--whole-frame", action="store_true",
        help="videos already cut around one subject: no people detector, the box is the whole "
        "frame at every keyframe")
    add("--max-people", type=whole_number(1, 1000), default=50, metavar="N",
        help="people at one time, the surest first (default %(default)s)")
    add("--people-per-keyframe", type=int, default=1, metavar="K",
        help="detect people this many times per keyframe, for tracking (default %(default)s)")
    add("--person-score", type=share, metavar="S",
        help="lowest confidence that starts a track (default: the detector's best "
        "F1 where it was measured, else the run's data.box_score_threshold)")
    add("--relevance", action="store_true",
        help="multiply a person's score by the probability that the person is one of those whom "
        "the run's data label; for runs with people.relevance=fit and their own people detector")
    # fmt: on


def _add_averaging(parser: argparse.ArgumentParser) -> None:
    """Add the options of scores along tracks."""
    add = parser.add_argument
    # fmt: off
    add("--smoothing", type=seconds, default=1.0, metavar="S",
        help="average the scores of actions and of the person along the person's track over S "
        "seconds each way, with weights that fall to 0 (default %(default)s)")
    add("--no-smoothing", dest="smoothing", action="store_const", const=0.0,
        help="no averaging of scores, no filling of misses, one threshold")
    add("--fill-misses", choices=("none", "between"),
        help="keyframes between two boxes of a track that have none of it: they get an "
        "interpolated one with the track's averaged scores, or stay without (default: between; of "
        "live sources, where keyframes would wait, none)")
    add("--multiply-person-score", action=argparse.BooleanOptionalAction,
        help="an event is decided by the action's score times the person's (default: where the "
        "run's thresholds were learned on such scores)")
    # fmt: on


def _add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the options of thousands of videos."""
    group = parser.add_argument_group("many videos, many processes (docs/scaling.md)")
    add = group.add_argument
    # fmt: off
    add("--engine", choices=("here", "processes", "ray"),
        help="what works through the videos: this process, processes of this machine, or Ray; with "
        "tables of all videos at the end (exit code 3: some failed, see failed.csv)")
    add("--address", metavar="A", help="Ray cluster: auto, or host:port (default: one of its own)")
    add("--workers", type=whole_number(1, 100_000), metavar="N",
        help="processes with networks (default: one per --threads cores, or per GPU)")
    add("--span", type=any_seconds_above_0, default=600.0, metavar="S",
        help="longer videos are shared in spans of so many seconds (default %(default)s)")
    add("--retries", type=whole_number(0, 100), default=2, metavar="N",
        help="how often a video that failed is attempted again (default %(default)s)")
    add("--shard", metavar="K/N", help="the K-th of N shares, by a hash of each video's name")
    add("--status", type=path_text, metavar="DEST", help="print how far the run into DEST is")
    # fmt: on


def _check_engine(options: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if options.whole_frame:
        for name in ("people", "relevance"):
            if getattr(options, name):
                raise UserError(f"--whole-frame detects no people, --{name} does not go with it")
        options.people = WHOLE_FRAME
    if options.status is not None:
        if options.video:
            raise UserError("--status DEST is given alone")
        return
    if not options.video:
        raise UserError("no video: files, folders, an address or a list is required")
    if options.out is not None:
        options.out = _destination(options.out, has_engine=options.engine is not None)
    if options.engine is None:
        given = [n for n in ("address", "workers", "shard") if getattr(options, n) is not None]
        if given:
            raise UserError(f"--{given[0]} is of runs with --engine here, processes or ray")
    elif options.live:
        raise UserError("--live sources are run one by one, without --engine")


def _destination(out: str, *, has_engine: bool) -> str:
    """Return a path without `file://`, or an address that results can go to."""
    from detection.transfer.places import is_remote, local_path, shown_address

    if not is_remote(out):
        return str(local_path(out))
    if not has_engine:
        raise UserError(f"--out {shown_address(out)}: an address is of runs with --engine")
    if not out.partition("://")[2].strip("/"):
        raise UserError(f"--out {shown_address(out)}: names no folder; one is required")
    return out


if __name__ == "__main__":
    run_command(main)
