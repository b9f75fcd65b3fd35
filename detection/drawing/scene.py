"""A rendered frame: ground truth beside prediction, with title, time and legend.

Legend: frames are (H, W, 3) uint8 RGB. A scene has one or two panels, each showing the whole frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from detection.drawing.draw import draw_actors
from detection.drawing.paint import DARK, DIM, TEXT, Frame, Style, draw_heading, draw_sign, resized
from detection.drawing.palette import Color
from detection.drawing.text import BOLD, draw_text, fit, width_of
from detection.drawing.timeline import Timeline

_BAR: Color = (33, 36, 45)
_GAP_PX = 6


@dataclass
class Panel:
    """One side of a scene: whose boxes, and how they are drawn.

    color: of all boxes; None: of each person their own.
    """

    heading: str
    timeline: Timeline
    color: Color | None
    dashed: bool
    places: dict[int, int] = field(default_factory=dict)


def panel_size(width: int, height: int, short_side_px: int) -> tuple[int, int]:
    """Return (width, height) of a panel; the long side is at most twice `short_side_px`."""
    scale = min(short_side_px / min(width, height), 2 * short_side_px / max(width, height))
    return max(2, round(width * scale)), max(2, round(height * scale))


@dataclass
class Scene:
    """Renders the frames of one video, in order of time.

    title and note: any text, shown on the top line.
    frame_size: (width, height) of the video's frames.
    short_side_px: of a panel.
    start_s, end_s: range of the time line.
    rules: how labels were chosen, for the legend.
    judged: whether labels have marks, for the legend.
    frame_interval_s: of the video.
    footer: draw time line and legend (a sheet of many scenes has one `legend` for all).
    panel: (width, height) of one panel.
    """

    panels: Sequence[Panel]
    title: str
    frame_size: tuple[int, int]
    short_side_px: int
    start_s: float
    end_s: float
    note: str = ""
    rules: str = ""
    judged: bool = False
    frame_interval_s: float = 0.04
    footer: bool = True

    def __post_init__(self) -> None:
        if not self.panels:
            raise ValueError("a scene needs at least one panel")
        self._half_frame_s = self.frame_interval_s / 2 + 1e-6
        self.end_s = max(self.end_s, self.start_s + 1e-3)
        self.panel = panel_size(*self.frame_size, self.short_side_px)
        self._style = Style.for_panel(min(self.panel))
        self._size_px = max(13, self._style.text_px)
        self._width = len(self.panels) * (self.panel[0] + _GAP_PX) - _GAP_PX
        self._row_px = round(1.9 * self._size_px)
        self._track_px = max(4, self._size_px // 2)
        self._numbered = any(panel.timeline.most_people > 1 for panel in self.panels)
        self._ticks = sorted({time for panel in self.panels for time in panel.timeline.times_s})
        self._legend_rows = self._lay_out_legend()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of a rendered frame."""
        height = self.panel[1] + 2 * self._row_px
        if self.footer:
            height += self._row_px * len(self._legend_rows) + 2 * _GAP_PX + self._track_px
        return self._width, height

    def draw(self, frame: Frame, time_s: float) -> Frame:
        """Render a frame, (H, W, 3) uint8 RGB of any size, that is shown at `time_s`."""
        width, height = self.size
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[:] = DARK
        scaled = resized(frame, self.panel)
        self._draw_title(canvas, time_s)
        top = 2 * self._row_px
        for index, panel in enumerate(self.panels):
            left = index * (self.panel[0] + _GAP_PX)
            self._draw_panel_heading(canvas, panel, left)
            drawn = scaled.copy()
            draw_actors(
                drawn,
                panel.timeline.at(time_s),
                color=panel.color,
                dashed=panel.dashed,
                style=self._style,
                places=panel.places,
                numbered=self._numbered,
            )
            canvas[top : top + self.panel[1], left : left + self.panel[0]] = drawn
        if self.footer:
            self._draw_track(canvas, time_s, top + self.panel[1] + _GAP_PX)
            self._draw_legend(canvas, top + self.panel[1] + 2 * _GAP_PX + self._track_px)
        return canvas

    def legend(self) -> Frame:
        """Return the legend alone, as wide as the scene."""
        canvas = np.empty((self._row_px * len(self._legend_rows), self._width, 3), np.uint8)
        canvas[:] = DARK
        self._draw_legend(canvas, 0)
        return canvas

    def _draw_title(self, canvas: Frame, time_s: float) -> None:
        size, middle, pad = self._size_px, self._row_px // 2, self._size_px // 2
        clock = f"{time_s:.2f} s"
        # As wide as the longest time, so that nothing moves while it runs.
        left = self._width - width_of(f"{max(self.end_s, time_s):.2f} s", size, BOLD) - pad
        draw_heading(canvas, clock, left, middle, size, TEXT)
        left -= width_of("keyframe", size) + size
        if any(abs(tick - time_s) <= self._half_frame_s for tick in self._ticks):
            draw_text(canvas, "keyframe", left, middle, size=size, color=DIM)
        note = fit(self.note, max(0, left // 2), size)
        left -= width_of(note, size) + size
        draw_text(canvas, note, left, middle, size=size, color=DIM)
        title = fit(self.title, max(0, left - 2 * pad), size, BOLD)
        draw_heading(canvas, title, pad, middle, size, TEXT)

    def _draw_panel_heading(self, canvas: Frame, panel: Panel, left: int) -> None:
        top, size = self._row_px, self._size_px
        canvas[top : top + self._row_px, left : left + self.panel[0]] = _BAR
        middle = top + self._row_px // 2
        end = self._draw_swatch(canvas, panel, left + size // 2, middle)
        heading = fit(panel.heading, self.panel[0] - 4 * size, size, BOLD)
        draw_heading(canvas, heading, end + size // 2, middle, size, TEXT)

    def _draw_swatch(self, canvas: Frame, panel: Panel, left: int, middle: int) -> int:
        size = self._size_px
        right, line = left + round(1.5 * size), max(2, size // 7)
        color = TEXT if panel.color is None else panel.color
        top, bottom = middle - round(0.45 * size), middle + round(0.45 * size)
        if not panel.dashed:
            cv2.rectangle(canvas, (left, top), (right, bottom), color, line, cv2.LINE_AA)
            return right
        step = max(3, size // 4)
        for x in range(left, right, 2 * step):
            canvas[top : top + line, x : min(right, x + step)] = color
            canvas[bottom - line : bottom, x : min(right, x + step)] = color
        for y in range(top, bottom, 2 * step):
            canvas[y : min(bottom, y + step), left : left + line] = color
            canvas[y : min(bottom, y + step), right - line : right] = color
        return right

    def _draw_track(self, canvas: Frame, time_s: float, top: int) -> None:
        width, height = self._width, self._track_px
        span = self.end_s - self.start_s

        def column(shown_s: float) -> int:
            return round((width - 1) * float(np.clip((shown_s - self.start_s) / span, 0, 1)))

        canvas[top : top + height] = _BAR
        canvas[top : top + height, : column(time_s) + 1] = (70, 76, 90)
        for tick in self._ticks:
            if self.start_s <= tick <= self.end_s and len(self._ticks) < width // 3:
                canvas[top : top + height, column(tick)] = DIM
        head = column(time_s)
        canvas[top : top + height, max(0, head - 1) : head + 2] = TEXT

    def _legend_items(self) -> list[tuple[str, str]]:
        items: list[tuple[str, str]] = []
        if self.judged:
            items += [("right", "in both"), ("wrong", "not in the ground truth")]
            items.append(("missed", "missed"))
        if any(not panel.dashed for panel in self.panels):
            items.append(("grey", "no action likely enough"))
        if self.rules:
            items.append(("", self.rules))
        return items

    def _lay_out_legend(self) -> list[list[tuple[int, str, str]]]:
        """Return the legend's rows of (left, sign, text), wrapped to the width of the scene."""
        size = self._size_px - 1
        rows: list[list[tuple[int, str, str]]] = []
        left = 0
        for sign, words in self._legend_items():
            words = fit(words, self._width - 3 * size, size)
            item = width_of(words, size) + (round(1.5 * size) if sign else 0)
            if not rows or left + item > self._width - size:
                rows.append([])
                left = size // 2
            rows[-1].append((left, sign, words))
            left += item + round(1.6 * size)
        return rows

    def _draw_legend(self, canvas: Frame, top: int) -> None:
        size = self._size_px - 1
        for row in self._legend_rows:
            middle = top + self._row_px // 2
            for left, sign, words in row:
                if sign == "grey":
                    box = (left, middle - size // 2), (left + size, middle + size // 2)
                    cv2.rectangle(canvas, *box, DIM, 1)
                elif sign in ("right", "wrong", "missed"):
                    draw_sign(canvas, sign, left, middle, size)  # type: ignore[arg-type]
                start = left + (round(1.5 * size) if sign else 0)
                draw_text(canvas, words, start, middle, size=size, color=DIM)
            top += self._row_px
