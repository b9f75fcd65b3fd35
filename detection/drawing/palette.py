"""The colour of a person: one for each track number, the same wherever people are drawn.

Annotated videos, sheets and thumbnails take it from here, and the review page gets `PALETTE` in its
data.
"""

from __future__ import annotations

Color = tuple[int, int, int]

# After Okabe and Ito's colours, which colour-blind people can tell apart, without those of ground
# truth (sky blue on sheets, white on the page). All are bright enough for dark letters on them.
PALETTE: tuple[Color, ...] = (
    (240, 228, 66),
    (150, 150, 255),
    (230, 159, 0),
    (0, 200, 150),
    (224, 130, 180),
    (255, 110, 70),
    (175, 230, 100),
    (255, 85, 140),
)


def track_color(number: int) -> Color:
    """Return the RGB colour of a person by track number, any integer; 1 has the first colour."""
    return PALETTE[(number - 1) % len(PALETTE)]


def css_color(color: Color) -> str:
    """Return a colour as CSS writes it, such as `#f0e442`."""
    return "#{:02x}{:02x}{:02x}".format(*color)
