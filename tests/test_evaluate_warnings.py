"""What `evaluate` says though the mean looks honest, and what hostile files do to it: nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_evaluate_command import BOX, FOUND, MAP, TRUTH, arguments, folder, run

from ava_tools.evaluate import main
from detection.errors import UserError
from detection.reports import evaluation_page, evaluation_text

__all__ = ["folder"]  # the fixture


def warned(folder: Path, capsys, *more: str) -> list[str]:
    assert main(arguments(folder, *more)) == 0
    return [
        line.removeprefix("warning: ")
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("warning: ")
    ]


def test_files_that_agree_are_not_warned_of(folder, capsys):
    assert warned(folder, capsys) == []


def test_a_video_that_was_not_looked_at_is_named_though_the_rest_is_perfect(folder, capsys):
    (folder / "gt.csv").write_text(f"v,0902,{BOX},11,0\nw,0902,{BOX},11,0\n")
    (folder / "det.csv").write_text(f"v,0902,{BOX},11,0.9\n")
    (text,) = warned(folder, capsys, "--json", str(folder / "out.json"))
    assert text == "videos: 1 of 2 of the ground truth are not in the detections (w)"
    assert json.loads((folder / "out.json").read_text())["warnings"] == [text]


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("v.mp4", "they differ in a suffix alone: 'v' and 'v.mp4'"),
        ("videos/v", "in a folder alone"),
        ("V", "in upper and lower case alone"),
    ],
)
def test_ids_that_nearly_agree(folder, capsys, name, cause):
    (folder / "det.csv").write_text(FOUND.replace("v,", f"{name},"))
    (text,) = warned(folder, capsys)
    assert "videos: 1 of 1 of the ground truth are not in the detections (v); 1 of 1" in text
    assert cause in text


def test_times_in_milliseconds_and_a_keyframe_too_late(folder, capsys):
    thousand = FOUND.replace(",0902,", ",902000,").replace(",0903,", ",903000,")
    (folder / "det.csv").write_text(thousand)
    (text,) = warned(folder, capsys)
    assert "the times of the detections are milliseconds, those of the ground truth seconds" in text
    late = FOUND.replace(",0903,", ",0904,").replace(",0902,", ",0903,")
    (folder / "det.csv").write_text(late)
    (text,) = warned(folder, capsys)
    assert "keyframes: 1 of 2 of the ground truth are not in the detections (v at 902 s)" in text
    assert "1 s later" in text


def test_keyframes_where_no_person_is_need_no_detection(folder, capsys):
    (folder / "gt.csv").write_text(TRUTH + "v,0904\n")
    assert warned(folder, capsys, "--protocol", "activitynet-2020") == []
    (folder / "det.csv").write_text("v,0902\nv,0903\n")
    assert warned(folder, capsys, "--protocol", "activitynet-2020") == []


def test_exclusions_of_other_videos_and_excluded_keyframes(folder, capsys):
    (folder / "x.csv").write_text("v.mkv,0903\n")
    (text,) = warned(folder, capsys, "--exclusions", str(folder / "x.csv"))
    assert text.startswith("excluded videos: 1 of 1 of the exclusions are not in the ground truth")
    assert "in a suffix alone" in text
    (folder / "x.csv").write_text("v,0903\n")
    assert warned(folder, capsys, "--exclusions", str(folder / "x.csv")) == []  # found there too
    (folder / "det.csv").write_text(FOUND.splitlines()[0] + "\n")
    assert warned(folder, capsys, "--exclusions", str(folder / "x.csv")) == []


def test_class_ids_outside_the_label_map_are_named_and_counted(folder, capsys):
    (folder / "det.csv").write_text(FOUND + f"v,0902,{BOX},77,0.9\nv,0902,{BOX},2147483647,0.9\n")
    (text,) = warned(folder, capsys)
    assert "class ids: 2 of 3 of the detections are not in the label map (77, 2147483647)" in text
    assert "2 of 5 rows do not count" in text


def test_scores_in_per_cent_are_named_whatever_the_mean(folder, capsys):
    (folder / "det.csv").write_text(
        FOUND.replace(",0.85", ",85").replace(",0.9\n", ",90\n").replace(",0.8\n", ",80\n")
    )
    main(arguments(folder))
    text = capsys.readouterr().out
    assert "likely cause: 3 of 3 scores are over 1, up to 90: in per cent? divide by 100" in text


def test_all_protocols_and_comparisons_are_warned_of_too(folder, capsys):
    (folder / "det.csv").write_text(FOUND.replace("v,", "u,"))
    assert len(warned(folder, capsys, "--protocol", "all")) == 1
    (folder / "det.csv").write_text(FOUND)
    (folder / "other.csv").write_text(FOUND.replace("v,", "u,"))
    assert len(warned(folder, capsys, "--compare", str(folder / "other.csv"), "--draws", "2")) == 1


# --- hostile files ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["map.pbtxt", "gt.csv", "det.csv"])
def test_control_characters_in_a_file_are_refused_by_line_and_written_out(folder, name):
    evil = "\x1b]0;owned\x07"
    content = {
        "map.pbtxt": MAP.replace("a <b> & c", evil),
        "gt.csv": TRUTH + f"{evil}w,0902,{BOX},11,0\n",
        "det.csv": FOUND + f"{evil}w,0902,{BOX},11,0.5\n",
    }
    (folder / name).write_text(content[name])
    done = run(*arguments(folder))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert re.search(rf"{name}:\d+: ", done.stderr) and r"\x1b]0;owned\x07" in done.stderr
    assert "\x1b" not in done.stderr


def test_tables_write_control_characters_out():
    """Names from files cannot hold any; what other code makes of them is printed all the same."""
    evil = "\x1b]0;owned\x07"
    for text in (
        evaluation_text.columns(["class", evil], [[evil, "1"]]),
        evaluation_page.text(evil),
    ):
        assert not set(text) & {"\x1b", "\x07"} and r"\x1b]0;owned\x07" in text


def test_markup_in_the_name_of_a_class_stays_text(folder):
    (folder / "map.pbtxt").write_text(MAP.replace("a <b> & c", "<script>alert(1)</script>"))
    assert main(arguments(folder, "--diagnose", "--html", str(folder / "out.html"))) == 0
    page = (folder / "out.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("name", ["gt.csv", "det.csv"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_numbers_that_are_not_finite_name_file_and_row(folder, name, value):
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace("0.6,0.5,", f"{value},0.5,", 1))
    with pytest.raises(UserError, match=rf"{name}:3: .*finite"):
        main(arguments(folder))


def test_json_is_valid_where_nothing_was_predicted(folder):
    (folder / "det.csv").write_text(f"v,0902,{BOX},11,0.001\n")
    options = ["--protocol", "mmaction2", "--diagnose", "--json", str(folder / "out.json")]
    done = run(*arguments(folder, *options, "--html", str(folder / "out.html")))
    assert done.returncode == 0, done.stderr
    out = json.loads((folder / "out.json").read_text(), parse_constant=pytest.fail)
    assert out["mean_ap"] is None
    assert not re.search(r"\bnan\b", done.stdout + (folder / "out.html").read_text(), re.I)


def test_times_too_late_to_be_told_apart_are_one_line(folder):
    rows = "".join(f"video{i},1000000000,{BOX},11,0\n" for i in range(9300))
    (folder / "gt.csv").write_text(rows)
    done = run(*arguments(folder))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "seconds of each video's own clock are required" in done.stderr


NUMPY_ALONE = """
import importlib.abc, importlib.util, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("numpy", "filelock", "detection", "ava_tools"):
            return None
        raise ModuleNotFoundError(f"refused: {name}", name=name)
sys.meta_path.insert(0, Refuse())
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "tqdm" else real(name, *more)
sys.stderr.isatty = lambda: True  # progress bars are asked for
from ava_tools.evaluate import main
sys.exit(main(sys.argv[1:]))
"""


def test_numpy_is_enough_to_compute(folder):
    (folder / "other.csv").write_text(FOUND)
    options = [
        "--diagnose", "--compare", str(folder / "other.csv"), "--draws", "5", "--video-map",
        "--json", str(folder / "out.json"), "--csv", str(folder / "out.csv"),
        "--html", str(folder / "out.html"),
    ]  # fmt: skip
    for more in (options, ["--protocol", "all"]):
        command = [sys.executable, "-c", NUMPY_ALONE, *arguments(folder, *more)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    out = options[options.index("--json") + 1]
    assert json.loads(Path(out).read_text())["comparison"]
