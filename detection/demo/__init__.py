"""The synthetic data set: animated people, in AVA's format, marked as made up.

`generate_demo` is in `detection.demo.generate`; importing this file is cheap.
"""

from detection.demo.actions import CLASSES, MOTION_ONLY

__all__ = ["CLASSES", "MOTION_ONLY"]
