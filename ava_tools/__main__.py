"""All commands behind one name: `x3d-actions VERB ...` is `python -m ava_tools.VERB ...`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import ava_tools
from ava_tools.cli import run_command
from detection import __version__
from detection.errors import UserError

NO_VERBS = ("__main__", "cli", "import_bridges", "import_tools")


def main() -> NoReturn:
    """Run the verb that the first argument names; without one, list them."""
    run_command(lambda _: run_verb(*sys.argv[1:]))


def run_verb(verb: str = "--help", *arguments: str) -> int | None:
    """Run a verb, loading its module alone; return its exit code."""
    if verb in ("-h", "--help", "--version"):
        print(__version__ if verb == "--version" else verb_list())
        return 0
    modules = verb_modules()
    if verb not in modules:
        near = difflib.get_close_matches(verb.replace("-", "_"), modules, n=3)
        hint = f", did you mean {' or '.join(near)}?" if near else " (see x3d-actions --help)"
        raise UserError(f"'{verb}' is not a verb{hint}")
    code: int | None = importlib.import_module(modules[verb]).main(arguments)
    return code


def verb_modules() -> dict[str, str]:
    """Return the module of every verb."""
    names = [module.name for module in pkgutil.iter_modules(ava_tools.__path__)]
    verbs = {name: f"ava_tools.{name}" for name in names if name not in NO_VERBS}
    return dict(sorted({**verbs, "train": "train_ava"}.items()))


def verb_list() -> str:
    """Lay out every verb with the first line of its module, which is not imported for that."""
    lines = ["usage: x3d-actions VERB [OPTION ...]", ""]
    for verb, module in verb_modules().items():
        spec = find_spec(module)
        assert spec is not None and spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        about = text.split('"""')[1].split("\n")[0]
        lines.append(f"  {verb:<18}{about}")
    return "\n".join([*lines, "", "x3d-actions VERB --help says more, with an example."])


if __name__ == "__main__":
    main()
