"""Stands in for train_ava.py: scores by a formula at once, fails or waits where told to."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import yaml


def main() -> int:
    """Write metrics.json as a run does; note every call."""
    arguments = sys.argv[1:]
    path = Path(arguments[1])
    config = path / "config.yaml" if arguments[0] == "--resume" else path
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    run = Path(values["output"])
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(config.read_text(encoding="utf-8"), encoding="utf-8")
    wishes = values.get("wishes") or {}
    fails = values["clip"]["num_frames"] >= wishes.get("fail_from_frames", 10**9)
    if not fails:
        (run / "checkpoints" / "last.pt").write_bytes(b"weights")
    if "saves_s" in wishes:
        if arguments[0] == "--resume" and not (run / "saved").exists():
            print("error: resumed before it had saved", file=sys.stderr)
            return 2

        def save(*_: object) -> None:
            time.sleep(wishes["saves_s"])
            (run / "saved").touch()
            sys.exit(75)

        signal.signal(signal.SIGTERM, save)
    with (run.parent / "calls.txt").open("a", encoding="utf-8") as calls:
        calls.write(arguments[0] + "\n")
    if fails:
        print("some words\nerror: out of memory, as wished", file=sys.stderr)
        return 2
    if wishes.get("stopped_once") and arguments[0] != "--resume":
        return 75  # as after a signal
    if wishes.get("holds_at") == values["clip"]["num_frames"] and arguments[0] != "--resume":
        time.sleep(60)  # until it is ended
    time.sleep(wishes.get("seconds", 0))
    score = 0.1 * values["clip"]["num_frames"] + 0.01 * values["seed"]
    (run / "metrics.json").write_text(json.dumps({"mean_ap": score}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
