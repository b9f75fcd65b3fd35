"""Every command that pages and help texts show is one that its own parser takes; none is run."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ava_tools.__main__ import verb_modules
from ava_tools.cli import CommandParser
from detection.config import list_options, list_people_options
from detection.yaml_files import find_configuration

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted([REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")])
STARTS = re.compile(
    r"^(?:python -m ava_tools\.(\w+)|python (train_ava)\.py|x3d-actions ([a-z_]+))\s*"
)
TORCHRUN = re.compile(r"^torchrun .*?(?=-m ava_tools\.|train_ava\.py)")


def shown(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each command of a page, and whether it is whole: a line of a block, no mention."""
    blocks = re.compile(
        r"^```(?:\w+(?: \w+)*)?\n(.*?)^```|((?:^    \S.*\n)+)", re.MULTILINE | re.DOTALL
    )
    for fenced, indented in blocks.findall(text):
        for line in re.sub(r" *\\\n(?:> )? *", " ", fenced or indented).splitlines():
            for part in line.strip().removeprefix("$ ").split("|"):
                command = TORCHRUN.sub("python ", part.strip())
                if STARTS.match(command):
                    yield command, True
    for code in re.findall(r"`([^`]+)`", blocks.sub("", text)):
        command = TORCHRUN.sub("python ", " ".join(code.split()))
        if STARTS.match(command):
            yield command, False


def words_of(command: str) -> tuple[str, list[str]]:
    """Return the verb and its arguments, without comments and the brackets of what is optional."""
    start = STARTS.match(command)
    assert start is not None
    verb = next(name for name in start.groups() if name is not None)
    rest = re.sub(r"(?<!\S)\[([^]]*)\]", r"\1", command[start.end() :])
    rest = re.sub(r"(--[a-z-]+) \.\.\.", r"\1 X", rest)
    rest = re.sub(r"\.\.\.(?!\w)", "", re.split(r"\s{2,}(?=[a-z0-9,(])", rest)[0])
    return "train" if verb == "train_ava" else verb, shlex.split(rest, comments=True)


def shown_in_help(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each command on lines of its own in a module's texts, and whether it is whole."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for line in re.sub(r" *\\\n *", " ", node.value).splitlines():
                for part in line.strip().split("|"):
                    command = TORCHRUN.sub("python ", part.strip())
                    if STARTS.match(command):
                        yield command, "..." not in command and command.count(" ") > 2


MODULES = [*sorted((REPOSITORY / "ava_tools").glob("*.py")), REPOSITORY / "train_ava.py"]
COMMANDS = sorted(
    {
        (page.name, command, whole)
        for page in PAGES
        for command, whole in shown(page.read_text(encoding="utf-8"))
    }
    | {(path.name, *found) for path in MODULES for found in shown_in_help(path)}
)


class Parsed(Exception):
    """The parser took the arguments: nothing further is to happen."""


@pytest.mark.parametrize(("page", "command", "whole"), COMMANDS)
def test_the_parser_of_a_shown_command_takes_it(monkeypatch, page, command, whole):
    for name in ("parse_args", "parse_intermixed_args"):
        plain = getattr(CommandParser, name)

        def parse(parser, arguments, plain=plain):
            raise Parsed(plain(parser, list(arguments)))

        monkeypatch.setattr(CommandParser, name, parse)

    monkeypatch.chdir(REPOSITORY)

    def error(parser, message):
        raise AssertionError(message)

    monkeypatch.setattr(CommandParser, "error", error)
    verb, arguments = words_of(command)
    assert verb in verb_modules(), verb
    if not whole and (not arguments or {"FORMAT"} & set(arguments)):
        return
    try:
        importlib.import_module(verb_modules()[verb]).main(arguments)
    except Parsed as parsed:
        options = parsed.args[0]
    except AssertionError as problem:
        assert not whole and "required" in str(problem), problem  # a mention is no whole line
        return
    cfg = getattr(options, "cfg", None)
    if cfg is not None and (whole or "configs/" in cfg) and not re.search(r"FILE|runs/", cfg):
        find_configuration(cfg)
    keys = {key for listed in (list_options, list_people_options) for key, *_ in listed()}
    for override in getattr(options, "overrides", None) or []:
        assert override.partition("=")[0] in keys or verb == "expand" or "a.b" in override, override


def test_commands_are_found_in_blocks_and_in_prose():
    text = (
        "Say `python -m ava_tools.check DIR` or\n\n```\n$ ls\n"
        "torchrun --nproc-per-node 2 train_ava.py --cfg A \\\n    b=1   # why\n"
        "cat x | python -m ava_tools.evaluate --out D\n```\n\n"
        "    python -m ava_tools.prepare --dataset A\n\n"
        "```console run\n$ python -m ava_tools.check DIR \\\n>     --decode\nokay\n```\n"
    )
    assert list(shown(text)) == [
        ("python train_ava.py --cfg A b=1   # why", True),
        ("python -m ava_tools.evaluate --out D", True),
        ("python -m ava_tools.prepare --dataset A", True),
        ("python -m ava_tools.check DIR --decode", True),
        ("python -m ava_tools.check DIR", False),
    ]
    assert words_of("python train_ava.py --cfg A [b.c=1 ...]  # why") == (
        "train",
        ["--cfg", "A", "b.c=1"],
    )
    assert {page for page, _, _ in COMMANDS} >= {"README.md", "pipeline.md", "data.md", "people.md"}
