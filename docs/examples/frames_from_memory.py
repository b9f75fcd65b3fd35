"""Who does what in frames that are in memory, keyframe by keyframe.

python docs/examples/frames_from_memory.py RUN PEOPLE VIDEO

RUN and PEOPLE: whatever `detect_actions` takes as --checkpoint and --people.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import av
import numpy as np

from detection import ActionDetectorPipeline, UserError


def frames_of(path: str) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds, (H, W, 3) uint8 RGB): a loop like any of yours, here PyAV's.

    OpenCV gives BGR: `cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)` makes it RGB. Frames without a clock
    get one by counting: `(number / fps, frame)`.
    """
    with av.open(path) as video:
        for frame in video.decode(video=0):
            yield frame.time, frame.to_ndarray(format="rgb24")


def main(arguments: list[str]) -> None:
    """Print a line for each person at each keyframe, as they come."""
    run, people, video = arguments
    detector = ActionDetectorPipeline.from_checkpoint(run, people=people)
    for keyframe in detector.keyframes(frames_of(video)):
        for track, box_px, doing in zip(
            keyframe.tracks, keyframe.boxes_px, keyframe.doing, strict=True
        ):
            x1, y1, x2, y2 = box_px.round().astype(int)
            actions = ", ".join(doing) or "nothing above its threshold"
            print(f"{keyframe.time_s:7.2f} s  person {track} at {x1},{y1} {x2},{y2}: {actions}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("error: three are required: python frames_from_memory.py RUN PEOPLE VIDEO")
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
