"""The GPU report: a dry run on a CPU, and parts that fail, hang, die or have no time."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import gpu_parts  # noqa: E402
import gpu_report  # noqa: E402
from gpu_report import FAILED, LEFT_OUT, MEASURED, PARTS, Part, Settings  # noqa: E402

from detection.errors import UserError  # noqa: E402
from detection.models.x3d import X3DTrunk  # noqa: E402

BAD_PARTS = """
import os, signal, subprocess, sys, time

def well(settings, tell):
    tell({"a": 1, "b": "x|y"})
    tell({"a": 2.5})

def raises(settings, tell):
    tell({"a": 1})
    raise RuntimeError("no such kernel\\nat line 3")

def dies(settings, tell):
    tell({"a": 1})
    os.kill(os.getpid(), signal.SIGSEGV)

def leaves(settings, tell):
    sys.exit(3)

def hangs(settings, tell):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    tell({"child": child.pid})
    time.sleep(600)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a made-up part; return its result."""
    (tmp_path / "bad_parts.py").write_text(BAD_PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run_one(name: str, limit_s: float = 120.0) -> dict:
        settings = Settings(str(tmp_path), "cpu", True)
        return gpu_report.run_part(Part(name, name, limit_s), settings, limit_s, module="bad_parts")

    return run_one


def test_what_becomes_of_a_part_is_said_and_its_rows_are_kept(run, tmp_path):
    assert run("well") == {
        "status": MEASURED, "error": "", "seconds": pytest.approx(0, abs=120),
        "rows": [{"a": 1, "b": "x|y"}, {"a": 2.5}],
    }  # fmt: skip
    failed = run("raises")
    assert failed["status"] == FAILED and failed["rows"] == [{"a": 1}]
    assert failed["error"] == "RuntimeError: no such kernel"
    assert "at line 3" in (tmp_path / "raises.log").read_text()
    died = run("dies")
    assert (died["status"], died["error"], died["rows"]) == (
        FAILED, "ended with code -11", [{"a": 1}]
    )  # fmt: skip
    assert run("leaves")["error"] == "SystemExit: 3"
    assert "has no attribute 'nothing'" in run("nothing")["error"]


def test_a_part_without_time_is_not_begun_and_one_that_hangs_ends_with_its_children(run, tmp_path):
    short = run("well", limit_s=1.0)
    assert (short["status"], short["error"], short["rows"]) == (LEFT_OUT, "no time was left", [])
    run("well")  # the server of processes is up
    hung = run("hangs", limit_s=8.0)
    assert (hung["status"], hung["error"]) == (FAILED, "stopped after 8 s")
    (row,) = hung["rows"]
    for _ in range(100):
        if not is_running(row["child"]):
            break
        time.sleep(0.1)
    assert not is_running(row["child"])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def test_the_dry_run_measures_every_part_once(tmp_path, capsys):
    asked = ["--dry-run", "--device", "cpu", "--out", str(tmp_path), "--minutes", "20"]
    assert gpu_report.main(asked) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["parts"]) == [part.name for part in PARTS]
    for name, part in report["parts"].items():
        assert (part["status"], part["error"]) == (MEASURED, ""), name
        assert part["rows"], name
    rows = report["parts"]["network_m"]["rows"]
    graphed = [row for row in rows if "graphed" in row["contender"]]
    assert {row["ms a clip"] for row in graphed} == {"not measured: no CUDA device"}
    others = [row for row in rows if row not in graphed]
    assert len(graphed) == 4 and len(others) == 16
    assert all(row["ms a clip"] > 0 for row in others)
    compiled = report["parts"]["compiled_s"]["rows"]
    assert {row["ms a clip"] for row in compiled} == {"not measured: no CUDA device"}
    shares = [row["share of copy bandwidth"] for row in others if row["work"] == "forward"]
    assert len(shares) == 8 and min(shares) > 0
    (scored,) = report["parts"]["demo"]["rows"]
    assert 0 <= scored["frame-mAP (ground-truth boxes)"] <= 1
    assert {row["clips"] for row in report["parts"]["loading"]["rows"]} == {
        "of the loader", "one batch, repeated"
    }  # fmt: skip
    page = (tmp_path / "report.md").read_text()
    assert "A dry run" in page and all(f"## {part.title}\n" in page for part in PARTS)

    changed = (tmp_path / "machine.log").stat().st_mtime_ns
    capsys.readouterr()
    assert gpu_report.main(asked) == 0
    assert capsys.readouterr().out.count("measured before") == len(PARTS)
    assert (tmp_path / "machine.log").stat().st_mtime_ns == changed
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_a_part_that_failed_does_not_end_the_report_and_is_repeated(tmp_path, monkeypatch, capsys):
    """Without the demo's data the demo cannot be trained."""
    out = ["--dry-run", "--device", "cpu", "--out", str(tmp_path)]
    assert gpu_report.main([*out, "--only", "demo", "bandwidth"]) == 1
    printed = capsys.readouterr().out
    assert "Copy bandwidth: measured" in printed
    assert "The demo trained (made up): failed" in printed and "part `data` makes them" in printed
    assert "**failed: FileNotFoundError: the demo's data" in (tmp_path / "report.md").read_text()
    assert gpu_report.main([*out, "--only", "data", "demo", "bandwidth"]) == 0
    assert "Copy bandwidth: measured before" in capsys.readouterr().out


def test_a_contender_that_fails_is_named_and_the_others_are_measured(tmp_path, monkeypatch):
    def prepared(trunk, clips, contender, work, device):
        if contender.bf16:
            raise NotImplementedError("no kernel\nin detail")
        return lambda: trunk(clips)

    monkeypatch.setattr(gpu_parts, "prepared", prepared)
    rows: list[gpu_report.Row] = []
    contenders = [gpu_parts.Contender("ours", bf16=bf16, last=False) for bf16 in (True, False)]
    with pytest.raises(RuntimeError, match="2 of 4 failed, first forward of ours, bf16 "):
        gpu_parts.network("xs", contenders, Settings(str(tmp_path), "cpu", True), rows.append)
    said = [row["ms a clip"] for row in rows]
    assert said[0] == said[2] == "failed: NotImplementedError: no kernel"
    assert said[1] > 0 and said[3] > 0


def test_least_values_are_those_of_every_convolution_once():
    trunk = X3DTrunk(gpu_parts.TINY)
    one, two = (gpu_parts.least_values(trunk, torch.zeros(n, 3, 4, 32, 32)) for n in (1, 2))
    assert two == 2 * one
    stem = 3 * 4 * 32 * 32 + 2 * trunk.description.stem_channels * 4 * 16 * 16
    assert one > 2 * stem


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_only_a_dry_run_is_made(tmp_path):
    with pytest.raises(UserError, match="finds no GPU, .*--dry-run tries"):
        gpu_report.main(["--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no report of this command"),
        ("[]", "no report of this command"),
        ('{"settings": {"device": "cuda:0", "dry_run": false}, "parts": {}}', "is asked for"),
    ],
)
def test_reports_of_others_are_refused(tmp_path, text, message):
    (tmp_path / "report.json").write_text(text)
    asked = ["--dry-run", "--device", "cpu", "--out", str(tmp_path), "--only", "machine"]
    with pytest.raises(UserError, match=message):
        gpu_report.main(asked)
    assert (tmp_path / "report.json").read_text() == text


def test_nothing_measured_gives_an_empty_page():
    report = {"settings": {"dry_run": False}, "parts": {}}
    assert gpu_report.as_markdown(report) == "# GPU report\n"
    part = {"status": FAILED, "error": "a|b", "seconds": 1.0, "rows": []}
    page = gpu_report.as_markdown(report | {"parts": {"bandwidth": part}})
    assert "**failed: a/b**" in page and "---" not in page
