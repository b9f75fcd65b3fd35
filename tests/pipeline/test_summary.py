"""What is said of a video before and after its run: whole counts, and never no event alone."""

from __future__ import annotations

import dataclasses
import json
import shlex

import numpy as np
import pytest
from tiny_pipeline import LABELS, SquareDetector, save_tiny_run, use_squares, write_squares

from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import PeopleNetworkNumbers, save_people_file
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.summary import (
    HeaderFacts,
    counted,
    duration_text,
    facts_of,
    read_summary,
    summary_lines,
    video_line,
)
from detection.video.stream import VideoStream

COUNTS = ("keyframes", "people", "people_tracked", "persons", "events", "best", "end_s")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    save_tiny_run(folder / "run")
    network = build_people_network("small", num_classes=1, short_side_px=64)
    numbers = PeopleNetworkNumbers("small", 64, 128)
    save_people_file(folder / "run" / "people.pt", network, numbers=numbers, classes=["person"])
    write_squares(folder / "walk.mp4", seconds=4)
    write_squares(folder / "empty.mp4", seconds=2, empty=(0, 9))
    return folder


@pytest.fixture
def command(monkeypatch):
    from ava_tools import detect_actions

    use_squares(monkeypatch)
    return detect_actions.main


def detector_of(place, **options):
    options = {"threshold": 0.7, "batch_size": 6, "workers": 2, **options}
    return ActionDetectorPipeline.from_checkpoint(
        place / "run", people=SquareDetector(), options=PipelineOptions(**options)
    )


def lines_of(place, name="walk.mp4", **options):
    detector = detector_of(place, **options)
    list(detector.run(place / name))
    return summary_lines(name, detector.report, detector.networks, written_to="out")


def events_with(place, option, **options):
    """The number of events once the option that was named is given."""
    name, value = shlex.split(option)
    if name == "--person-score":
        options["person_score"] = float(value)
    elif "=" in value:
        by_class, _, value = value.rpartition("=")
        options["class_thresholds"] = {**options["class_thresholds"], by_class: float(value)}
    else:
        options["threshold"] = float(value)
    detector = detector_of(place, **options)
    return len(list(detector.run(place / "walk.mp4"))), detector.report


def test_counts_say_who_became_somebody(place):
    (line,) = lines_of(place, threshold=0.3)
    assert line.startswith("8 keyframes, 16 people at them, 2 persons tracked, ")
    assert line.endswith(" events -> out") and " 0 events" not in line
    (line,) = lines_of(place, threshold=0.3, person_score=0.85)  # the squares score 0.9 and 0.8
    words = "16 people at them, 1 person tracked (8 below the person threshold of 0.85 are not), "
    assert words in line


@pytest.mark.parametrize("smoothing_s", [0.0, 1.0])
def test_no_event_names_the_highest_score_and_the_option_that_shows_it(place, smoothing_s):
    options = {"threshold": 1.0, "smoothing_s": smoothing_s}
    counts, why = lines_of(place, **options)
    assert ", 0 events" in counts and "no event: the highest score is 0." in why
    assert any(f"'{name}' by person" in why for name in LABELS.names)
    option = why.partition("; ")[2].removesuffix(" shows it")
    detector = detector_of(place, **options)
    list(detector.run(place / "walk.mp4"))
    best = detector.report.best
    assert f"'{best.action}' by person {best.track} at {best.time_s:.1f} s" in why
    count, _ = events_with(place, option, **options)
    assert count >= 1
    assert events_with(place, f"--threshold {min(1, best.score + 1e-6)}", **options)[0] == 0


def test_where_no_threshold_is_given_the_option_names_no_class(place):
    """The network's own, which is raised here so that nothing reaches it."""
    detector = detector_of(place, threshold=None)
    raised = np.full(len(LABELS), 1.0)
    networks = dataclasses.replace(detector.networks, threshold=1.0, thresholds=raised)
    detector = ActionDetectorPipeline(networks, detector.options)
    assert list(detector.run(place / "walk.mp4")) == []
    lines = summary_lines("walk", detector.report, networks, written_to="out")
    assert "; --threshold 0." in lines[1]


def test_a_class_with_a_threshold_of_its_own_is_named_in_the_option(place):
    options = {"threshold": 0.0, "class_thresholds": dict.fromkeys(LABELS.names, 1.0)}
    _, why = lines_of(place, **options)
    option = why.partition("; ")[2].removesuffix(" shows it")
    assert option.startswith("--threshold '") and "=0." in option
    assert events_with(place, option, **options)[0] >= 1


def test_nobody_tracked_names_the_best_person_score_and_its_option(place):
    counts, why = lines_of(place, person_score=0.95)
    assert "16 people at them, 0 persons tracked (16 below" in counts
    assert "no person was tracked: the highest person score is 0.89" in why
    assert "a track begins at 0.95" in why
    option = why.partition("; ")[2].removesuffix(" tracks them")
    _, report = events_with(place, option)
    assert report.persons == 1


def test_nobody_and_nothing_asked_for(place):
    counts, why = lines_of(place, "empty.mp4", person_score=0.6)
    assert counts == "4 keyframes, 0 people at them, 0 persons tracked, 0 events -> out"
    assert why.endswith("none scored 0.3 or more (the person threshold is 0.6: --person-score)")
    detector = detector_of(place)
    list(detector.run(place / "walk.mp4", start_s=100))
    lines = summary_lines("w", detector.report, detector.networks, written_to="out")
    assert lines[1] == "w: no keyframe in the stretch asked for"


@pytest.mark.parametrize(
    "score, shown",
    [(0.4999999, "0.49"), (0.5, "0.50"), (0.0123, "0.012"), (1e-9, "0.000000"), (0.0, "0.00")],
)
def test_scores_are_rounded_down(score, shown):
    from detection.pipeline.summary import rounded_down

    assert rounded_down(score) == shown and float(shown) <= score


@pytest.mark.parametrize("stop_s", [7, 14])
def test_counts_of_a_resumed_run_are_whole(tmp_path, place, stop_s):
    film = write_squares(tmp_path / "long.mp4", seconds=30, speed=3)
    whole = detector_of(place, person_score=0.85, threshold=0.99)
    list(whole.run(film, out=tmp_path / "whole", film=False, page=False))
    reached = [0.0]
    cut = detector_of(place, person_score=0.85, threshold=0.99)
    list(
        cut.run(
            film,
            out=tmp_path / "cut",
            film=False,
            page=False,
            on_progress=reached.append,
            should_stop=lambda: reached[-1] > stop_s,
        )
    )
    assert cut.report.stopped and 0 < cut.report.keyframes < 60
    assert read_summary(tmp_path / "cut")["keyframes"] == cut.report.keyframes
    again = detector_of(place, person_score=0.85, threshold=0.99)
    list(again.run(film, out=tmp_path / "cut", film=False, page=False))
    assert again.report.resumed_s > 0
    for name in COUNTS:
        assert getattr(again.report, name) == getattr(whole.report, name), name
    summaries = [(tmp_path / name / "summary.json").read_bytes() for name in ("whole", "cut")]
    assert summaries[0] == summaries[1]
    assert whole.report.keyframes == 60 and whole.report.people == 120


def test_a_run_killed_while_its_tables_were_written_counts_what_was_saved(
    tmp_path, place, monkeypatch
):
    film = write_squares(tmp_path / "long.mp4", seconds=12)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("detection.pipeline.results.Results.finish", killed)
        with pytest.raises(KeyboardInterrupt):
            list(detector_of(place).run(film, out=tmp_path / "out", film=False, page=False))
    detector = detector_of(place)
    list(detector.run(film, out=tmp_path / "out", film=False, page=False))
    report = detector.report
    assert (report.keyframes, report.people, report.end_s) == (24, 48, 11.5)


def test_summary_of_results_that_have_none(tmp_path):
    assert read_summary(tmp_path) == {}
    for text in ("{", "[]", "\0", "[" * 100_000):
        (tmp_path / "summary.json").write_text(text)
        assert read_summary(tmp_path) == {}


def test_the_first_line_is_about_the_video(place, tmp_path, command, capsys):
    arguments = [str(place / "walk.mp4"), "--checkpoint", str(place / "run"), "--quiet"]
    arguments += ["--no-film", "--no-page", "--out"]
    assert command([*arguments, str(tmp_path / "a")]) == 0
    said = capsys.readouterr().err
    first = said.splitlines()[0]
    line = "4.0 s, 96x72, 10 frames/s, about 8 keyframes to come, one each 0.5 s"
    assert first.startswith(f"{place / 'walk.mp4'}: {line}; runtime torch; scores averaged along")
    assert "are kept" not in said
    assert command([*arguments, str(tmp_path / "b"), "--timing"]) == 0
    assert "at most 36 frames" in capsys.readouterr().err.splitlines()[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "scores averaged along each person's track within 1 s, misses between two boxes of a "
         "track filled; events by the action's score"),
        (["--fill-misses", "none", "--smoothing", "2", "--multiply-person-score"],
         "scores averaged along each person's track within 2 s; events by the action's score times "
         "the person's"),
        (["--no-smoothing", "--no-multiply-person-score"],
         "scores of each keyframe alone; events by the action's score"),
    ],
)  # fmt: skip
def test_the_first_line_says_how_scores_were_made(place, tmp_path, command, capsys, options, words):
    arguments = [str(place / "walk.mp4"), "--checkpoint", str(place / "run"), "--quiet"]
    arguments += ["--no-film", "--no-page", "--out", str(tmp_path / "a"), *options]
    assert command(arguments) == 0
    assert capsys.readouterr().err.splitlines()[0].endswith(f"runtime torch; {words}")
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["scores"] == words


@pytest.mark.parametrize("seconds, start_s, end_s", [(4, 0, 99), (4, 1.2, 3.5), (0.1, 0, 9)])
@pytest.mark.parametrize("late_s", [0.0, 40.3])
def test_the_keyframes_to_come_are_those_that_come(
    tmp_path, place, seconds, start_s, end_s, late_s
):
    film = write_squares(tmp_path / "late.mp4", seconds=seconds, start_s=late_s)
    detector = detector_of(place)
    start_s, end_s = start_s + late_s, end_s + late_s
    list(detector.run(film, start_s=start_s, end_s=end_s))
    with VideoStream(film) as stream:
        line = video_line(facts_of(stream), start_s=start_s, end_s=end_s, interval_s=0.5)
    assert f"about {counted(detector.report.keyframes, 'keyframe')} to come" in line


def test_what_is_unknown_of_a_source_is_left_out():
    unknown = HeaderFacts(None, 0, 0, None)
    line = video_line(unknown, start_s=0, end_s=float("inf"), interval_s=0.5)
    assert line == "a keyframe each 0.5 s"
    assert "about 20 keyframes" in video_line(unknown, start_s=0, end_s=10, interval_s=0.5)
    assert [duration_text(s) for s in (0, 119.96, 125, 3725.4)] == [
        "0.0 s", "120.0 s", "2:05", "1:02:05",
    ]  # fmt: skip


def test_a_damaged_file_is_described_by_its_header(tmp_path, place):
    content = (place / "walk.mp4").read_bytes()
    at = content.index(b"mdat") + 4
    (tmp_path / "bad.mp4").write_bytes(
        content[:at] + bytes(len(content[at:]) // 2) + content[at + len(content[at:]) // 2 :]
    )
    with VideoStream(tmp_path / "bad.mp4") as stream:
        facts = facts_of(stream)
    assert (facts.width_px, facts.height_px) == (96, 72)


def test_progress_shows_the_time_left_and_takes_a_resumed_part_for_no_speed(
    tmp_path, place, command, capsys, monkeypatch
):
    import tqdm

    bars = []

    class Noted(tqdm.tqdm):
        def close(self):
            bars.append(self)
            super().close()

    monkeypatch.setattr("tqdm.tqdm", Noted)
    film = write_squares(tmp_path / "long.mp4", seconds=12)
    arguments = [str(film), "--checkpoint", str(place / "run"), "--no-film", "--no-page"]
    arguments += ["--out", str(tmp_path / "out")]
    save, calls = np.savez, []

    def full(path, **arrays):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save(path, **arrays)

    monkeypatch.setattr("numpy.savez", full)
    with pytest.raises(KeyboardInterrupt):
        command(arguments)
    assert command(arguments) == 0
    assert " left" in capsys.readouterr().err
    assert bars[-1].initial > 3 and bars[-1].n == pytest.approx(12)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["keyframes"] == 24
