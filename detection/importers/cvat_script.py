"""Makes a task in CVAT for each video of `tasks.json`, and fetches what was annotated.

    python tasks.py upload -- --server-host https://app.cvat.ai --auth NAME
    python tasks.py download -- --server-host https://app.cvat.ai --auth NAME

What follows `--` goes to CVAT's own command line, which must be there (pip install cvat-cli) and
asks for the password (or takes it from the environment: PASS). `upload` makes a task with labels,
video and boxes for each video that has none of its name yet; `download` fetches each task's
annotations into `exports/`, whatever was fetched before. Both can be given again.
"""

# `export_cvat` writes a copy of this file beside its own: nothing but the standard library is used.

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
EXPORTS = FOLDER / "exports"
UPLOAD_FORMAT = "CVAT 1.1"
DOWNLOAD_FORMAT = "CVAT for video 1.1"


def main(arguments: list[str]) -> int:
    """Run `upload` or `download`; returns the exit code."""
    verb, *server = arguments or [""]
    if verb not in ("upload", "download") or (server and server[0] != "--"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        listed = json.loads((FOLDER / "tasks.json").read_text(encoding="utf-8"))
        (make_tasks if verb == "upload" else fetch_exports)(listed, server[1:])
    except FileNotFoundError as error:
        missing = "cvat-cli is not installed: pip install cvat-cli"
        is_client = error.filename == "cvat-cli"
        print(missing if is_client else f"{error.filename}: not found", file=sys.stderr)
        return 2
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class Failed(Exception):
    """What went wrong, in one line."""


def make_tasks(listed: dict[str, Any], server: list[str]) -> None:
    """Make a task for each video whose name no task has."""
    there = tasks_by_name(server)
    for task in listed["tasks"]:
        name = task["name"]
        if name in there:
            state = "is there already" if there[name][0].get("size") else "is there WITHOUT FRAMES"
            print(f"{name}: {state} (task {there[name][0]['id']}), skipped")
            continue
        for path in (FOLDER / task["annotations"], Path(task["video"])):
            if not path.is_file():
                raise Failed(f"{path}: not found, {name} was not uploaded")
        options = ["--labels", str(FOLDER / listed["labels"])]
        options += ["--annotation_path", str(FOLDER / task["annotations"])]
        options += ["--annotation_format", UPLOAD_FORMAT]
        made = cvat(server, "create", *options, "--", name, "local", task["video"])
        if made.returncode:
            raise Failed(f"{name}: not uploaded whole; delete its task in CVAT if there is one")
        print(f"{name}: uploaded")


def fetch_exports(listed: dict[str, Any], server: list[str]) -> None:
    """Fetch the annotations of each video's task."""
    there = tasks_by_name(server)
    EXPORTS.mkdir(exist_ok=True)
    for task in listed["tasks"]:
        name = task["name"]
        ids = [found["id"] for found in there.get(name, [])]
        if len(ids) != 1:
            raise Failed(f"{name}: {len(ids)} tasks of this name in CVAT {ids}, one is required")
        part = EXPORTS / f"{name}.part"
        part.unlink(missing_ok=True)  # else it is refused
        format_ = ["--format", DOWNLOAD_FORMAT]
        if cvat(server, "export-dataset", *format_, str(ids[0]), str(part)).returncode:
            raise Failed(f"{name}: not fetched")
        part.replace(EXPORTS / f"{name}.zip")
        print(f"{name}: {EXPORTS / name}.zip")


def tasks_by_name(server: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the tasks that the server has."""
    listed = cvat(server, "ls", "--json", stdout=subprocess.PIPE)
    if listed.returncode:
        raise Failed("the tasks on the server could not be listed")
    found: dict[str, list[dict[str, Any]]] = {}
    for task in json.loads(listed.stdout):
        found.setdefault(task["name"], []).append(task)
    return found


def cvat(
    server: list[str], verb: str, *arguments: str, stdout: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run CVAT's command line on its tasks; no shell takes part."""
    command = ["cvat-cli", *server, "task", verb, *arguments]
    return subprocess.run(command, stdout=stdout, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
