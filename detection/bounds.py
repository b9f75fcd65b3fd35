"""The largest values that options, checkpoints and YAML files may hold: beyond is a mistake.

One number for each kind, far above anything useful, so that what was written can be read again and
no file makes a program take all memory or run for ever.
"""

from dataclasses import MISSING, field
from typing import Any

MOST_FRAMES = 4096  # of a clip
LONGEST_STEP = 100_000  # in 1/30 s: almost an hour between two frames
LARGEST_SIDE_PX = 8192
MOST_PIXELS = 1 << 28  # of a clip, all frames together
SMALLEST_FACTOR, LARGEST_FACTOR = 1e-3, 64.0  # of width, depth and bottleneck
MOST_WIDTH = 1 << 20  # of a layer
MOST_CLASSES = 1_000_000
MOST_EPOCHS = 1_000_000
MOST_MINUTES = 525_600  # a year
MOST_WORKERS = 256
MOST_THREADS = 1024
LARGEST_BATCH = 1 << 16
LARGEST_SEED = (1 << 63) - 1
LARGEST_WHOLE = (1 << 63) - 1
MOST_VALUES = 100_000  # of a list, and of a configuration with all that is in it
MOST_LABELS = 1 << 28  # people at keyframes times classes, of one labelled video
DEEPEST = 16  # lists and mappings within each other


def between(low: float, high: float, default: Any = MISSING) -> Any:
    """Return a dataclass field whose number a file may state from `low` to `high`."""
    return field(default=default, metadata={"low": low, "high": high})
