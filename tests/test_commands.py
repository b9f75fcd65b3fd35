"""Every command ends in one of four ways, whatever its streams, options and paths are."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from ava_tools import __main__ as front
from ava_tools import cli
from ava_tools.cli import CommandParser, at_a_time, number, path_text
from detection import __version__

REPOSITORY = Path(__file__).resolve().parent.parent
COMMANDS = sorted(
    path.stem
    for path in (REPOSITORY / "ava_tools").glob("*.py")
    if "run_command(main)" in path.read_text(encoding="utf-8")
) + ["train_ava"]
CODES = {0, 1, 2, 75}

# What a command needs to get as far as opening files: {name} is a path that is put in.
LINES = {
    "check": ["{a}"],
    "convert": ["--checkpoint {a} --out {out}"],
    "detect_actions": ["{a} --checkpoint {b} --out {out}"],
    "detect_people": ["--dataset {a} --split val --weights {b} --out {out}"],
    "download": ["--dataset ava-v2.2 --base-url http://127.0.0.1:9 --attempts 1 --out {a}"],
    "evaluate": ["--ground-truth {a} --detections {b} --label-map {b}"],
    "expand": ["--cfg {a}"],
    "export": ["--checkpoint {a} --to torch --out {out}"],
    "export_cvat": ["--dataset {a} --split val --out {out}"],
    "export_labels": ["via3 --dataset {a} --split val --out {out}"],
    "import_dataset": [
        "cvat --source {a} --videos {b} --out {out}",
        "coco --source {a} --videos {b} --out {out}",
        "csv --source {a} --videos {b} --out {out}",
        "datumaro --source {a} --videos {b} --out {out}",
        "proposals --source {a} --out {out}",
        "frames --source {a} --fps 30 --out {out}",
        "mot --source {a} --videos {b} --out {out}",
        "via3 --source {a} --videos {b} --out {out}",
        "via2 --source {a} --videos {b} --out {out}",
        "ava --source {a} --videos {b} --label-map {b} --out {out}",
        "cvat-images --source {a} --videos {b} --out {out}",
        "label-studio --source {a} --videos {b} --out {out}",
        "jhmdb --source {a} --out {out}",
        "ucf101-24 --source {a} --out {out}",
        "multisports --source {a} --out {out}",
        "videos --source {a} --out {out}",
        "corrections --dataset {a} --split val --corrections {b} --out {out}",
        "clips --dataset {a} --out {out}",
    ],
    "inspect_model": ["--cfg {a}", "--checkpoint {a}"],
    "label": ["--dataset {a} --boxes people --actions wave"],
    "learn_thresholds": ["--run {a}"],
    "make_demo": ["--num-train 1 --num-val 1 --keyframes 2 --out {a}/below"],
    "prepare": ["--dataset {a} --out {out}"],
    "publish": ["{a} --out {out}"],
    "report_boxes": ["--dataset {a} --split val --boxes {b}"],
    "score_events": ["--ground-truth {a} --detections {b}"],
    "score_tubes": ["--ground-truth {a} --tubes {b} --protocol act"],
    "score_views": ["--checkpoint {a}"],
    "teach": ["--dataset {a}"],
    "train_people": ["--cfg {a}", "--resume {a}", "--eval-only --checkpoint {a}"],
    "verify": ["{a}"],
    "visualize": [
        "--run {a}",
        "--video {a} --ground-truth {b} --label-map {b} --out {out}",
    ],
    "train_ava": ["--cfg {a}", "--resume {a}", "--eval-only --checkpoint {a}"],
}
CASES = [(name, line) for name in COMMANDS for line in LINES[name]]


SCRIPT = """
import os, sys, time
from ava_tools.cli import run_command
def main(arguments):
    what = sys.argv[1]
    if what == "rows":
        for number in range(100_000):
            print("row", number)
    elif what == "names":
        print("\\u8d70\\udcff")
    elif what == "wait":
        print("ready", flush=True)
        time.sleep(60)
    elif what == "memory":
        bytearray(1 << 60)
    elif what == "deep":
        def deeper(n):
            return deeper(n + 1)
        deeper(0)
    elif what == "closed":
        os.close(os.open(os.devnull, os.O_RDONLY) + 100)
    elif what == "fault":
        raise RuntimeError("a fault of ours")
run_command(main)
"""


def program(name: str) -> str:
    """Return the command as a shell would start it."""
    what = "train_ava.py" if name == "train_ava" else f"-m ava_tools.{name}"
    return f"{sys.executable} {what}"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; the code is the first of a pipe that is not 0."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | environment,
    )


def run_here(name: str, line: list[str], monkeypatch, capfd) -> tuple[int, str]:
    """Run a command in this process as `run_command` does; return its code and stderr."""
    module = importlib.import_module("train_ava" if name == "train_ava" else f"ava_tools.{name}")
    monkeypatch.setattr(sys, "argv", [name, *line])
    code = cli.exit_code_of(module.main)
    return code, capfd.readouterr().err


def is_plain(code: int, errors: str) -> bool:
    """Tell whether an end is one of those that are promised."""
    return code in CODES and errors.count("\n") <= 3 and "Traceback" not in errors


def test_every_command_is_known_here():
    assert set(COMMANDS) == set(LINES)
    verbs = {name if name != "train_ava" else "train" for name in COMMANDS}
    assert set(front.verb_modules()) == verbs


def test_verbs_are_listed_with_a_line_each_and_run(capsys):
    listed = shell(f"{sys.executable} -m ava_tools")
    assert (listed.returncode, listed.stderr) == (0, "")
    lines = [line.split(maxsplit=1) for line in listed.stdout.splitlines() if line[:2] == "  "]
    assert [verb for verb, _ in lines] == sorted(front.verb_modules())
    for verb, about in lines:
        module = importlib.import_module(front.verb_modules()[verb])
        assert about == module.__doc__.partition("\n")[0] and about[-1] == "."
    assert shell(f"{sys.executable} -m ava_tools --help").stdout == listed.stdout
    assert shell(f"{sys.executable} -m ava_tools --version").stdout == f"{__version__}\n"
    direct, through = (
        shell(f"{sys.executable} -m ava_tools{by}check {REPOSITORY / 'docs'}") for by in ". "
    )
    assert direct.returncode == 2 and (direct.stdout, direct.stderr, 2) == (
        through.stdout, through.stderr, through.returncode)  # fmt: skip


@pytest.mark.parametrize(
    "verb, hint", [("chek", "check"), ("detect-actions", "detect_actions"), ("xyz", "--help")]
)
def test_an_unknown_verb_is_one_line_with_near_names(verb, hint):
    ended = shell(f"{sys.executable} -m ava_tools {verb} --cfg x")
    assert ended.returncode == 2 and not ended.stdout and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"error: '{verb}' is not a verb") and hint in ended.stderr


@pytest.mark.parametrize("line", ["", "--list-options"])
def test_lists_into_a_closed_pipe_end_without_a_traceback(line):
    commands = ["-m ava_tools.train_people", "train_ava.py"] if line else ["-m ava_tools"]
    for command in commands:
        ended = shell(f"(sleep 1; exec {sys.executable} {command} {line}) | true")  # it has left
        assert (ended.returncode, ended.stderr) == (75, "")
        first = shell(f"{sys.executable} {command} {line} | head -1")
        assert first.returncode in (0, 75) and first.stderr == "" and first.stdout.count("\n") == 1


class _ParsedError(Exception):
    pass


def parsers_of(name: str, monkeypatch) -> list[CommandParser]:
    """Return a command's parser and those of its sub-commands."""

    def parse(parser, *_):
        raise _ParsedError(parser)

    for method in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(CommandParser, method, parse)
    module = importlib.import_module("train_ava" if name == "train_ava" else f"ava_tools.{name}")
    with pytest.raises(_ParsedError) as stopped:
        module.main([])
    parser = stopped.value.args[0]
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [parser, *(p for action in inner for p in action.choices.values())]


def test_an_option_of_one_name_is_the_same_in_all_commands(monkeypatch):
    found: dict[str, list[tuple[str, argparse.Action]]] = {}
    for name in COMMANDS:
        for parser in parsers_of(name, monkeypatch):
            for action in parser._actions:
                for option in action.option_strings or [action.dest]:
                    found.setdefault(option, []).append((name, action))
    same = {
        "--cfg": "type metavar", "overrides": "nargs metavar", "--threads": "type metavar help",
        "--device": "type metavar help", "--quiet": "nargs help", "--overwrite": "nargs default",
        "--half": "nargs help", "--jobs": "metavar", "--workers": "metavar",
        "--resume": "type metavar help", "--only": "metavar help",
    }  # fmt: skip
    assert set(same) <= set(found)
    for option, facts in same.items():
        for fact in facts.split():
            values = {str(getattr(action, fact)) for _, action in found[option]}
            assert len(values) == 1, (option, fact, found[option])
    for option, shared in cli.SHARED.items():
        users = {name for name, _ in found.get(option, ())}
        assert len(users) > 1 or option == "--list-options", (option, shared)


# What the glossary of CONTRIBUTING.md has other words for; options keep their names.
OTHER_WORDS = re.compile(
    r"\b(wanted|films?|pictures?|somebody|nobody|moments?|rivals?|holes?|no such|looks? (at|for)"
    r"|lesson)\b"
)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_keeps_to_the_words_of_the_glossary(name, monkeypatch):
    for parser in parsers_of(name, monkeypatch):
        texts = [parser.description or "", parser.epilog or ""]
        texts += [str(action.help) for action in parser._actions]
        for text in texts:
            said = re.sub(r"--[\w-]+|films: ", "", text)
            assert not OTHER_WORDS.search(said), text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_nothing_heavy(name):
    module = "train_ava" if name == "train_ava" else f"ava_tools.{name}"
    ended = shell(
        f"{sys.executable} -c \"import sys, {module} as m\ntry: m.main(['--help'])\n"
        "except SystemExit: print({'torch', 'numpy', 'pydantic', 'tqdm'} & {*sys.modules})\""
    )
    assert ended.stdout.endswith("set()\n") and ended.returncode == 0, ended.stderr


BARS = """import sys
from ava_tools.cli import run_command
def main(arguments):
    from tqdm import tqdm
    for _ in tqdm(range(3), desc="work"):
        pass
run_command(main)
"""


def stderr_of(program: str, *, terminal: bool, **variables: str) -> str:
    """What a program writes on stderr, a terminal or a pipe."""
    reader, writer = os.openpty() if terminal else os.pipe()
    if terminal:
        termios.tcsetwinsize(writer, (24, 80))
    try:
        environment = {name: v for name, v in os.environ.items() if not name.startswith("TQDM_")}
        command = [sys.executable, "-c", program]
        subprocess.run(command, stderr=writer, env=environment | variables, check=True)
        os.write(writer, b"end")  # a pipe that holds nothing would be waited for
        read = b""
        while not read.endswith(b"end"):
            read += os.read(reader, 100_000)
        return read.decode()[:-3]
    finally:
        os.close(reader)
        os.close(writer)


def test_progress_of_short_work_is_shown_on_a_terminal_and_left_out_of_logs():
    assert "work: 100%" in stderr_of(BARS, terminal=True)
    assert stderr_of(BARS, terminal=False) == ""
    at_once = {"TQDM_DELAY": "0", "TQDM_MININTERVAL": "0"}
    assert "work: 100%" in stderr_of(BARS, terminal=False, **at_once)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_wrong_options(name):
    first = shell(f"{program(name)} --help | head -1")
    assert first.returncode == 0 and first.stdout.startswith("usage:") and not first.stderr
    full = shell(f"{program(name)} --help >/dev/full")
    assert full.returncode == 2
    assert full.stderr == "error: standard output: No space left on device\n"
    wrong = shell(f"{program(name)} --no-option-at-all")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
    assert wrong.stderr.startswith("error: ") and not wrong.stdout


@pytest.mark.parametrize(
    "closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>&1"]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_that_are_closed_or_full(closed, unbuffered):
    for option, code in (("--help", 0), ("--no-option", 2)):
        ended = shell(f"{program('check')} {option} {closed}", PYTHONUNBUFFERED=unbuffered)
        full = option == "--help" and closed.startswith(">/dev/full")
        assert ended.returncode == (2 if full else code), (option, ended)
        assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return f"PYTHONPATH={REPOSITORY} {sys.executable} {path}"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_left_ends_the_command_without_a_word(script, unbuffered):
    ended = shell(f"{script} rows | head -1", PYTHONUNBUFFERED=unbuffered)
    assert (ended.returncode, ended.stdout, ended.stderr) == (75, "row 0\n", "")
    full = shell(f"{script} rows >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert full.returncode == 2
    assert full.stderr == "error: standard output: No space left on device\n"


def test_characters_that_an_encoding_does_not_have_are_written_out(script):
    assert shell(f"{script} names", PYTHONIOENCODING="ascii").stdout == "\\u8d70\\udcff\n"
    assert shell(f"{script} names", PYTHONIOENCODING="utf-8").stdout == "走\\udcff\n"


@pytest.mark.parametrize(
    "what, said",
    [
        ("memory", "error: not enough memory (at "),
        ("deep", "error: the input is nested too deeply (at "),
        ("closed", "error: Bad file descriptor (at "),
    ],
)
def test_what_the_system_lacks_is_one_line(script, what, said):
    ended = shell(f"{script} {what}")
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(said)


def test_a_fault_of_this_project_keeps_its_traceback(script):
    assert "RuntimeError: a fault of ours" in shell(f"{script} fault").stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_is_75_and_one_word(tmp_path, number):
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), "wait"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=20)[1] == "interrupted\n"
    assert process.returncode == 75


def test_asked_to_stop_while_it_ends_a_command_says_nothing(tmp_path):
    """`timeout` asks the program and then its group: the second may come at any time."""
    (tmp_path / "script.py").write_text(
        "import atexit, os, signal\n"
        "from ava_tools.cli import run_command\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "run_command(lambda arguments: 0)\n"
    )
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("name, line", CASES)
@pytest.mark.parametrize("kind", ["missing", "long", "folder", "below a file", "circle", "pipe"])
def test_paths_that_lead_nowhere(tmp_path, monkeypatch, capfd, name, line, kind):
    file = tmp_path / "file"
    file.write_text("a: [1\n")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    place = {
        "missing": tmp_path / "nothing.mp4",
        "long": tmp_path / ("n" * 300),
        "folder": tmp_path / "folder",
        "below a file": file / "below",
        "circle": tmp_path / "circle",
        "pipe": tmp_path / "pipe",
    }[kind]
    before = {path: path.lstat().st_mode for path in tmp_path.iterdir()}
    words = line.format(a=place, b=file, out=tmp_path / "out").split()
    if kind in ("missing", "folder") and name in ("download", "make_demo"):
        return  # which is what they need
    code, errors = run_here(name, words, monkeypatch, capfd)
    assert code == 2 or (name == "verify" and code == 1), errors
    assert is_plain(code, errors), errors
    assert {path: path.lstat().st_mode for path in tmp_path.iterdir()} == before


def test_values_of_options_are_checked_in_one_place(capsys):
    parser = CommandParser(prog="command")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cfg", type=path_text)
    parser.add_argument("--jobs", type=at_a_time)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--share", type=float)
    good = parser.parse_args(["--out=~/x", "--cfg=~/y", "--jobs=1024", "--seed=-3", "--share=1e-3"])
    assert good == argparse.Namespace(
        out=Path.home() / "x", cfg=str(Path.home() / "y"), jobs=1024, seed=-3, share=0.001
    )
    for word, said in (
        ("--out=", "a path is required, found an empty one"),
        ("--out=~nobody-of-this-name/x", "whose home folder is it?"),
        ("--cfg=", "a path is required"),
        ("--jobs=1000000", "'1000000': a whole number from 1 to 1,024 is required"),
        ("--jobs=0", "from 1 to 1,024"),
        ("--seed=" + "9" * 5000, "a whole number from"),
        ("--seed=1_0", "a whole number from"),
        ("--share=nan", "'nan': a number from"),
        ("--share=inf", "'inf': a number from"),
        ("--share=" + "x" * 50, f"'{'x' * 40}': a number from"),
    ):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([word])
        errors = capsys.readouterr().err
        assert ended.value.code == 2 and errors.count("\n") == 1
        assert errors.startswith("error: argument --") and said in errors


def test_numbers_have_ends():
    assert [number(0, 1)(text) for text in ("0", "1", "1e-3")] == [0, 1, 0.001]
    assert number(0, math.inf)("inf") == math.inf
    for read, text, said in (
        (number(0, 1), "1.01", "'1.01': a number from 0 to 1 is required"),
        (number(0, 1), "-0.01", "from 0 to 1"),
        (number(0, 1, above=True), "0", "above 0 to 1"),
        (number(0, math.inf), "-1", "a number from 0 is required"),
        (number(0, math.inf), "nan", "a number from 0 is required"),
    ):
        with pytest.raises(argparse.ArgumentTypeError) as refused:
            read(text)
        assert said in str(refused.value)


@pytest.mark.parametrize(
    "name, option, values",
    [
        ("download", "--timeout", "1e30 inf nan 0 -1 90000"),
        ("detect_actions", "--every", "0 inf nan -1"),
        ("detect_actions", "--person-score", "1.5 nan -1"),
        ("detect_actions", "--smoothing", "inf nan -1"),
        ("detect_actions", "--max-gap", "inf nan -1"),
        ("detect_actions", "--start", "inf nan -1"),
        ("detect_actions", "--end", "nan -1"),
        ("detect_actions", "--reconnect", "inf nan -1"),
        ("detect_people", "--score-floor", "2 nan -1"),
        ("evaluate", "--iou", "2 nan -1"),
        ("evaluate", "--draws", "1000000000 -1"),
        ("export_cvat", "--every", "0 inf nan"),
        ("export_cvat", "--min-score", "80 nan -1"),
        ("export_cvat", "--keep-iou", "80 nan -1"),
        ("export_labels", "--fps", "0 inf nan"),
        ("import_dataset via3", "--fps", "0 inf nan"),
        ("import_dataset label-studio", "--every", "inf nan -1"),
        ("import_dataset via3", "--start", "inf nan -1"),
        ("label", "--min-score", "80 nan -1"),
        ("label", "--min-length", "0 -1 1.5"),
        ("import_dataset cvat", "--every", "inf nan -1"),
        ("import_dataset cvat", "--val-share", "80 nan -1"),
        ("prepare", "--clip-span", "inf nan -1"),
        ("prepare", "--frames-start", "inf nan -1"),
        ("prepare", "--fps", "0 inf nan"),
        ("report_boxes", "--threshold", "80 nan -1"),
        ("visualize", "--threshold", "80 nan -1"),
        ("visualize", "--iou", "80 nan -1"),
        ("visualize", "--start", "inf nan -1"),
        ("visualize", "--seconds", "nan -1"),
    ],
)
def test_seconds_and_shares_of_every_command_have_ends(name, option, values, capsys):
    module, *before = name.split()
    main = importlib.import_module(f"ava_tools.{module}").main
    for value in values.split():
        with pytest.raises(SystemExit) as ended:
            main([*before, f"{option}={value}"])
        errors = capsys.readouterr().err
        assert ended.value.code == 2 and errors.count("\n") == 1
        assert errors.startswith(f"error: argument {option}: '{value}': a ")


def test_names_of_others_neither_drive_nor_flood_the_terminal(capsys):
    def main(arguments):
        raise cli.UserError("\x1b[31m" + "n" * 1_000_000 + "\nnext")

    assert cli.exit_code_of(main) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "\x1b" not in errors and len(errors) < 5000
    assert errors.startswith("error: \\x1b[31mnnn") and errors.endswith(" next\n")
