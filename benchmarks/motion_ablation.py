"""Does motion decide? The demo's network against one that sees the keyframe alone.

    python benchmarks/motion_ablation.py --data data/demo --out runs/motion_ablation

Both are trained from scratch with configs/demo_x3d_xs.yaml and scored with ground-truth boxes; the
baseline's clips are the middle frame repeated (clip.step=0), in training as in testing. A run that
is already finished in the output folder is not repeated; `--clips RUN --still RUN` compares
finished runs wherever they are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection.demo import MOTION_ONLY  # noqa: E402

CONFIG = REPOSITORY / "configs" / "demo_x3d_xs.yaml"


def main() -> None:
    """Train both where needed, print both means and every class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/demo", help="the demo data set")
    parser.add_argument("--out", type=Path, default=Path("runs/motion_ablation"))
    parser.add_argument("--clips", type=Path, help="a finished run of the same configuration")
    parser.add_argument("--still", type=Path, help="a finished run with clip.step=0")
    parser.add_argument("--processes", type=int, default=2, help="that train together (2)")
    parser.add_argument("overrides", nargs="*", help="options given to both, a.b=value")
    options = parser.parse_intermixed_args()
    moving = result_of(options.clips or options.out / "clips", options, [])
    still = result_of(options.still or options.out / "middle_frame", options, ["clip.step=0"])
    print(f"{'class':28s} {'clips':>7s} {'middle frame':>13s} {'difference':>11s}")
    for name, ap in moving["per_class"].items():
        baseline = still["per_class"][name]
        mark = "  motion only" if name in MOTION_ONLY else ""
        print(f"{name:28s} {ap:7.4f} {baseline:13.4f} {ap - baseline:+11.4f}{mark}")
    means = moving["mean_ap"], still["mean_ap"]
    print(f"{'mean':28s} {means[0]:7.4f} {means[1]:13.4f} {means[0] - means[1]:+11.4f}")
    print(f"boxes: {moving['boxes']}; protocol {moving['protocol']}; data: made up")


def result_of(run: Path, options: argparse.Namespace, extra: list[str]) -> dict[str, Any]:
    """Return a run's metrics with ground-truth boxes, training it first where it has none."""
    metrics = run / "metrics.json"
    if not metrics.is_file():
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(options.processes)]
        command += [str(REPOSITORY / "train_ava.py"), "--cfg", str(CONFIG)]
        command += [f"data.root={options.data}", f"output={run}", "--overwrite"]
        subprocess.run([*command, *options.overrides, *extra], check=True)
    result: dict[str, Any] = json.loads(metrics.read_text(encoding="utf-8"))
    scored: dict[str, Any]
    for scored in (result, *result.get("other_boxes", ())):
        if scored["boxes"].startswith("ground-truth"):
            return scored
    raise SystemExit(f"{metrics}: holds no score with ground-truth boxes")


if __name__ == "__main__":
    main()
