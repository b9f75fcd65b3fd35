"""Nothing in the library needs what only Unix has merely to be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = """
import sys
from importlib import import_module
from pathlib import Path
sys.modules["fcntl"] = None  # importing it fails, as on Windows
for path in sorted(Path().glob("detection/**/*.py")):
    parts = path.with_suffix("").parts
    import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
print(len([name for name in sys.modules if name.startswith("detection.")]))
"""


def test_every_module_is_imported_without_fcntl():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 200
