"""Figures in the documents can be traced: commits are in the history, commands parse."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from detection.config import list_options, list_people_options

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted([REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")])
SCRIPT = re.compile(r"(?:[A-Z_]+=\S+ )*python ((?:benchmarks|tests)/[\w/]+\.py)\b(.*)")
# Commits of other projects: "commit HASH" stands before each of them, too.
OTHERS = {"02b5c4e"}  # detectron2


def commands_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield script and arguments of each command that stands on a line of its own in a block."""
    blocks = re.compile(r"^```(?:\w*)\n(.*?)^```|((?:^    \S.*\n|^        \S.*\n)+)", re.M | re.S)
    for fenced, indented in blocks.findall(text):
        for line in re.sub(r" *\\\n *", " ", fenced or indented).splitlines():
            if match := SCRIPT.match(line.strip()):
                yield match[1], match[2]


def commits_of(text: str) -> set[str]:
    """Return the commits that a text names: after "commit", or after "and" and "to" behind one."""
    chains = re.findall(
        r"\b(?:[Cc]ommits?|[Bb]efore|as of)\s+\[?([0-9a-f]{7}(?:(?:,| and| to)\s+[0-9a-f]{7})*)\b",
        text,
    )
    return {commit for chain in chains for commit in re.findall(r"[0-9a-f]{7}", chain)}


COMMANDS = sorted({found for page in PAGES for found in commands_of(page.read_text("utf-8"))})


class Parsed(BaseException):
    """The parser took the arguments: nothing further is to happen."""


@pytest.mark.parametrize(("script", "arguments"), COMMANDS)
def test_the_script_of_a_shown_benchmark_takes_its_arguments(monkeypatch, script, arguments):
    plain = {
        name: getattr(argparse.ArgumentParser, name)
        for name in ("parse_args", "parse_intermixed_args")
    }

    def stop_after(name):
        def parse(parser, given=None, namespace=None):
            for one, own in plain.items():
                monkeypatch.setattr(argparse.ArgumentParser, one, own)
            raise Parsed(plain[name](parser, given, namespace))

        return parse

    def error(parser, message):
        raise AssertionError(message)

    for name in plain:
        monkeypatch.setattr(argparse.ArgumentParser, name, stop_after(name))
    monkeypatch.setattr(argparse.ArgumentParser, "error", error)
    words = re.sub(r"(?<!\S)\[([^]]*)\]", r"\1", arguments)
    monkeypatch.setattr(sys, "argv", [script, *shlex.split(words, comments=True)])
    monkeypatch.setattr(
        sys, "path", [str(REPOSITORY), str((REPOSITORY / script).parent), *sys.path]
    )
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(Parsed) as stopped:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    options = stopped.value.args[0]
    keys = {key for listed in (list_options, list_people_options) for key, *_ in listed()}
    for override in getattr(options, "overrides", None) or []:
        assert override.partition("=")[0] in keys, override
    for name in ("cfg", "films"):
        cfg = str(getattr(options, name, None) or "")
        assert not cfg.startswith("configs/") or (REPOSITORY / cfg).is_file(), cfg


def test_every_commit_that_a_figure_names_is_in_the_history():
    named = {commit for page in PAGES for commit in commits_of(page.read_text("utf-8"))} - OTHERS
    assert len(named) > 25, "they were found"
    history = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-list", "HEAD"], capture_output=True, text=True
    )
    short = {commit[:7] for commit in history.stdout.split()}
    if not named & short:
        pytest.skip("no history here")  # a copy of the files alone, or the last commits alone
    assert named <= short, named - short


def test_commands_and_commits_are_found():
    text = (
        "At commit 1234567, and at commits\nabcdef0, 1111111 and 2222222; before 3333333.\n"
        "Commit 5555555 too; a share of 4444444.\n\n    # why\n"
        "    A=1 python benchmarks/x.py --a b \\\n        c.d=1\n\n"
        "```\npython benchmarks/y.py [--z 1]\n```\n"
    )
    assert commits_of(text) == {
        "1234567",
        "abcdef0",
        "1111111",
        "2222222",
        "3333333",
        "5555555",
    }
    assert list(commands_of(text)) == [
        ("benchmarks/x.py", " --a b c.d=1"),
        ("benchmarks/y.py", " [--z 1]"),
    ]
