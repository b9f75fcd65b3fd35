"""The people detector that belongs to a run of actions: its file, or its name.

A run folder holds `people.pt` (or a run of `train_people` as `people/`), or `people.yaml`, which
names weights that lie elsewhere or are fetched: `weights: coco:resnet50_v2`.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import TypeAdapter

from detection.datasets.folder import PeoplePart
from detection.errors import UserError
from detection.files import write_text
from detection.yaml_files import read_yaml

PEOPLE_FILE = "people.pt"
PEOPLE_NAME = "people.yaml"
_ADAPTER = TypeAdapter(PeoplePart)


def store_people(run_folder: str | Path, people: PeoplePart | None) -> None:
    """Name the detector beside a run; nothing is written where `people` is None."""
    if people is not None:
        values = people.model_dump(exclude_none=True)
        write_text(Path(run_folder) / PEOPLE_NAME, yaml.safe_dump(values, sort_keys=False))


def people_beside(run_folder: str | Path) -> str | Path | None:
    """Return the detector beside a run, as `load_people_detector` takes it; None: there is none.

    Raises `UserError` where `people.yaml` is wrong, or names a file that is gone.
    """
    run = Path(run_folder)
    for path in (run / PEOPLE_FILE, run / "people"):
        if path.exists():
            return path
    stored = run / PEOPLE_NAME
    if not stored.is_file():
        return None
    known = tuple(PeoplePart.model_fields)
    weights = read_yaml(stored).check(_ADAPTER, known=known, word="key").weights
    if weights == "coco" or weights.startswith("coco:"):
        return weights
    if not Path(weights).exists():
        raise UserError(f"{stored}: names weights that are gone ({weights}); give --people WEIGHTS")
    return Path(weights)


def use_command(run_folder: str | Path) -> str:
    """Return the command that finds a run's actions in a new video."""
    detector = "" if people_beside(run_folder) is not None else " --people coco"
    return f"python -m ava_tools.detect_actions VIDEO --checkpoint {run_folder}{detector}"
