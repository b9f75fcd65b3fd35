"""Packages that this project does without: loaded when they are used, else named."""

from __future__ import annotations

import importlib
from typing import Any

from detection.errors import UserError


def optional_package(package: str) -> Any:
    """Return an optional package; raises `UserError` saying how to install one that is absent."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:  # it is there, but lacks something itself
            raise
        raise UserError(f"the {package} package is required: pip install {package}") from error
