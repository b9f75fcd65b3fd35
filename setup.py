"""A shim for tools that look for it: metadata and settings are in pyproject.toml."""

from setuptools import setup

setup()
