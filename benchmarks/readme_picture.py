r"""Makes the README's moving picture of stretches of an annotated video.

    python -m ava_tools.detect_actions one-by-one-person-detection.mp4 --end 75 \
        --checkpoint runs/jhmdb_probe_x3d_xs --people coco --out found/room
    python benchmarks/readme_picture.py --video found/room/annotated.mp4 --stretch 5.8 8 \
        --stretch 15.8 19.6 --out docs/images/room.webp

The video is Intel's (github.com/intel-iot-devkit/sample-videos, CC BY 4.0). The picture in the
README was made with people of YOLOX-nano, handed over as `people=` from Python: COCO's Faster R-CNN
was not at hand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection.files import replacing  # noqa: E402
from detection.video.reader import VideoReader  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument(
        "--stretch", type=float, nargs=2, action="append", required=True, metavar=("START", "END")
    )
    parser.add_argument("--per-second", type=float, default=10.0, metavar="N", help="frames")
    parser.add_argument("--lines", type=int, default=360, metavar="PX", help="height")
    parser.add_argument("--quality", type=int, default=70, metavar="Q", help="of WebP, to 100")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    step_s = 1 / options.per_second
    times_s = np.concatenate([np.arange(start, end, step_s) for start, end in options.stretch])
    with VideoReader(options.video) as video:
        frames = video.read(times_s, short_side=options.lines).frames.permute(0, 2, 3, 1).numpy()
    first, *others = [Image.fromarray(frame) for frame in frames]
    with replacing(options.out) as path:
        first.save(
            path, "WEBP", save_all=True, append_images=others, loop=0, method=6,
            duration=round(1000 * step_s), quality=options.quality,
        )  # fmt: skip
    print(f"{options.out}: {options.out.stat().st_size:,} bytes, {len(frames)} frames")


if __name__ == "__main__":
    main()
