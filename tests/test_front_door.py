"""What `import detection` gives, the page about it, and the installed package from any folder."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tiny_data import make_dataset

import detection

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^### `(\w+)(\(.*\))?`$", PAGE, re.MULTILINE)
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(program: str, *arguments: str, cwd: Path, **environment: str):
    """Run a program without what this process has in its path."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_every_name_is_there_and_documented_with_its_signature():
    assert sorted(name for name, _ in HEADINGS) == sorted(detection.__all__)
    for name, written in HEADINGS:
        value = getattr(detection, name)
        if written:
            shown = re.sub(r"=[^,]*?(?=, \w+=|, \*|\)$)", "", written)
            told = [word.strip() for word in shown.strip("()").split(",") if word.strip(" *")]
            assert told == list(inspect.signature(value).parameters), name
        assert value.__doc__, name


def test_names_come_lazily_and_are_those_of_their_modules(tmp_path):
    code = (
        "import sys, time; begun = time.process_time(); import detection\n"
        "assert time.process_time() - begun < 0.1\n"
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules), 'loaded too early'\n"
        "assert set(detection.__all__) <= set(dir(detection)), 'not in dir()'\n"
        "detection.Keyframe, detection.ActionEvaluator, detection.load_config\n"
        "assert 'torch' not in sys.modules\n"
        "from detection.structures import Keyframe\n"
        "assert detection.Keyframe is Keyframe and 'Keyframe' in vars(detection)\n"
        "from detection import *\n"
        "assert ActionDetectorPipeline.__module__ == 'detection.pipeline.detector'\n"
    )
    ended = run(sys.executable, "-c", code, cwd=REPOSITORY)
    assert (ended.returncode, ended.stderr) == (0, "")
    with pytest.raises(AttributeError, match="module 'detection' has no attribute 'Keyfram'"):
        detection.Keyfram  # noqa: B018


def test_type_checkers_see_the_names():
    tree = ast.parse(Path(detection.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {(node.module, alias.name) for node in block.body for alias in node.names}
    assert {name for _, name in seen} == set(detection.__all__)
    for module, name in seen:
        assert getattr(importlib.import_module(module), name) is getattr(detection, name)
        assert name in detection._MODULES[module.removeprefix("detection.")]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("import ")[-1][:30])
def test_examples_run_as_they_are(tmp_path, monkeypatch, example):
    make_dataset(tmp_path / "data" / "demo", train=1, val=1)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/api.md", "exec"), {"__name__": "example"})


def test_every_name_is_in_an_example():
    used = set(re.findall(r"\w+", " ".join(re.findall(r"```python.*?```", PAGE, re.DOTALL))))
    assert set(detection.__all__) - used <= {"FrameMap"}  # which `compute()` makes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project's wheel, built from a copy so that nothing is left beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("detection", "ava_tools", "configs"):
        shutil.copytree(
            REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "setup.py", "train_ava.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    built = run(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
        "--quiet", "--wheel-dir", str(folder), ".", cwd=source,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Programs of a fresh environment with the wheel; packages come from this environment."""
    folder = tmp_path_factory.mktemp("environment")
    made = run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=folder)
    assert made.returncode == 0, made.stderr
    python = folder / "bin" / "python"
    put = run(
        sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index",
        "--no-deps", str(wheel), cwd=folder,
    )  # fmt: skip
    assert put.returncode == 0, put.stderr
    packages = next(folder.glob("lib/python*/site-packages"))
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    return folder / "bin"


def test_the_wheel_holds_what_is_no_python(wheel):
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    expected = {"detection/py.typed", "ava_tools/py.typed", "train_ava.py", "detection/__init__.py"}
    for folder, packed in (("configs", "configs"), ("detection/review/assets", "review/assets")):
        files = [path.name for path in (REPOSITORY / folder).iterdir() if path.is_file()]
        assert files
        expected |= {f"detection/{packed}/{name}" for name in files}
    assert expected <= names, expected - names
    for path in REPOSITORY.glob("detection/**/*.py"):
        assert path.relative_to(REPOSITORY).as_posix() in names
    assert wheel.name.startswith(f"x3d_action_detection-{detection.__version__}-")


def test_an_installed_package_works_from_any_folder(installed, tmp_path):
    python, command = str(installed / "python"), str(installed / "x3d-actions")
    code = (
        "import detection, json, importlib.metadata as m\n"
        "c = detection.load_config('demo_x3d_xs')\n"
        "print(json.dumps([detection.__file__, detection.__version__, c.output,"
        " m.version('x3d-action-detection')]))"
    )
    told = run(python, "-c", code, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    place, version, output, metadata = json.loads(told.stdout)
    assert place.startswith(str(installed.parent)) and output == "runs/demo_x3d_xs"
    assert version == metadata == detection.__version__

    verbs = run(command, cwd=tmp_path)
    assert verbs.returncode == 0 and "\n  train " in verbs.stdout, verbs.stderr
    assert run(python, "-m", "ava_tools", cwd=tmp_path).stdout == verbs.stdout
    shown = run(command, "check", "--help", cwd=tmp_path)
    assert shown.stdout.startswith("usage: x3d-actions check ")

    make_dataset(tmp_path / "set", train=1, val=1)
    checked = run(command, "check", "set", "--no-videos", cwd=tmp_path)
    assert checked.returncode == 0 and "tiny" in checked.stdout, checked.stderr
    found = run(command, "train", "--cfg", "demo_x3d_xs", "data.root=nowhere", cwd=tmp_path)
    assert found.returncode == 2
    assert (
        found.stderr.startswith("error: nowhere/dataset.yaml: ") and "\n" not in found.stderr[:-1]
    )
    missed = run(command, "train", "--cfg", "configs/demo_x3d_x.yaml", cwd=tmp_path)
    assert missed.returncode == 2 and "did you mean 'demo_x3d_xs'" in missed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]
