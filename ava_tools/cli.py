"""What every command shares: how it reads its options, and how it ends.

A command ends with one of five exit codes: 0, done; 1, done, and what was looked for was found
(`check` and `verify`: problems, which are printed); 2, something that the user can correct, in one
line on stderr; 3, done but for some videos that failed (`detect_actions --engine`); 75, stopped
before the end (Ctrl-C, SIGTERM, a reader such as `head` that left), and the same command, or
`--resume`, can be given again.
"""

from __future__ import annotations

import argparse
import errno
import io
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from detection.bounds import MOST_THREADS, MOST_WORKERS
from detection.errors import EXIT_STOPPED, EXIT_WRONG, UserError, is_out_of_memory, printable

if TYPE_CHECKING:
    from detection.config import AnyConfig
    from detection.datasets.ava_csv import AvaRows
    from detection.engine.distributed import Processes
    from detection.engine.runs import Run, Training

STDOUT = "standard output"
_LONGEST_LINE = 4000
_LOG_EVERY_S = 60
_REPOSITORY = Path(__file__).resolve().parent.parent


def run_command(main: Callable[[Sequence[str] | None], int | None]) -> NoReturn:
    """Run `main(None)` as a program and end it, with one of the exit codes above.

    One line on stderr says what a user can correct: a `UserError`, whatever the system says of a
    file, too little memory, input that is nested too deeply. Every other exception is a fault of
    this project and keeps its traceback. Characters that the terminal cannot show are written out.
    """
    _mend_streams()
    _space_out_progress()
    _end_when_asked()
    code = exit_code_of(main)
    # The end is under way: asked again, as `timeout` does for its group, nothing is to be said.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = _flushed(code)
    if (distributed := sys.modules.get("detection.engine.distributed")) is not None:
        distributed.leave(code)
    sys.exit(code)


def exit_code_of(main: Callable[[Sequence[str] | None], int | None]) -> int:
    """Run the command and return its exit code, having said what went wrong."""
    try:
        return main(None) or 0
    except SystemExit as ended:  # argparse: 0 after --help, 2 after a wrong option
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 2
    except UserError as error:
        _say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt as stop:
        _say("; ".join(["interrupted", *map(str, stop.args)]))
        return EXIT_STOPPED
    except RecursionError as error:
        _say(f"error: the input is nested too deeply (at {_place_of(error)})")
    except OSError as error:
        if error.filename == STDOUT and error.errno == errno.EPIPE:
            return EXIT_STOPPED  # who reads has seen enough, as `| head` does
        _say(f"error: {_words_of(error)}")
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            _say(f"error: not enough memory (at {_place_of(error)}: {error})")
        elif (loop := re.match("Symlink loop from '(.*)'", str(error))) is not None:
            _say(f"error: {loop[1]}: a link that leads to itself")  # of Path.resolve
        else:
            raise
    return EXIT_WRONG


def program(verb: str) -> str:
    """Return what starts the command of a verb, in the words that this one was started with."""
    if Path(sys.argv[0]).stem == "x3d-actions":
        return f"x3d-actions {verb}"
    return "python train_ava.py" if verb == "train" else f"python -m ava_tools.{verb}"


def command_parser(verb: str, about: str | None, examples: str = "") -> CommandParser:
    """Return the parser of a command; its module's docstring says what it is about."""
    return CommandParser(prog=program(verb), description=about, epilog=examples)


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose values are checked in one place.

    Paths: `~` is the home folder, an empty one is refused. Numbers have at most 18 digits
    before the point, NaN and infinity are none. Descriptions are printed as they are written.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        self.register("type", Path, _path)
        self.register("type", int, whole_number())
        self.register("type", float, number(-1e18, 1e18))

    def shared(self, *names: str, **changes: Any) -> None:
        """Add options that several commands have; `changes` say what is special about them here."""
        for name in names:
            self.add_argument(name, **(SHARED[name] | changes))

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and end with exit code 2."""
        _say(f"error: {message} (see {self.prog} --help)")
        self.exit(EXIT_WRONG)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help; argparse itself would hide that it could not be printed."""
        if message:
            (file or sys.stderr).write(message)


def whole_number(low: int = -(10**18), high: int = 10**18) -> Callable[[str], int]:
    """Return the type of an option that takes whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) and low <= int(text) <= high:
            return int(text)
        ends = f"from {low:,}" + (f" to {high:,}" if high < 10**18 else "")
        raise argparse.ArgumentTypeError(f"'{text[:40]}': a whole number {ends} is required")

    return read


# Processes, threads and files at a time: more than any machine has is a slip of the keyboard.
at_a_time = whole_number(1, MOST_THREADS)
none_or_at_a_time = whole_number(0, MOST_WORKERS)


def number(low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    """Return the type of an option that takes numbers from `low` (`above`: not itself) to `high`.

    Infinity is taken where `high` is infinite; NaN never is.
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if low <= value <= high and not (above and value == low):
            return value
        ends = ("above " if above else "from ") + f"{low:,g}"
        ends += "" if high == math.inf else f" to {high:,g}"
        raise argparse.ArgumentTypeError(f"'{text[:40]}': a number {ends} is required")

    return read


share = number(0, 1)
seconds = number(0, 1e6)  # eleven days
seconds_above_0 = number(0, 1e6, above=True)
frame_rate = number(0, 1000, above=True)


def auto_or_seconds(text: str) -> float | str:
    """Read `auto`, or a number of seconds: 0 or at least 0.01."""
    value = text if text == "auto" else seconds(text)
    if isinstance(value, float) and 0 < value < 0.01:
        raise argparse.ArgumentTypeError(f"'{text[:40]}': auto, 0 or 0.01 seconds and more")
    return value


def auto_or_seconds_above_0(text: str) -> float | str:
    """Read `auto`, or a number of seconds as `seconds_above_0` does."""
    return text if text == "auto" else seconds_above_0(text)


any_seconds = number(0, math.inf)
any_seconds_above_0 = number(0, math.inf, above=True)


def path_text(text: str) -> str:
    """Read an option that names a file, a folder or something else: `~/` is the home folder."""
    if not text:
        raise argparse.ArgumentTypeError("a path is required, found an empty one")
    return str(_path(text)) if text.startswith("~") else text


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("a path is required, found an empty one")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"'{text}': whose home folder is it?") from error


def file_name(text: str, otherwise: str) -> str:
    """Return a file name for any text: letters, digits, dots and dashes, nothing that is a path."""
    return re.sub(r"[^\w.-]", "_", text).lstrip(".")[:100] or otherwise


def named_lists(option: str, form: str, texts: Sequence[str] | None) -> dict[str, list[str]]:
    """Read the values of an option of the form `NAME=A,B,...`: two or more words each."""
    groups = {}
    for text in texts or ():
        name, _, values = text.partition("=")
        words = [word.strip() for word in values.split(",")]
        if not name.strip() or len(words) < 2 or not all(words):
            raise UserError(f"{option} '{text}': {form} is required")
        groups[name.strip()] = words
    return groups


def warn(*rows: AvaRows) -> None:
    """Print what is odd about annotation files that were read."""
    for each in rows:
        for sentence in each.warnings:
            print(printable(f"warning: {each.path}: {sentence}"), file=sys.stderr)


# What an option of this name is in every command that has it.
# fmt: off
SHARED: dict[str, dict[str, Any]] = {
    "--cfg": {"type": path_text, "metavar": "FILE",
              "help": "configuration: a YAML file, or the name of a shipped one"},
    "overrides": {"nargs": "*", "metavar": "a.b=value",
                  "help": "options that replace the configuration's"},
    "--dataset": {"type": Path, "required": True, "metavar": "DIR", "help": "data set folder"},
    "--split": {"required": True, "metavar": "NAME", "help": "split, as dataset.yaml names it"},
    "--only": {"action": "append", "default": [], "metavar": "VIDEO_ID",
               "help": "this video alone; repeatable (--only=-ID where an id begins with a dash)"},
    "--out": {"type": Path, "required": True, "metavar": "DIR"},
    "--json": {"type": Path, "metavar": "FILE", "help": "write the results as JSON too"},
    "--html": {"type": Path, "metavar": "FILE", "help": "write a self-contained page with curves"},
    "--jobs": {"type": at_a_time, "metavar": "N", "help": "videos at a time (default: as many as "
               "there are processor cores)"},
    "--engine": {"choices": ("processes", "ray"), "default": "processes",
                 "help": "what runs --jobs: processes of this machine, or Ray (pip install "
                 '"x3d-action-detection[ray]"), on one machine or on many that share the disk '
                 "(default %(default)s)"},
    "--address": {"metavar": "HOST:PORT", "help": "of a running Ray cluster, or auto: the one that "
                  "this machine belongs to (default: Ray is started here and ended again)"},
    "--gpus": {"type": number(0, 1024), "default": 1.0, "metavar": "N",
               "help": "of each worker; parts of one share it (default %(default)g)"},
    "--workers": {"type": none_or_at_a_time, "metavar": "N"},
    "--threads": {"type": at_a_time, "metavar": "N",
                  "help": "CPU threads of PyTorch (default: its own choice)"},
    "--device": {"default": "auto", "metavar": "NAME",
                 "help": "auto, cpu, cuda or cuda:N (default %(default)s)"},
    "--runtime": {"choices": ("auto", "torch", "onnxruntime", "openvino"), "default": "auto",
                  "help": "what runs the networks; they are exported once and kept beside them "
                  "(default %(default)s: openvino where installed and on a CPU, else torch); with "
                  "--half openvino computes in bfloat16"},
    "--half": {"action": argparse.BooleanOptionalAction,
               "help": "half precision (default: on a GPU)"},
    "--quiet": {"action": "store_true", "help": "no progress bar"},
    "--overwrite": {"action": "store_true", "help": "replace existing results"},
    "--resume": {"type": path_text, "metavar": "RUN", "help": "continue a stopped run folder"},
    "--eval-only": {"action": "store_true", "help": "score --checkpoint, do not train"},
    "--checkpoint": {"type": path_text, "metavar": "FILE_OR_RUN",
                     "help": "weights to score: a checkpoint or a run folder"},
    "--list-options": {"action": "store_true",
                       "help": "print every option that a configuration can set"},
}
# fmt: on


def training_parser(verb: str, about: str | None, examples: str = "") -> CommandParser:
    """Return a parser with the options of all commands that train a network."""
    parser = command_parser(verb, about, examples)
    parser.shared("--cfg", "overrides", "--resume", "--eval-only", "--checkpoint")
    parser.shared("--overwrite", help="replace an existing run folder")
    parser.shared("--list-options")
    parser.set_defaults(command=parser.prog)
    return parser


def check_training(options: argparse.Namespace) -> argparse.Namespace:
    """Refuse combinations of `training_parser`'s options that make no sense."""
    if options.list_options:
        return options
    if options.eval_only != bool(options.checkpoint):
        raise UserError("--eval-only and --checkpoint go together")
    if options.resume and (options.cfg or options.eval_only or options.overwrite):
        raise UserError("--resume takes its configuration from the run: no --cfg, --overwrite, ...")
    if not (options.cfg or options.resume or options.eval_only):
        raise UserError("--cfg FILE is required (or --resume RUN); see --help")
    return options


def run_training(
    options: argparse.Namespace,
    list_options: Callable[[], Iterable[tuple[str, str, str, str]]],
    load: Callable[..., AnyConfig],
    evaluate: Callable[[Processes], object],
    finish: Callable[[Run, Training], int] | None = None,
) -> int:
    """Do what the options of `training_parser` ask for; return the exit code.

    load: reads the configuration.  evaluate: scores --checkpoint.  finish: trains and scores a run
    (None: `train_and_report`).
    """
    if options.list_options:
        for key, kind, default, sentence in list_options():
            print(f"{key} ({kind}, default {default})\n    {sentence}")
        return 0
    # torch is loaded here, so that --help answers at once
    from detection.engine import runs
    from detection.engine.distributed import joined_processes
    from detection.engine.run_folder import folder_of, only_run

    with joined_processes() as processes:
        if options.eval_only:
            evaluate(processes)
            return 0
        if options.resume:
            folder = runs.folder_to_resume(options.resume)
            with only_run(folder, processes), _told_how_to_go_on(options, folder, processes):
                run, training = runs.resume(
                    options.resume, overrides=options.overrides, processes=processes, load=load
                )
                return (finish or runs.train_and_report)(run, training)
        config = load(options.cfg, options.overrides)
        folder = folder_of(config)
        with only_run(folder, processes), _told_how_to_go_on(options, folder, processes):
            run, training = runs.start(config, overwrite=options.overwrite, processes=processes)
            return (finish or runs.train_and_report)(run, training)


@contextmanager
def _told_how_to_go_on(
    options: argparse.Namespace, folder: Path, processes: Processes
) -> Iterator[None]:
    """Let the line of an interrupted run, as in a probe or while it is scored, say what follows."""
    try:
        yield
    except KeyboardInterrupt:
        if not processes.is_first or not (folder / "config.yaml").is_file():
            raise
        kept = (folder / "checkpoints" / "last.pt").is_file()
        what = "go on" if kept else "nothing was saved yet, begin again"
        raise KeyboardInterrupt(f"{what} with: {options.command} --resume {folder}") from None


def _words_of(error: OSError) -> str:
    said = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return f"{said} (at {_place_of(error)})"
    names = [os.fsdecode(n) if isinstance(n, bytes) else str(n)
             for n in (error.filename, error.filename2) if n is not None]  # fmt: skip
    return f"{' -> '.join(names)}: {said}"


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_REPOSITORY)]
    if not ours:
        return "an unknown place"
    return f"{Path(ours[-1].filename).relative_to(_REPOSITORY)}:{ours[-1].lineno}"


def _say(text: str) -> None:
    """Print one line on stderr; names of others cannot drive the terminal, nor flood it."""
    line = printable(text)
    if len(line) > _LONGEST_LINE:
        half = _LONGEST_LINE // 2
        line = f"{line[:half]} [... {len(line) - 2 * half:,} characters ...] {line[-half:]}"
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _lead_nowhere(2)


def _flushed(code: int) -> int:
    """Flush stdout, which may be a full disk or have lost its reader; return the exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _lead_nowhere(1)
        if code != EXIT_WRONG and error.errno != errno.EPIPE:
            _say(f"error: {_words_of(error)}")
            return EXIT_WRONG
    return code


def _lead_nowhere(descriptor: int) -> None:
    """Let what is left in a broken stream go, so that nothing fails when the program ends."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == descriptor:  # it was closed, and this was the lowest free number
        os.set_inheritable(descriptor, True)
        return
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _mend_streams() -> None:
    """Open what the caller closed (`>&-`), and write out what an encoding does not have."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file opened would be taken for the stream
            _lead_nowhere(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    sys.stdout = _Output(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def _space_out_progress() -> None:
    """Let progress bars add to a log a line a minute, and none of work that is done by then.

    tqdm takes the defaults of all bars from these variables, of this program and of those that it
    starts; whoever sets them decides.
    """
    if sys.stderr.isatty():
        return
    for name in ("MININTERVAL", "MAXINTERVAL", "DELAY"):
        os.environ.setdefault(f"TQDM_{name}", str(_LOG_EVERY_S))


class _Output(io.TextIOWrapper):
    """Standard output whose errors say that they are its own."""

    def __init__(self, before: TextIO) -> None:
        before.flush()
        plain = getattr(before, "write_through", False)  # python -u
        super().__init__(
            open(1, "wb", buffering=0 if plain else -1, closefd=False),  # noqa: SIM115, PTH123
            encoding=before.encoding,
            errors="backslashreplace",
            line_buffering=getattr(before, "line_buffering", False),
            write_through=plain,
        )

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STDOUT) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, STDOUT) from error


def _end_when_asked() -> None:
    """Let SIGTERM end a command as Ctrl-C does: what is half written is removed."""
    owner = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)  # a forked worker
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
