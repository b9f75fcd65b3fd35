"""What a run runs on: its device, set up as configured, and a description that allows a repeat."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from detection import build
from detection.config import AnyConfig
from detection.models.timing import processor_name

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_LARGE = 2**31 - 1
_PACKAGES = ("torch", "torchvision", "numpy", "av", "opencv-python", "pydantic", "pycocotools")


def prepare_device(config: AnyConfig) -> torch.device:
    """Return the device that is asked for, with threads and memory set up for it.

    Raises `UserError` for a GPU that is not there.
    """
    device = build.build_device(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        keep_malloc_memory()
    return device


def keep_malloc_memory() -> bool:
    """Let glibc's malloc serve large tensors from its heap, and return nothing to the system.

    By default it maps every large tensor afresh and unmaps it when it is freed, and the system
    fills each page with zeros at first touch: adding two maps of 44 MB takes four times as long as
    the sum itself. Returns False, and changes nothing, where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGE), (_M_TOP_PAD, 64 << 20))
    return all([mallopt(name, value) == 1 for name, value in settings])


def describe_environment(command: list[str], seed: int, *, processes: int = 1) -> dict[str, Any]:
    """Return versions, commit, hardware, command and seed as plain types."""
    return {
        "command": command,
        "seed": seed,
        "processes": processes,
        "commit": _commit(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": processor_name(),
        "cpu_count": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return this project's commit (and "+changes" for a tree that is not clean); None: no git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
        return result.stdout.strip() if result.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return (commit + ("+changes" if git("status", "--porcelain") else "")) or None
    except FileNotFoundError:  # git itself is not installed
        return None
