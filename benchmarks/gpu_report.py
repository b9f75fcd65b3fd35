"""Everything that is worth measuring on a GPU, in one command that takes 8 minutes at most.

    python benchmarks/gpu_report.py --out runs/gpu_report
    python benchmarks/gpu_report.py --out runs/gpu_dry_run --dry-run     tiny sizes, also on a CPU

Parts, in this order: the machine, copy bandwidth, forward and training step of X3D-XS, S and M, the
demo's data (made up), clips a second of training with and without the loader, streams of
`detect_actions`, frame-mAP of the demo trained on the GPU, and last, as time is left, the networks
under torch.compile. Nothing is fetched.

Each part is a process of its own with a time limit. What it has measured is written to report.json
and report.md as soon as it ends, whichever way it ends; a part that fails is named with its error
(and its output in PART.log), and the others go on. The same command again repeats what is not there
yet. The figures of a dry run say only that the command works.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from ava_tools.cli import run_command  # noqa: E402
from detection.errors import UserError, printable  # noqa: E402
from detection.files import write_text  # noqa: E402

MINUTES = 8.0
MEASURED, FAILED, LEFT_OUT = "measured", "failed", "not measured"
LEAST_S = 3.0  # a part is not begun with less time left
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of the report: its name (of a function of gpu_parts.py), heading and time limit."""

    name: str
    title: str
    limit_s: float


PARTS = (
    Part("machine", "Machine", 40),
    Part("bandwidth", "Copy bandwidth", 30),
    Part("network_xs", "X3D-XS", 45),
    Part("network_s", "X3D-S", 45),
    Part("network_m", "X3D-M", 60),
    Part("data", "The demo's data (made up)", 60),
    Part("loading", "Clips a second of training", 100),
    Part("streams", "Streams of detect_actions", 80),
    Part("demo", "The demo trained (made up)", 150),
    Part("compiled_xs", "X3D-XS, compiled", 90),
    Part("compiled_s", "X3D-S, compiled", 90),
    Part("compiled_m", "X3D-M, compiled", 120),
)


@dataclass(frozen=True)
class Settings:
    """What all parts are told: where results lie, the device, and whether sizes are tiny."""

    folder: str
    device: str
    dry_run: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 where a part failed."""
    options = parse(arguments)
    # CUDA's own way of looking for a GPU does not survive the fork that makes a part.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    from detection.devices import choose_device

    device = choose_device(options.device)
    if device.type != "cuda" and not options.dry_run:
        raise UserError(
            f"--device {options.device}: PyTorch {torch.__version__} finds no GPU, which this "
            "report is about; --dry-run tries the command without one"
        )
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(str(folder.absolute()), str(device), options.dry_run)
    report = open_report(folder / "report.json", settings, overwrite=options.overwrite)
    ends = time.monotonic() + 60 * options.minutes
    for part in PARTS:
        if options.only and part.name not in options.only:
            continue
        if report["parts"].get(part.name, {}).get("status") == MEASURED:
            print(f"{part.title}: measured before")
            continue
        limit_s = min(part.limit_s, ends - time.monotonic())
        result = run_part(part, settings, limit_s)
        report["parts"][part.name] = result
        write_report(folder, report)
        why = f": {result['error']}" if result["error"] else ""
        print(printable(f"{part.title}: {result['status']}, {result['seconds']:.0f} s{why}"))
    print(f"report: {folder / 'report.md'}")
    return int(any(part["status"] == FAILED for part in report["parts"].values()))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the report")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)")
    add("--dry-run", action="store_true", help="tiny sizes, on a CPU where there is no GPU")
    add("--minutes", type=float, default=MINUTES, help="of all parts (default %(default)g)")
    add("--only", nargs="+", choices=[part.name for part in PARTS], metavar="PART",
        help=f"of {', '.join(part.name for part in PARTS)}")  # fmt: skip
    add("--overwrite", action="store_true", help="measure everything again")
    return parser.parse_args(arguments)


def open_report(path: Path, settings: Settings, *, overwrite: bool) -> dict[str, Any]:
    """Return the report so far; refuse that of other settings."""
    asked = {key: value for key, value in asdict(settings).items() if key != "folder"}
    if overwrite or not path.exists():
        return {"settings": asked, "parts": {}}
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found, parts = report["settings"], report["parts"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no report of this command ({error}): --overwrite") from error
    if found != asked or not isinstance(parts, dict):
        raise UserError(f"{path}: a report of {found}, {asked} is asked for: --overwrite")
    return report


def run_part(
    part: Part, settings: Settings, limit_s: float, *, module: str = "gpu_parts"
) -> dict[str, Any]:
    """Measure a part in a process of its own; return its result, whatever becomes of it.

    module: that has the functions of parts.
    """
    rows, folder = Path(settings.folder) / f"{part.name}.jsonl", Path(settings.folder)
    for left in (rows, folder / f"{part.name}.error"):
        left.unlink(missing_ok=True)
    if limit_s < LEAST_S:
        return {"status": LEFT_OUT, "error": "no time was left", "seconds": 0.0, "rows": []}
    context = multiprocessing.get_context("forkserver")  # which imports PyTorch once
    # What may use a GPU must not be imported before the fork.
    dynamo = ["torch._dynamo"] if settings.device == "cpu" else []
    context.set_forkserver_preload(["torch", "torchvision", "av", "cv2", *dynamo])
    process = context.Process(target=work, args=(part.name, settings, module))
    started, error = time.monotonic(), ""
    process.start()
    try:
        process.join(limit_s)
    finally:  # also where the command itself is interrupted
        if process.is_alive():
            end_group(process.pid)
            process.join()
            error = f"stopped after {limit_s:.0f} s"
    if process.exitcode and not error:
        error = text_of(folder / f"{part.name}.error") or f"ended with code {process.exitcode}"
    return {
        "status": FAILED if error else MEASURED,
        "error": error,
        "seconds": round(time.monotonic() - started, 1),
        "rows": [json.loads(line) for line in text_of(rows).splitlines() if line.endswith("}")],
    }


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def end_group(pid: int | None) -> None:
    """End a part and what it has started."""
    assert pid is not None
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it had not come to make a group of its own
        os.kill(pid, signal.SIGKILL)


def work(name: str, settings: Settings, module: str) -> None:
    """Measure a part, in a process of its own; its rows are written one by one."""
    os.setsid()
    folder = Path(settings.folder)
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    try:
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8", buffering=1) as rows:
            parts = __import__(module)
            getattr(parts, name)(settings, lambda row: rows.write(json.dumps(row) + "\n"))
    except BaseException as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {lines[0] if lines else ''}"
        (folder / f"{name}.error").write_text(printable(said)[:300], encoding="utf-8")
        sys.exit(1)


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write both files, each whole or not at all."""
    write_text(folder / "report.json", json.dumps(report, indent=1) + "\n")
    write_text(folder / "report.md", as_markdown(report))


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as a page: a table for each part that has rows."""
    lines = ["# GPU report", ""]
    if report["settings"]["dry_run"]:
        lines += ["**A dry run at tiny sizes: its figures say nothing about speed.**", ""]
    for part in PARTS:
        result = report["parts"].get(part.name)
        if result is None:
            continue
        lines += [f"## {part.title}", ""]
        if result["status"] != MEASURED:
            lines += [f"**{result['status']}: {cell(result['error'])}**", ""]
        columns = list(dict.fromkeys(key for row in result["rows"] for key in row))
        if columns:
            lines += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
            lines += [
                f"| {' | '.join(cell(row.get(column, '')) for column in columns)} |"
                for row in result["rows"]
            ]
            lines.append("")
    return "\n".join(lines)


def cell(value: object) -> str:
    """Return a value for a cell of a table."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return printable(text).replace("|", "/")


if __name__ == "__main__":
    run_command(main)
