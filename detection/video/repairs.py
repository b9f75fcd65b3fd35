"""Describes how a video's times and frames were changed on reading it. No av, no torch.

Commands that read whole videos print it: nothing is shifted, sorted or skipped silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detection.errors import printable

MOST_NAMED = 3  # videos


@dataclass(frozen=True)
class VideoRepairs:
    """What was changed on reading one video so far.

    shift_s: seconds added to the file's times, so that its first frame is shown at 0 s.
    sorts: frames got sorted times in place of the file's.
    resets: number of times that the clock fell back.
    late: frames skipped because damage put them out of order.
    opening_packets: packets before the first frame that can be decoded.
    empty_slots: time slots of an AVI file without a frame.
    slots: all time slots of an AVI file.
    """

    shift_s: float = 0.0
    sorts: bool = False
    resets: int = 0
    late: int = 0
    opening_packets: int = 0
    empty_slots: int = 0
    slots: int = 0

    def descriptions(self) -> list[str]:
        """Return a clause for each kind of change; none for a regular file."""
        clauses = (
            (self.shift_s, f"its times begin at {-self.shift_s:.6f} s and are shifted: the first "
             "frame is shown at 0 s"),
            (self.sorts, "its frames' times do not ascend: every frame is shown once, in decoding "
             "order, at the sorted times"),
            (self.resets, f"its clock falls back {self.resets} time(s): the frames after that "
             "continue at the usual interval"),
            (self.late, f"{self.late} frame(s) that damage put out of order are left out"),
            (self.opening_packets, "it begins between two key frames: its first "
             f"{self.opening_packets} packet(s) cannot be decoded, frames are counted from the "
             "first one shown"),
            (self.empty_slots, f"{self.empty_slots} of its {self.slots} time slots are empty: the "
             "frame before is shown longer, and is counted once"),
        )  # fmt: skip
        return [clause for is_met, clause in clauses if is_met]


def repair_lines(repairs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a line per video with repairs (by its name): the first three, and a count."""
    lines = [f"{printable(name)}: {'; '.join(r)}" for name, r in sorted(repairs.items()) if r]
    more = len(lines) - MOST_NAMED
    if more > 0:
        lines[MOST_NAMED:] = [f"{more} more video(s) whose times or frames were repaired"]
    return lines
