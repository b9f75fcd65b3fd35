from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from ava_tools.evaluate import FILLS, main
from detection.errors import UserError
from detection.evaluation.protocols import PROTOCOLS
from detection.structures import FillMisses

MAP = 'item {\n  name: "sit"\n  id: 11\n}\nitem {\n  name: "a <b> & c"\n  id: 12\n}\n'
BOX, FAR = "0.1,0.1,0.5,0.5", "0.6,0.5,0.9,0.9"
TRUTH = f"v,0902,{BOX},11,0\nv,0903,{BOX},11,0\nv,0903,{FAR},12,1\n"
FOUND = f"v,0902,{BOX},11,0.9\nv,0903,{BOX},11,0.8\nv,0903,{FAR},11,0.85\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gt.csv").write_text(TRUTH)
    (tmp_path / "det.csv").write_text(FOUND)
    (tmp_path / "map.pbtxt").write_text(MAP)
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    return [
        "--ground-truth", str(folder / "gt.csv"), "--detections", str(folder / "det.csv"),
        "--label-map", str(folder / "map.pbtxt"), *more,
    ]  # fmt: skip


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ava_tools.evaluate", *argv]
    return subprocess.run(command, capture_output=True, text=True)


def test_json_and_the_line_that_names_everything(folder, capsys):
    assert main(arguments(folder, "--json", str(folder / "out.json"))) == 0
    out = json.loads((folder / "out.json").read_text())
    assert out["protocol"] == "activitynet-2018"
    assert out["mean_ap"] == pytest.approx((0.5 + 0.5 * 2 / 3) / 2)
    assert out["per_class"]["a <b> & c"] == 0.0
    assert out["num_ground_truth"] == {"sit": 2, "a <b> & c": 1}
    assert out["num_keyframes"] == 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "frame-mAP 0.4167 at IoU 0.5 (activitynet-2018: 2 of 2 classes, 2 keyframes, "
        "3 boxes with 3 labels, 3 detections)"
    )


def test_a_class_without_ground_truth_is_null(folder):
    (folder / "gt.csv").write_text(TRUTH.splitlines()[0] + "\n")
    main(arguments(folder, "--json", str(folder / "out.json")))
    out = json.loads((folder / "out.json").read_text())
    assert out["per_class"] == {"sit": 1.0, "a <b> & c": None}


def test_scores_along_tracks_are_named_and_the_other_files_too(folder, capsys):
    at_a_miss = f"v,0902,{BOX},11,0.9\nv,0904,{BOX},11,0.7\n"
    (folder / "gt.csv").write_text(TRUTH.splitlines()[0] + f"\nv,0903,{BOX},11,0\n")
    (folder / "det.csv").write_text(at_a_miss)
    (folder / "other.csv").write_text(at_a_miss)
    means = []
    for more in ([], ["--track-reach", "9"], ["--track-reach", "9", "--fill-misses", "between"]):
        to = ["--json", str(folder / "out.json"), "--compare", str(folder / "other.csv")]
        main(arguments(folder, *more, *to))
        out = json.loads((folder / "out.json").read_text())
        means.append(out["per_class"]["sit"])
        assert out["comparison"]["mean"]["difference"] == 0
        assert ("scores" in out) == bool(more)
    assert means == [0.5, 0.5, 1.0]
    assert "scores: averaged along each person's track within 9 s, misses between" in (
        capsys.readouterr().out
    )
    main(arguments(folder, "--track-reach", "9", "--protocol", "all"))
    assert "scores: averaged along each person's track within 9 s" in capsys.readouterr().out


def test_the_ways_to_fill_are_those_of_a_run():
    assert get_args(FillMisses) == FILLS


def test_filling_misses_needs_scores_along_tracks(folder):
    with pytest.raises(UserError, match="--fill-misses needs --track-reach"):
        main(arguments(folder, "--fill-misses", "between"))


def test_a_file_whose_tracks_hold_two_boxes_at_a_keyframe_is_refused(folder):
    rows = f"v,0902,{BOX},11,0.9,1\nv,0902,{BOX},12,0.8,1\nv,0902,{FAR},11,0.9,1\n"
    (folder / "det.csv").write_text(rows)
    for way in (["--track-reach", "9"], ["--video-map"]):
        with pytest.raises(
            UserError, match="det.csv:3: track 1 has 2 boxes at v at 902.000 s; a track has one"
        ):
            main(arguments(folder, *way))
    main(arguments(folder))  # where tracks do not count


@pytest.mark.parametrize(
    ("score", "found"),
    [("85.2", "score 85.2 looks like per cent"), ("-3.1", "score -3.1 looks like a logit"),
     ("1.5", "score 1.5")],
)  # fmt: skip
def test_scores_that_are_no_probabilities_are_told_and_refused_where_they_are_averaged(
    folder, capsys, score, found
):
    (folder / "det.csv").write_text(f"v,0902,{BOX},11,0.9\nv,0902,{FAR},11,{score}\n")
    main(arguments(folder))  # the order alone counts
    assert f"1 of 2 scores are outside [0, 1], the first in line 2: {score}" in (
        capsys.readouterr().err
    )
    with pytest.raises(UserError) as caught:
        main(arguments(folder, "--track-reach", "9"))
    assert str(caught.value).endswith(
        f"det.csv:2: {found}; a probability from 0 to 1 is required (1 of 2 scores are outside)"
    )


def test_boxes_wholly_outside_the_frame_are_told_and_refused_where_they_are_linked(folder, capsys):
    rows = f"v,0902,{BOX},11,0.9\nv,0902,1.2,0.1,1.4,0.5,11,0.4\nv,0903,0.9,0.9,1.1,1.1,11,0.4\n"
    (folder / "det.csv").write_text(rows)
    main(arguments(folder))
    assert "2 of 3 boxes reach outside the frame, the first in line 2; 1 lie outside wholly" in (
        capsys.readouterr().err
    )
    with pytest.raises(UserError) as caught:
        main(arguments(folder, "--track-reach", "9"))
    assert str(caught.value).endswith(
        "det.csv:2: the box 1.2, 0.1, 1.4, 0.5 lies outside the frame wholly; fractions of the "
        "frame from 0 to 1 are required (1 of 3 boxes do)"
    )


def test_all_protocols_side_by_side(folder, capsys):
    main(arguments(folder, "--protocol", "all", "--json", str(folder / "out.json")))
    out = json.loads((folder / "out.json").read_text())
    assert [one["protocol"] for one in out] == list(PROTOCOLS)
    text = capsys.readouterr().out
    for name in PROTOCOLS:
        assert re.search(rf"frame-mAP 0\.\d+ at IoU 0.5 \({name}: ", text)


def test_all_protocols_on_fractional_times_name_those_that_refuse(folder, capsys):
    for name in ("gt.csv", "det.csv"):
        (folder / name).write_text((folder / name).read_text().replace("0902", "902.5"))
    main(arguments(folder, "--protocol", "all", "--json", str(folder / "out.json")))
    out = json.loads((folder / "out.json").read_text())
    assert [one["protocol"] for one in out] == ["activitynet-2020", "frame-map"]
    assert capsys.readouterr().out.count(": refused, ") == 4


def test_exclusions(folder, capsys):
    (folder / "x.csv").write_text("v,0903\n")
    main(arguments(folder, "--exclusions", str(folder / "x.csv")))
    assert "frame-mAP 1.0000 at IoU 0.5 (activitynet-2018: 1 of 2" in capsys.readouterr().out


def test_csv(folder):
    main(arguments(folder, "--csv", str(folder / "out.csv")))
    with (folder / "out.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["class"] for row in table] == ["sit", "a <b> & c"]
    assert float(table[0]["ap"]) == pytest.approx(5 / 6)


def test_the_page_is_escaped_and_loads_nothing(folder):
    main(arguments(folder, "--html", str(folder / "out.html")))
    text = (folder / "out.html").read_text()
    assert "a &lt;b&gt; &amp; c" in text
    assert "<b> & c" not in text
    assert text.count("<svg") == 2  # a class each
    # What has an address is a part of the page itself.
    assert not re.search(r'(src|href)="(?!#)|url\((?!#)|@import|https?://|<script', text)
    assert "0.4167" in text


def test_diagnosis_comparison_and_tubes(folder, capsys):
    (folder / "other.csv").write_text(FOUND.replace(f"{FAR},11", f"{FAR},12"))
    options = ["--diagnose", "--compare", str(folder / "other.csv"), "--draws", "20"]
    options += ["--video-map", "--json", str(folder / "out.json")]
    main(arguments(folder, *options))
    out = json.loads((folder / "out.json").read_text())
    assert out["diagnosis"]["num_rows"]["wrong class"] == 1
    assert out["diagnosis"]["ceiling"] == 1.0
    assert out["comparison"]["mean"]["second"] == 1.0
    assert out["video_map"]["num_ground_truth"] == {"sit": 1, "a <b> & c": 1}
    text = capsys.readouterr().out
    assert "wrong class" in text and "95 % interval" in text and "video-mAP" in text


@pytest.fixture
def scored_run(folder) -> Path:
    """A run that was scored on a split with a list of videos and excluded keyframes."""
    data = folder / "data"
    (data / "annotations").mkdir(parents=True)
    (data / "dataset.yaml").write_text(
        "name: two\nvideos: v\nlabel_map: map.pbtxt\nsplits:\n  mine:\n    annotations: gt.csv\n"
        "    videos: ids.txt\n    exclusions: left.csv\nevaluation: {protocol: frame-map}\n"
    )
    (data / "map.pbtxt").write_text(MAP)
    (data / "gt.csv").write_text(TRUTH + f"of another split,0902,{BOX},12,0\n")
    (data / "ids.txt").write_text("v\n")
    (data / "left.csv").write_text("v,0903\n")
    run = folder / "run"
    run.mkdir()
    (run / "config.yaml").write_text(f"data: {{root: {data}, val_split: mine}}\n")
    (run / "detections.csv").write_text(FOUND)
    return run


def test_a_run_is_scored_on_its_own_split_by_its_own_rules(scored_run, folder, capsys):
    assert main(["--run", str(scored_run), "--json", str(folder / "out.json")]) == 0
    out = json.loads((folder / "out.json").read_text())
    assert out["protocol"] == "frame-map"  # of dataset.yaml, though all times are whole seconds
    assert out["num_ground_truth"] == {"sit": 1, "a <b> & c": 0}  # no other video, no 0903
    assert out["mean_ap"] == 1.0 and not capsys.readouterr().err
    main(["--run", str(scored_run), "--protocol", "activitynet-2020", "--json",
          str(folder / "out.json")])  # fmt: skip
    assert json.loads((folder / "out.json").read_text())["protocol"] == "activitynet-2020"
    (scored_run / "config.yaml").write_text(
        (scored_run / "config.yaml").read_text() + "evaluation: {protocol: activitynet-2018}\n"
    )
    (folder / "data").rename(folder / "moved")
    moved = ["--data", str(folder / "moved"), "--json", str(folder / "out.json")]
    main(["--run", str(scored_run), *moved])
    assert json.loads((folder / "out.json").read_text())["protocol"] == "activitynet-2018"


def test_two_runs_are_compared_and_named_on_the_page_too(scored_run, folder, capsys):
    (folder / "data" / "left.csv").write_text("v,0904\n")
    second = folder / "second"
    second.mkdir()
    (second / "detections.csv").write_text(FOUND.replace(f"{FAR},11", f"{FAR},12"))
    to = ["--json", str(folder / "out.json"), "--html", str(folder / "page.html")]
    main(["--run", str(scored_run), "--compare", str(second), *to])
    out = json.loads((folder / "out.json").read_text())["comparison"]
    names = [str(scored_run / "detections.csv"), str(second / "detections.csv")]
    assert out["names"] == names and out["mean"]["second"] == 1.0
    said = capsys.readouterr().out
    page = (folder / "page.html").read_text()
    for line in (
        f"first: {names[0]}; second: {names[1]}",
        "the interval lies above 0 in 1 of 2 classes, below 0 in 0",
    ):
        assert line in said.splitlines() and line in page
    assert "<td>+1.0000</td>" in page
    main(["--run", str(second.parent / "run"), "--html", str(folder / "page.html")])
    assert "95 % interval" not in (folder / "page.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--run", "{run}", "--label-map", "m"], "--run RUN names ground truth, detections, class"),
        (["--run", "{run}", "--exclusions", "m"], "--run RUN names ground truth, detections, cl"),
        (["--detections", "d"], "--ground-truth, --detections and --label-map are required, or "),
        (["--run", "{run}", "--compare", "."], "detections.csv: file not found; the folder of a r"),
        (["--run", "."], "detections.csv: file not found; the folder of a run that was scored"),
        (["--run", "nowhere"], "nowhere/config.yaml: configuration file not found"),
        (["--run", "{run}", "--data", "nowhere"], "nowhere/dataset.yaml: file not found"),
        (
            ["--ground-truth", "g", "--detections", "d", "--label-map", "m", "--data", "d"],
            "--data goes with --run",
        ),
    ],
)
def test_runs_that_cannot_be_scored_end_with_one_line(scored_run, options, words):
    done = run(*(option.replace("{run}", str(scored_run)) for option in options))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ") and words in done.stderr


def test_a_classifier_has_no_boxes_to_score(scored_run):
    (scored_run / "config.yaml").write_text("task: classification\ndata: {root: d}\n")
    with pytest.raises(UserError, match="run: classifies whole clips, a run that finds actions"):
        main(["--run", str(scored_run)])


def test_a_mean_of_nothing_names_the_cause(folder, capsys):
    (folder / "det.csv").write_text(FOUND.replace("0.1,0.1,0.5,0.5", "64,48,320,240"))
    main(arguments(folder, "--json", str(folder / "out.json")))
    text = capsys.readouterr()
    assert "likely cause: the boxes are pixels, not fractions of the frame" in text.out
    assert "warning: " in text.err and "reach outside the frame" in text.err
    assert json.loads((folder / "out.json").read_text())["causes"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("det.csv", "", "det.csv: no rows (detections expected)"),
        ("gt.csv", "", "gt.csv: no rows (ground truth expected)"),
        ("map.pbtxt", "", "map.pbtxt: no class"),
        ("det.csv", "\0\1\2", "det.csv:1: a NUL byte in a table of comma-separated rows"),
        ("det.csv", f"v,0902,{BOX},11\n", "det.csv:1: expected 8 or 9 columns"),
        ("det.csv", f"v,0902,{BOX},11,nan\n" * 12, "and 2 more bad rows"),
        ("gt.csv", f"v,0902,{BOX},99,0\n", "none of its class ids (99) is in the label map"),
        ("gt.csv", "v,0902\n", "no box has an action label"),
    ],
)
def test_bad_files_end_with_one_line_and_code_2(folder, name, content, words):
    (folder / name).write_text(content)
    done = run(*arguments(folder, "--json", str(folder / "out.json")))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert not (folder / "out.json").exists()


def test_missing_file(folder):
    (folder / "gt.csv").unlink()
    done = run(*arguments(folder))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(
        f"error: {folder / 'gt.csv'}: table of comma-separated rows not found"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--protocol", "coco"], "no protocol 'coco'"),
        (["--protocol", "all", "--video-map"], "--video-map needs one protocol"),
    ],
)
def test_bad_options(folder, options, words):
    with pytest.raises(UserError, match=words):
        main(arguments(folder, *options))


def test_unknown_classes_are_skipped_and_counted(folder, capsys):
    (folder / "det.csv").write_text(FOUND + f"v,0902,{BOX},77,0.9\n")
    main(arguments(folder))
    assert "left out: 1 detections of classes outside the label map" in capsys.readouterr().out


def test_help_is_quick_and_loads_no_torch():
    done = run("--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    code = "import sys, ava_tools.evaluate, detection.reports.evaluation_page\n"
    code += "print('torch' in sys.modules or 'matplotlib' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "False"
