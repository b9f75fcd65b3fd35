"""What every command shares: one line and exit code 2 for what a user can mend."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from detection.errors import UserError


def run_command(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Run `main(None)` as a program: one line and exit code 2 or its own for a `UserError`.

    A file that cannot be opened ends the same way; Ctrl-C ends with 130. Anything else is a fault
    of this project and keeps its traceback.
    """
    try:
        sys.exit(main(None))
    except UserError as error:
        print("error: " + " ".join(str(error).split("\n")), file=sys.stderr)
        sys.exit(error.exit_code)
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
