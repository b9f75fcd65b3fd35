r"""Many videos: what sharing them costs, what kills change, how a long video scales.

    python benchmarks/archive.py overhead --videos 1000 --engine ray
    python benchmarks/archive.py kills --videos 1000 --engine processes --worker-kills 20
    python benchmarks/archive.py spans --seconds 3600 --spans 8 --engine processes
    python benchmarks/archive.py spans --seconds 3600 --spans 8 --engine processes --every 0.5 \
        --source clip.mp4 --checkpoint x3d_xs.pyth --people yolox_nano.onnx

Videos and networks are made up: the networks are tiny and know nothing, so that the share of the
engine is as large as it can be. Processor time is that of the command and of all that descends from
it, read from /proc. `--checkpoint` and `--people` measure other networks, `--source` repeats real
clips up to the length asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests/helpers")]

TICKS_S = os.sysconf("SC_CLK_TCK")
TABLES = ("keyframes.parquet", "events.parquet", "videos.parquet", "keyframes.csv", "events.csv")


@dataclass
class Watched:
    """A command and its descendants, as they are seen every fifth of a second.

    cpu_s: by process; of those that have ended as last seen.
    """

    process: subprocess.Popen[bytes]
    cpu_s: dict[int, float] = field(default_factory=dict)
    peak_mb: float = 0.0
    descendants: dict[int, str] = field(default_factory=dict)

    def look(self) -> None:
        """Read /proc once."""
        processes = dict(_processes())
        known = {self.process.pid, *self.cpu_s}
        found = {pid for pid in processes if pid in known}
        grown = True
        while grown:
            more = {pid for pid, (parent, _, _) in processes.items() if parent in found} - found
            found, grown = found | more, bool(more)
        self.descendants = {pid: processes[pid][2] for pid in found - {self.process.pid}}
        for pid in found:
            self.cpu_s[pid] = max(self.cpu_s.get(pid, 0.0), processes[pid][1])
        self.peak_mb = max(self.peak_mb, _peak_mb(self.process.pid))

    def workers(self) -> list[int]:
        """Return the processes that hold networks."""
        return [
            pid
            for pid, name in self.descendants.items()
            if name.startswith("ray::WorkerActor") or _peak_mb(pid) > 300 and "ray" not in name
        ]


def _processes() -> Iterator[tuple[int, tuple[int, float, str]]]:
    """Yield (pid, (parent, seconds of processor time, command line))."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            text = (place / "stat").read_text()
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        values = text.rpartition(")")[2].split()
        cpu_s = (int(values[11]) + int(values[12])) / TICKS_S
        yield int(place.name), (int(values[1]), cpu_s, line.strip())


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    values = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(values[0]) / 1024 if values else 0.0


def run(command: list[str], log: Path, **kills: list[float]) -> tuple[Watched, float, int]:
    """Run a command to its end; returns what was seen, its seconds and exit code.

    kills: seconds after the start at which a worker, or the driver, is killed.
    """
    began_s = time.monotonic()
    with log.open("ab") as output:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=REPOSITORY
        )
        seen = Watched(process)
        while process.poll() is None:
            seen.look()
            _kill_due(seen, time.monotonic() - began_s, kills)
            time.sleep(0.2)
    return seen, time.monotonic() - began_s, process.returncode


def _kill_due(seen: Watched, now_s: float, kills: dict[str, list[float]]) -> None:
    workers = seen.workers()
    if kills.get("worker") and kills["worker"][0] <= now_s and workers:
        kills["worker"].pop(0)
        os.kill(random.choice(workers), signal.SIGKILL)
        print(f"  {now_s:6.1f} s: a worker was killed", flush=True)
    if kills.get("driver") and kills["driver"][0] <= now_s:
        kills["driver"].pop(0)
        seen.process.kill()
        print(f"  {now_s:6.1f} s: the driver was killed", flush=True)


def command_of(options: argparse.Namespace, out: Path, engine: str, *more: str) -> list[str]:
    """Return the command over the made-up videos."""
    place = options.work
    networks = ["--checkpoint", options.checkpoint or str(place / "run")]
    networks += ["--people", options.people or str(place / "people.pt")]
    return [
        *(sys.executable, "-m", "ava_tools.detect_actions", str(place / "videos")),
        *(*networks, "--out", str(out), "--engine", engine, "--no-film", "--no-page"),
        *([] if options.people else ["--person-score", "0.3"]),
        *([] if options.every is None else ["--every", str(options.every)]),
        *("--quiet", "--device", "cpu", *options.more, *more),
    ]


def make(options: argparse.Namespace, videos: int, seconds: float) -> None:
    """Make the networks and the videos that are not there yet."""
    from tiny_people import save_tiny_people
    from tiny_pipeline import save_tiny_run, write_squares

    place = options.work
    if not (place / "people.pt").exists():
        save_tiny_run(place / "run")
        save_tiny_people(place / "people.pt")
    (place / "videos").mkdir(parents=True, exist_ok=True)
    for number in range(videos):
        path = place / "videos" / f"made{number:05d}.mp4"
        if not path.exists():
            write_squares(path, seconds=seconds, speed=3 + number % 17)


def tables_digest(out: Path) -> dict[str, str]:
    """Return the SHA-256 of every table file."""
    files = [
        path
        for name in TABLES
        for path in ([out / name] if (out / name).is_file() else sorted((out / name).rglob("*")))
        if path.is_file()
    ]
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def overhead(options: argparse.Namespace) -> None:
    """Compare the processor time of an engine with that of one process over the same videos."""
    make(options, options.videos, 2.0)
    rows = []
    for engine, workers in (("here", 1), (options.engine, 2)):
        out = options.work / f"out_{engine}"
        shutil.rmtree(out, ignore_errors=True)
        more = ["--workers", str(workers)]
        seen, wall_s, code = run(command_of(options, out, engine, *more), options.work / "log.txt")
        cpu_s = sum(seen.cpu_s.values())
        rows.append((engine, workers, cpu_s, wall_s, seen.peak_mb, code))
        print(
            f"{engine}, {workers} workers: {cpu_s:.1f} s of processor time, {wall_s:.1f} s, "
            f"driver at most {seen.peak_mb:.0f} MB, exit code {code}",
            flush=True,
        )
    print(f"overhead: {rows[1][2] / rows[0][2] - 1:+.1%} of processor time")
    same = tables_digest(options.work / "out_here") == tables_digest(
        options.work / f"out_{options.engine}"
    )
    print(f"the same tables: {same}")


def kills(options: argparse.Namespace) -> None:
    """Kill workers and drivers at random times; compare the tables with an undisturbed run's."""
    make(options, options.videos, 2.0)
    random.seed(options.seed)
    whole, out = options.work / "out_here", options.work / f"out_kills_{options.engine}"
    run(command_of(options, whole, "here"), options.work / "log.txt")  # at once where it stands
    shutil.rmtree(out, ignore_errors=True)
    command = command_of(options, out, options.engine, "--workers", "2")
    left = {"worker": options.worker_kills, "driver": options.driver_kills}
    code, runs = -1, 0
    while code not in (0, 3) and runs < 50:
        runs += 1
        times: dict[str, list[float]] = {"worker": [], "driver": []}
        if left["driver"]:
            times["driver"] = [random.uniform(0.7, 1.0) * options.every_s]
            left["driver"] -= 1
        share = -(-left["worker"] // (left["driver"] + 1))
        end_s = times["driver"][0] if times["driver"] else options.every_s
        times["worker"] = sorted(random.uniform(0.5, 1.0) * end_s for _ in range(share))
        _, wall_s, code = run(command, options.work / "log.txt", **times)
        left["worker"] -= share - len(times["worker"])
        print(f"run {runs}: {wall_s:.1f} s, exit code {code}, kills left {left}", flush=True)
    ours, theirs = tables_digest(out), tables_digest(whole)
    failed = (out / "failed.csv").is_file()
    print(f"{len(ours)} files of tables, the same bytes: {ours == theirs}; failed.csv: {failed}")


def make_long(options: argparse.Namespace) -> float:
    """Make the one long video, of made-up squares or of real clips; returns its length, seconds."""
    place = options.work / "videos"
    shutil.rmtree(place, ignore_errors=True)
    if not options.source:
        make(options, 1, options.seconds)
        return float(options.seconds)
    if not (options.checkpoint and options.people):
        raise SystemExit("--source is looked at by real networks: --checkpoint and --people")
    place.mkdir(parents=True)
    return repeat_clips(options.source, place / "long.mp4", seconds=options.seconds)


def repeat_clips(clips: list[str], path: Path, *, seconds: float) -> float:
    """Write clips one after the other, again and again, as they are encoded; returns the length.

    They must be encoded alike (one file always is). The last one is whole.
    """
    import av

    with av.open(clips[0]) as first, av.open(str(path), "w") as joined:
        template = first.streams.video[0]
        written = joined.add_stream_from_template(template)
        begin_s, number = 0.0, 0
        while begin_s < seconds:
            clip, number = clips[number % len(clips)], number + 1
            with av.open(clip) as opened:
                stream: Any = opened.streams.video[0]
                if stream.codec_context.extradata != template.codec_context.extradata:
                    raise SystemExit(f"{clip}: not encoded as {clips[0]}")
                base = stream.time_base
                packets: list[Any] = [p for p in opened.demux(stream) if p.dts is not None]
                first_dts = min(packet.dts for packet in packets)
                end = max(packet.dts + packet.duration for packet in packets) - first_dts
                shift = round(begin_s / base) - first_dts
                for packet in packets:
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = written
                    joined.mux(packet)
            begin_s += float(end * base)
    return begin_s


ONE_CORE = "spans, one worker on one core"


def spans(options: argparse.Namespace) -> None:
    """Compare a long video on one worker and on two, in spans, with one core and with no cut."""
    length_s = make_long(options)
    span = str(length_s / options.spans if options.spans else options.span)
    print(f"a video of {length_s:.1f} s, spans of {float(span):.1f} s", flush=True)
    walls = {}
    whole = options.work / "out_whole"
    ways = (
        ("whole, one process", whole, "here", 1, "inf"),
        ("spans, one worker", options.work / "out_one", options.engine, 1, span),
        ("spans, two workers", options.work / "out_two", options.engine, 2, span),
        (ONE_CORE, options.work / "out_core", options.engine, 1, span),
    )
    for name, out, engine, workers, span_s in ways:
        shutil.rmtree(out, ignore_errors=True)
        more = ("--workers", str(workers), "--span", span_s)
        command = command_of(options, out, engine, *more)
        if name == ONE_CORE:
            command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
        seen, wall_s, code = run(command, options.work / "log.txt")
        walls[name] = wall_s
        same = tables_digest(out) == tables_digest(whole)
        print(
            f"{name} ({engine}): {wall_s:.1f} s, {sum(seen.cpu_s.values()):.1f} s of processor "
            f"time, exit code {code}, the tables of one process: {same}",
            flush=True,
        )
    whole_s, one_s, two_s, core_s = walls.values()
    # A worker reads frames in one thread while another runs networks: it takes more than a core.
    print(f"two workers are {core_s / two_s:.2f} times as fast as one worker on one core")
    print(f"two workers are {one_s / two_s:.2f} times as fast as one worker with spans")
    print(f"two workers are {whole_s / two_s:.2f} times as fast as one process that cuts nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("what", choices=("overhead", "kills", "spans"))
    add("--work", type=Path, default=Path("/tmp/archive_benchmark"))
    add("--engine", choices=("processes", "ray"), default="ray")
    add("--videos", type=int, default=1000)
    add("--seconds", type=float, default=3600.0)
    add("--span", default="450", help="seconds; or --spans N")
    add("--spans", type=int, help="cut into about so many")
    add("--source", nargs="+", help="real clips, encoded alike, repeated up to --seconds")
    add("--every", type=float, help="seconds between keyframes")
    add("--worker-kills", type=int, default=20)
    add("--driver-kills", type=int, default=5)
    add("--every-s", type=float, default=60.0, help="longest life of a driver that is killed")
    add("--seed", type=int, default=0)
    add("--checkpoint")
    add("--people")
    add("--more", nargs="*", default=[], help="further options of detect_actions")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    {"overhead": overhead, "kills": kills, "spans": spans}[options.what](options)


if __name__ == "__main__":
    main()
