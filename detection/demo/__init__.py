"""The embedded data set: animated people in AVA's own form. Made up, and says so.

`generate_demo` is in `detection.demo.generate`; this file stays light.
"""

from detection.demo.actions import CLASSES, MOTION_ONLY

__all__ = ["CLASSES", "MOTION_ONLY"]
