"""Metadata and settings are in pyproject.toml; here is what it cannot say: configs/ is packaged.

The folder is installed as `detection/configs`, where `--cfg NAME` finds it.
"""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["detection*", "ava_tools*"], exclude=["*__pycache__*"]),
        "detection.configs",
    ],
    package_dir={"detection.configs": "configs"},
)
