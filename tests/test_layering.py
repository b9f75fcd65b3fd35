"""Imports point one way: a room knows nothing of the rooms above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = sorted((REPOSITORY / "detection").rglob("*.py"))

# From the ground up. A room imports from the floors below it, and from itself.
FLOORS = (
    ("bounds", "option_names", "errors", "signals"),
    ("structures", "boxes", "cores", "devices", "unfinished", "joins"),
    ("files", "relevance"),
    ("yaml_files", "formats", "jobs"),
    ("config", "transfer", "video", "models"),
    ("checkpoints", "tracking"),
    ("datasets", "export"),
    ("evaluation",),
    ("people",),
    ("build", "publishing"),
    ("importers", "prepare", "demo"),
    ("checks", "drawing"),
    ("review", "reports"),
    ("engine",),
    ("expansion", "pipeline"),
    ("teaching", "archive"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# What a room may know is less still: networks and drawings know no configuration, and so on.
NEVER = {
    "models": {"files", "yaml_files", "config", "transfer", "video"},
    "checkpoints": {"config", "video", "yaml_files"},
    "export": {"config", "video", "yaml_files"},
    "video": {"config", "yaml_files"},
    "datasets": {"config", "checkpoints", "models"},
    "evaluation": {"config", "models", "checkpoints", "video"},
    "tracking": {"config", "models", "checkpoints", "video", "files"},
    "importers": {"config", "build", "people", "models", "checkpoints"},
    "prepare": {"config", "build", "people", "models", "checkpoints"},
    "drawing": {"config", "build", "people", "models", "checkpoints"},
    "review": {"config", "build", "people", "models", "checkpoints"},
    "publishing": {"config", "video", "models"},
    "reports": {"config", "build", "people", "checkpoints"},
    "demo": {"config", "build", "people", "models", "checkpoints"},
}
# The evaluator reads annotation files and nothing else of a data set.
ONLY = {("evaluation", "datasets"): {"ava_csv", "label_map"}}


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


def module_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_room_has_a_floor():
    rooms = {path.relative_to(REPOSITORY / "detection").with_suffix("").parts[0] for path in FILES}
    assert rooms - {"__init__"} == set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_point_down(path):
    room = path.relative_to(REPOSITORY / "detection").with_suffix("").parts[0]
    if room == "__init__":
        return
    for module in imported_modules(path):
        names = module.split(".")
        assert names[0] not in ("ava_tools", "train_ava"), f"imports the command {module}"
        if names[0] != "detection" or len(names) == 1 or names[1] in (room, "__version__"):
            continue
        other = names[1]
        if other not in FLOOR_OF:  # `from detection import NAME`
            continue
        assert FLOOR_OF[other] < FLOOR_OF[room], f"imports {module} from above"
        assert other not in NEVER.get(room, ()), f"imports {module}"
        known = ONLY.get((room, other))
        assert known is None or len(names) < 3 or names[2] in known, f"imports {module}"


def test_no_modules_import_each_other_in_a_circle():
    modules = {module_of(path) for path in FILES}
    imports = {}
    for path in FILES:
        named = imported_modules(path) & modules
        packages = {name.rpartition(".")[0] for name in named}  # of which modules are imported
        imports[module_of(path)] = {name for name in named if name not in packages}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for other in sorted(imports[module] - {module}):
                visit(other, (*way, module))
            done.add(module)

    for module in sorted(modules):
        visit(module, ())


@pytest.mark.parametrize(
    ("package", "owner"),
    [
        ("av", "video/"),
        ("huggingface_hub", "checkpoints/huggingface.py"),
        ("detectron2", "people/detectron2_rcnn.py"),
        ("openvino", "export/openvino_runtime.py"),
        ("ray", "jobs/ray_workers.py"),
    ],
)
def test_some_packages_have_one_importer(package, owner):
    importers = {
        str(path.relative_to(REPOSITORY / "detection"))
        for path in FILES
        if any(module.split(".")[0] == package for module in imported_modules(path))
    }
    assert importers
    assert all(name.startswith(owner) for name in importers), importers


def test_parts_without_torch():
    """The evaluator and the annotation files start at once because they need no torch."""
    alone = ("datasets/ava_csv.py", "datasets/label_map.py", "structures.py", "relevance.py")
    for folder in ("evaluation", *alone):
        place = REPOSITORY / "detection" / folder
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Import):
                    assert not any(alias.name.startswith("torch") for alias in node.names), path
