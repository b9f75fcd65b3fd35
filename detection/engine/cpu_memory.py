"""Keep freed memory for the next tensor: asking the system anew costs a CPU more than computing.

By default glibc maps every large tensor afresh and unmaps it when it is freed, and the system fills
each page with zeros at first touch: adding two maps of 44 MB takes four times as long as the sum
itself. Nothing is changed where the C library is not glibc.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_LARGE = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to serve large blocks from its heap and to give none back."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGE), (_M_TOP_PAD, 64 << 20))
    return all([mallopt(name, value) == 1 for name, value in settings])
