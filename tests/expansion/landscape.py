"""A cost that takes no time, for what holds for any cost."""

from __future__ import annotations


def rule_of_thumb(description):
    """Cost about as multiply-adds do, in no time: for properties that hold for any cost."""
    size = description.num_frames * (description.train_crop / 32) ** 2
    widths = zip(description.stage_channels, description.inner_channels, strict=True)
    blocks = zip(description.stage_depths, widths, strict=True)
    return size * sum(depth * outer * (2 * inner + 27) for depth, (outer, inner) in blocks)
