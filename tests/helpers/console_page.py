"""Pages that show a shell: what is typed in them, what appears, and whether it still does.

A block ```` ```console run ```` is run, in order, all of a section in one shell and one folder.
`$ ` begins what is typed, `> ` goes on with it; the lines below are what appears on stdout and
stderr. `...` stands for any text within a line, and alone on a line for any lines; `(exit code 2)`
ends what a command that failed is shown with. `<!-- needs: NAME = FILE; ... -->` names real data
that the folder of the section holds, by their path below the folder of real data.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_SECTION = re.compile(r"^## (\d+\. .*)$", re.MULTILINE)
_BLOCK = re.compile(r"^```console run\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NEEDS = re.compile(r"<!-- needs:(.*?)-->", re.DOTALL)
_EXIT = re.compile(r"\(exit code (\d+)\)")
HUNG_S = 900


@dataclass(frozen=True)
class Typed:
    """What is typed, the lines that are to appear, and the exit code."""

    command: str
    shown: tuple[str, ...]
    code: int


@dataclass(frozen=True)
class Section:
    """A section whose blocks are run; needs: name in its folder to path below the real data."""

    title: str
    needs: dict[str, str]
    typed: tuple[Typed, ...]


def sections(page: str) -> list[Section]:
    """Return the numbered sections of a page; those without a block that is run as well."""
    starts = [*_SECTION.finditer(page)]
    ends = [start.start() for start in starts[1:]] + [len(page)]
    return [
        _section(start[1], page[start.end() : end]) for start, end in zip(starts, ends, strict=True)
    ]


def _section(title: str, text: str) -> Section:
    needs = {}
    for listed in _NEEDS.findall(text):
        for line in filter(None, (part.strip() for part in listed.split(";"))):
            name, _, path = (word.strip() for word in line.partition("="))
            needs[name] = path
    typed = [each for block in _BLOCK.findall(text) for each in _typed(block)]
    return Section(title, needs, tuple(typed))


def _typed(block: str) -> list[Typed]:
    commands: list[tuple[list[str], list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append(([line[2:]], []))
        elif re.match("> ?", line) and commands and not commands[-1][1]:
            commands[-1][0].append(line[2:])
        else:
            assert commands, f"a block begins with what is typed, not with {line!r}"
            commands[-1][1].append(line)
    found = []
    for command, shown in commands:
        code = _EXIT.fullmatch(shown[-1]) if shown else None
        found.append(
            Typed(
                "\n".join(command),
                tuple(shown[:-1] if code else shown),
                int(code[1]) if code else 0,
            )
        )
    return found


def is_shown(shown: tuple[str, ...], appeared: str) -> bool:
    """Tell whether what appeared is what is shown; spaces at the ends of lines do not count."""
    pattern = ""
    for line in shown:
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += ".*?".join(map(re.escape, line.rstrip().split("..."))) + "\n"
    text = "".join(line.rstrip() + "\n" for line in appeared.rstrip().splitlines())
    return re.fullmatch(pattern, text) is not None


def run_section(section: Section, folder: Path, repository: Path) -> list[tuple[Typed, int, str]]:
    """Type everything into one shell in `folder`; return exit codes and what appeared.

    Ends at the first command whose exit code is not the one that is shown. `python` is the one that
    runs the tests; programs that are left running are ended.
    """
    scratch = folder / ".console"
    (scratch / "bin").mkdir(parents=True)
    python = scratch / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    script = ""
    for number, typed in enumerate(section.typed):
        (scratch / f"{number}.sh").write_text(typed.command + "\n")
        script += (
            f'. "{scratch}/{number}.sh" > "{scratch}/{number}.txt" 2>&1 < /dev/null\n'
            f'code=$?; echo $code > "{scratch}/{number}.code"\n'
            f"[ $code = {typed.code} ] || exit 0\n"
        )
    for name in ("train_ava.py", "configs", "docs"):
        (folder / name).symlink_to(repository / name)
    environment = os.environ | {
        "PATH": f"{scratch}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(repository),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
    }
    shell = subprocess.Popen(
        ["bash", "-c", script], cwd=folder, env=environment, start_new_session=True
    )
    try:
        shell.wait(timeout=HUNG_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    done = []
    for number, typed in enumerate(section.typed):
        code = scratch / f"{number}.code"
        if code.is_file():
            appeared = (scratch / f"{number}.txt").read_text(errors="replace")
            done.append((typed, int(code.read_text()), appeared))
    return done
