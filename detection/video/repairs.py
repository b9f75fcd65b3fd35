"""What was done to a video's times and frames so that it can be read, in words. No av, no torch.

Whoever reads whole videos says it: nothing of a file is shifted, sorted or passed over in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detection.errors import printable

MOST_NAMED = 3


@dataclass(frozen=True)
class VideoRepairs:
    """What was met of one video so far.

    shift_s: added to the file's own times, so that its first frame is shown at 0 s.  sorts: times
    were given to frames anew.  resets: how often the clock fell back.  opening_packets: packets
    before the first frame that can be decoded.  late: frames that damage put out of
    order, left out.  empty_slots, slots: of an AVI's time.
    """

    shift_s: float = 0.0
    sorts: bool = False
    resets: int = 0
    late: int = 0
    opening_packets: int = 0
    empty_slots: int = 0
    slots: int = 0

    def descriptions(self) -> list[str]:
        """Return a part of a sentence for each thing that was done; nothing for a plain file."""
        said = []
        if self.shift_s:
            said.append(
                f"its times begin at {-self.shift_s:.6f} s and are shifted: the first frame "
                "is shown at 0 s"
            )
        if self.sorts:
            said.append(
                "its frames' times do not ascend: every frame is shown once, in the order of "
                "decoding, at the sorted times"
            )
        if self.resets:
            said.append(
                f"its clock falls back {self.resets} time(s): the frames after that follow on"
            )
        if self.late:
            said.append(f"{self.late} frame(s) that damage put out of order are left out")
        if self.opening_packets:
            said.append(
                f"it begins between two key frames: no frame can be decoded of its first "
                f"{self.opening_packets} packet(s), frames are counted from the first one shown"
            )
        if self.empty_slots:
            said.append(
                f"{self.empty_slots} of {self.slots} slots of its time are empty: the frame before "
                "stays, and is counted once"
            )
        return said


def repair_lines(repairs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a line per video with repairs (by its name): three of them, and how many more."""
    lines = [
        f"{printable(name)}: {'; '.join(said)}" for name, said in sorted(repairs.items()) if said
    ]
    more = len(lines) - MOST_NAMED
    if more > 0:
        lines[MOST_NAMED:] = [f"{more} more video(s) whose times or frames were mended likewise"]
    return lines
