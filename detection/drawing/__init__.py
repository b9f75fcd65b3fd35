"""Boxes, labels and timelines painted into frames."""
