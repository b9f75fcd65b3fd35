"""Imports point one way: what lies below knows nothing of what lies above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# Each part with the parts of this project that it may import.
GROUND = {"bounds", "structures", "config", "errors", "files", "yaml_files", "joins", "json_text"}
ALLOWED = {
    "structures": {"errors"},
    "bounds": set(),
    "config": {"bounds", "yaml_files"},
    "yaml_files": {"bounds", "errors", "files", "option_names"},
    "option_names": set(),
    "errors": set(),
    "files": {"errors", "unfinished"},
    "unfinished": set(),
    "joins": {"errors"},
    "json_text": set(),
    "models": {"bounds", "structures", "errors", "files", "models", "transfer"},
    "data": {"structures", "errors", "files", "unfinished", "yaml_files", "joins", "data"}
    | {"transfer"},
    "tracking": {"structures", "errors", "tracking"},
    "transfer": {"errors", "files", "transfer"},
    "evaluation": {"structures", "errors", "files", "joins", "evaluation", "data.ava_files"}
    | {"data.label_map"},
    "people": GROUND
    | {"people", "data", "models.checkpoint_file", "models.saved_values", "models.unwrapping"}
    | {"models.weights_check"},
    "build": GROUND | {"models", "data", "evaluation", "people", "engine.optim"},
    "engine": GROUND | {"models", "data", "evaluation", "people", "build", "engine"},
    "visualize": {"structures", "errors", "files", "data", "evaluation", "visualize"},
    "expansion": GROUND
    | {"models", "data", "evaluation", "build", "engine", "visualize", "expansion"},
    "pipeline": GROUND
    | {"engine", "visualize", "build", "models", "people", "data", "tracking", "pipeline"},
    "checks": {"structures", "errors", "joins", "data", "evaluation", "checks"},
    "demo": {"bounds", "structures", "errors", "files", "data", "demo", "visualize"},
}
FILES = sorted((REPOSITORY / "detection").rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Return every `detection...` module that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_point_down(path):
    parts = path.relative_to(REPOSITORY / "detection").with_suffix("").parts
    if parts[0] == "__init__":
        return
    allowed = ALLOWED[parts[0]]
    for module in imported_modules(path):
        names = module.split(".")
        if names[0] in ("ava_tools", "train_ava"):
            pytest.fail(f"{path} imports the command {module}")
        if names[0] == "detection" and len(names) > 1:
            assert names[1] in allowed or ".".join(names[1:3]) in allowed, f"imports {module}"


@pytest.mark.parametrize(
    ("package", "owners"),
    [
        ("av", {"data/video.py", "data/video_open.py", "data/video_stream.py"}),
        ("detectron2", {"people/detectron2_rcnn.py"}),
    ],
)
def test_some_packages_have_one_importer(package, owners):
    importers = {
        str(path.relative_to(REPOSITORY / "detection"))
        for path in FILES
        if any(module.split(".")[0] == package for module in imported_modules(path))
    }
    assert importers <= owners


def test_parts_without_torch():
    """The evaluator and the annotation files start in a moment because they need no torch."""
    for folder in ("evaluation", "data/ava_files.py", "data/label_map.py", "structures.py"):
        place = REPOSITORY / "detection" / folder
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Import):
                    assert not any(alias.name.startswith("torch") for alias in node.names), path
