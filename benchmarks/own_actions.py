"""Does "my own three actions" work with the defaults of the documents alone? On JHMDB's clips.

    python benchmarks/own_actions.py --data ../shared/data --people runs/people_jhmdb
    python benchmarks/own_actions.py --data ../shared/data --people yolox_nano.onnx
    python benchmarks/own_actions.py --data ../shared/data --people RUN \
        --triples stand,sit,wave pullup,golf,pour

A draw takes 8 clips of each of three actions, to be labelled, and 4 others of each that stay
unseen, no film in both. The commands are those of docs/data.md, "My own three actions in an hour",
read from that page: import_dataset, detect_people, label, teach, and the line that teach prints for
detect_actions. Replaced are paths, the three actions (of which a clip has one, so that they exclude
each other), the published network by its file, and COCO's people by --people (weights or run of
train_people, or an ONNX file).

**The annotator is a script** (`page_annotator.py`): it gives every track that meets the annotated
person of the clip that clip's action, leaves all others undecided, and writes what the page would
export. The page itself is measured in a browser by `label_page.py`.

A held-out clip is right where one of its events has its action, and wrong where one has another of
the three, whoever does it: JHMDB annotates one person of a clip, and others may be in view. Below
each clip its tracks: how far they are the annotated person (mean IoU), the detector's best
confidence, the best score of each action, and with a star the peaks of events.

--way table: labels of annotated boxes as a table, `import_dataset csv`, `train_ava.py`.
--of train: held-out clips are other training clips of JHMDB's first split; --of test: its test
clips, for the end. --keep FOLDER keeps the draws; given again with it (the page's way), people and
features that are there are used, and only teaching and what follows is done, with its times alone.
What one default is worth shows with its old value, as one text a command:

    --teach "clip.num_frames=4 clip.step=12"      --detect="--threshold 0.5"
    --label="--min-score 0.5"                     --train "model.freeze_batch_norm=false"
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from own_actions_report import Outcome, print_table, read_result, threshold_text  # noqa: E402
from page_annotator import KnownPerson, known_person, label_people  # noqa: E402

from detection import VideoResults  # noqa: E402
from detection.datasets.labelling_task import TASK_FILE  # noqa: E402
from detection.formats.safe_pickle import read_plain_pickle  # noqa: E402
from detection.people.beside_run import people_beside  # noqa: E402

ACTIONS = ("stand", "sit", "wave")
LABELLED, HELD_OUT = 8, 4  # of each action
DOCUMENT, SECTION = "docs/data.md", "## My own three actions in an hour"
TABLE = "video,frame,x1,y1,x2,y2,frame_width,frame_height,action,person"
_FILM = re.compile(r"^(.*)_[a-z_]+_[fuhl]_[cn]m_np\d_(?:fr|ba|le|ri)_(?:bad|med|goo)_\d+$")


def draw(
    annotation: Mapping[str, Any], actions: Sequence[str], seed: int, of: str
) -> tuple[list[str], list[str]]:
    """Return the labelled clips and the held-out ones (CLASS/NAME), no film in both."""
    chance = random.Random(seed)
    labelled: list[str] = []
    held_out: list[str] = []
    for action in actions:
        pool = [n for n in annotation["train_videos"][0] if n.split("/")[0] == action]
        chance.shuffle(pool)
        labelled += pool[:LABELLED]
    films = {film_of(name) for name in labelled}
    for action in actions:
        names = annotation["train_videos" if of == "train" else "test_videos"][0]
        pool = sorted(n for n in names if n.split("/")[0] == action and film_of(n) not in films)
        chance.shuffle(pool)
        held_out += pool[:HELD_OUT]
    if len(labelled) < LABELLED * len(actions) or len(held_out) < HELD_OUT * len(actions):
        raise SystemExit(f"{', '.join(actions)}, seed {seed}: too few clips of other films")
    return labelled, held_out


def film_of(name: str) -> str:
    """Return the film that a clip is from, by HMDB's naming."""
    found = _FILM.match(name.split("/")[-1])
    return found[1] if found else name


def documented(start: str) -> list[str]:
    """Return the arguments of the documents' first command that begins with `start`."""
    text = (REPOSITORY / DOCUMENT).read_text("utf-8")
    section = text.partition(f"{SECTION}\n")[2].partition("\n## ")[0]
    for line in section.replace("\\\n", " ").splitlines():
        words = shlex.split(line) if line.startswith("python ") else []
        if words[1 : 1 + len(start.split())] == start.split():
            return words[1:]
    raise SystemExit(f"{DOCUMENT}: {SECTION}: no command 'python {start}' any more")


def replaced(words: Sequence[str], old: str, new: Sequence[str]) -> list[str]:
    """Return a command with the words of `old`, which it must have side by side, replaced."""
    gone = old.split()
    for place in range(len(words)):
        if list(words[place : place + len(gone)]) == gone:
            return [*words[:place], *new, *words[place + len(gone) :]]
    raise SystemExit(f"'{old}' is not in: {shlex.join(words)}")


class Steps:
    """The commands of one draw, given in its folder, with the processor time of each step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}

    def run(self, step: str, words: Sequence[str]) -> str:
        """Give a command; return what it prints, which goes to commands.log too."""
        paths = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        log_path = self.folder / "commands.log"
        with self.timed(step), log_path.open("a") as log:
            log.write(f"$ python {shlex.join(words)}\n")
            log.flush()
            done = subprocess.run(
                [sys.executable, *words], cwd=self.folder, env=paths, stdout=subprocess.PIPE,
                stderr=log, text=True,
            )  # fmt: skip
            log.write(done.stdout)
        if done.returncode:
            raise SystemExit(f"exit code {done.returncode}: {shlex.join(words)}; see {log_path}")
        return done.stdout

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the processor time of this process and of its children to a step."""
        before = _processor_s()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + _processor_s() - before


def _processor_s() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


@dataclass(frozen=True)
class Trained:
    """What labelling and training came to.

    use: words of the detect_actions command, with VIDEO.  labelled: people, None: clips.
    """

    use: list[str]
    labelled: int


def by_page(
    options: argparse.Namespace, steps: Steps, known: Mapping[str, KnownPerson], group: str
) -> Trained:
    """Import bare videos, find their people, label them on the page, and teach."""
    root = steps.folder / "data/raw"
    if not (root / TASK_FILE).is_file():
        make_page(options, steps, root, group)
    elif options.label:  # the draw is given again
        raise SystemExit(f"{root}: has a page; --label needs another folder for --keep")
    labelled = label_people(root, known)
    teach = documented("-m ava_tools.teach")
    network = f"model.pretrained={weights(options)}"
    printed = steps.run("teach", [*teach, network, *shlex.split(options.teach)])
    last = printed.splitlines()[-1]
    return Trained(shlex.split(last.removeprefix("use it: python ")), labelled)


def make_page(options: argparse.Namespace, steps: Steps, root: Path, group: str) -> None:
    """Make the page of the videos' people.  group: as `label --one-of` takes it."""
    steps.run("import", documented("-m ava_tools.import_dataset videos"))
    find = documented("-m ava_tools.detect_people")
    own = ["--weights", str(options.people.resolve())]
    steps.run("people", replaced(find, "--weights coco --network resnet50_v2", own))
    label = documented("-m ava_tools.label")
    label = replaced(label, "--one-of pose=stand,sit --actions wave", ["--one-of", group])
    steps.run("label", [*label, *shlex.split(options.label)])


def by_table(
    options: argparse.Namespace, steps: Steps, annotation: Mapping[str, Any], names: list[str]
) -> Trained:
    """Import the annotated boxes as a table, and train."""
    write_table(steps.folder / "boxes.csv", annotation, names)
    group = f"--exclusive=action={','.join(sorted({name.split('/')[0] for name in names}))}"
    source = ["csv", "--source", "boxes.csv", "--videos", "videos", "--out", "data/mine", "--link"]
    steps.run("import", ["-m", "ava_tools.import_dataset", *source, group])
    steps.run("import", documented("-m ava_tools.check"))
    train = documented("train_ava.py")
    config = f"configs/{Path(train[-1]).name}"
    train = [str(REPOSITORY / train[0]), "--cfg", str(REPOSITORY / config)]
    network = f"model.pretrained={weights(options)}"
    steps.run("train", [*train, network, *shlex.split(options.train)])
    use = ["-m", "ava_tools.detect_actions", "VIDEO", "--checkpoint", f"runs/{Path(config).stem}"]
    return Trained([*use, "--people", str(options.people.resolve())], len(names))


def write_table(path: Path, annotation: Mapping[str, Any], names: Sequence[str]) -> None:
    """Write the annotated boxes of clips as a table for `import_dataset csv`, frames from 0."""
    height, width = annotation["resolution"][names[0]]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(TABLE.split(","))
        for name in names:
            ((tube,),) = annotation["gttubes"][name].values()
            for frame, *box in tube.tolist():
                video = name.split("/")[-1]
                action = name.split("/")[0]
                rows.writerow([video, int(frame) - 1, *box, width, height, action, 1])


def weights(options: argparse.Namespace) -> Path:
    """Return the file of the network that the documents fetch by name."""
    path: Path = options.data.resolve() / "weights/x3d_xs_k400_from_int8.pyth"
    return path


def detect(options: argparse.Namespace, steps: Steps, use: Sequence[str]) -> None:
    """Find the actions of the held-out clips, in found/held_out, by the line that was printed."""
    words = replaced(use, "VIDEO", ["held_out"])
    words += shlex.split(options.detect)
    run = steps.folder / words[words.index("--checkpoint") + 1]
    if options.way == "page" and people_beside(run) != options.people.resolve():
        raise SystemExit(f"{run}: people.yaml names {people_beside(run)}")
    steps.run("detect", words)


def trial(
    options: argparse.Namespace,
    annotation: Mapping[str, Any],
    actions: tuple[str, ...],
    seed: int,
    folder: Path,
) -> Outcome:
    """Follow the documents once, and print what was found in each held-out clip."""
    labelled, held_out = draw(annotation, actions, seed, options.of)
    known: dict[str, KnownPerson] = {}
    shutil.rmtree(folder / "found", ignore_errors=True)  # of the draw given before
    for place, names in (("videos", labelled), ("held_out", held_out)):
        (folder / place).mkdir(exist_ok=True)
        for name in names:
            source = options.data / "jhmdb/videos" / f"{name}.mp4"
            if not (folder / place / source.name).is_file():
                shutil.copyfile(source, folder / place / source.name)
            known[source.stem] = known_person(annotation, name, source)
    steps = Steps(folder)
    if options.way == "page":
        trained = by_page(options, steps, known, f"action={','.join(actions)}")
    else:
        trained = by_table(options, steps, annotation, labelled)
    detect(options, steps, trained.use)
    clips = []
    for name in held_out:
        video = name.split("/")[-1]
        results = VideoResults.open(folder / "found/held_out" / video)
        clips.append(read_result(name, results, known[video]))
        print("\n".join(clips[-1].lines), flush=True)
    run = folder / trained.use[trained.use.index("--checkpoint") + 1]
    thresholds = threshold_text(run)
    print(f"  thresholds: {thresholds}; labelled: {trained.labelled}")
    return Outcome(actions, seed, tuple(clips), trained.labelled, thresholds, steps.seconds)


def main() -> None:
    """Run the trial for each three actions and seed, and print the table."""
    options = parse()
    annotation = read_plain_pickle(options.data / "jhmdb/JHMDB-GT.pkl")
    triples = [tuple(text.split(",")) for text in options.triples] or [tuple(options.actions)]
    outcomes = []
    for actions in triples:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as temporary:
                name = f"{'_'.join(actions)}_{seed}"
                folder = options.keep.resolve() / name if options.keep else Path(temporary)
                folder.mkdir(parents=True, exist_ok=True)
                print(f"draw {seed}: {', '.join(actions)}", flush=True)
                outcomes.append(trial(options, annotation, actions, seed, folder))
    what = "people" if options.way == "page" else "clips"
    print(f"\nprocessor time by step; held-out clips of {options.of}\n")
    print_table(outcomes, labelled=what)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with jhmdb/ and weights/")
    add("--people", type=Path, required=True, help="weights or run of train_people, or ONNX")
    add("--way", choices=("page", "table"), default="page")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--actions", nargs="+", default=list(ACTIONS))
    which.add_argument("--triples", nargs="+", default=[], metavar="A,B,C")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--of", choices=("train", "test"), default="train")
    add("--keep", type=Path, help="keep the folders of the draws here")
    for verb in ("label", "teach", "train", "detect"):
        add(f"--{verb}", default="", metavar="OPTIONS", help="more options of that command")
    return parser.parse_args()


if __name__ == "__main__":
    main()
