"""The card of a model: README.md of its folder, as the Hugging Face Hub shows it.

Names of classes, data and licences are strangers' texts: what Markdown or HTML could take for
markup is written as numbers of characters (`escaped`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from detection import __version__
from detection.checkpoints.file import ModelFile
from detection.errors import printable
from detection.people.weights import PeopleFile
from detection.publishing.run_facts import RunFacts

_LONGEST = 300
_PIP = "pip install x3d-action-detection"
_SPDX = re.compile(
    r"(?:apache-2\.0|mit|bsd-[23]-clause|cc0-1\.0|cc-by(?:-nc)?(?:-sa|-nd)?-4\.0|gpl-3\.0)"
)
_NO_MARKUP = re.compile(r"(?<=[^\W_])_(?=[^\W_])|(?<=[0-9])\.(?=[0-9])")
_X3D = """```
@inproceedings{feichtenhofer2020x3d,
  title = {X3D: Expanding Architectures for Efficient Video Recognition},
  author = {Feichtenhofer, Christoph},
  booktitle = {CVPR},
  pages = {203--213},
  year = {2020},
  doi = {10.1109/CVPR42600.2020.00028}
}
@software{x3d_action_detection,
  title = {x3d-action-detection: spatiotemporal action detection with X3D},
  author = {{The x3d-action-detection authors}},
  version = {VERSION}
}
```"""


@dataclass(frozen=True)
class CardFacts:
    """What a card is made of.

    model: what was published.
    run: what its run says.
    name: user/name on the Hub; None: the folder alone.
    folder: its name.
    licence: of the data and the weights, in the publisher's words; None: not stated.
    people: the people detector that goes with it: "people", "coco", "coco:NETWORK" or None.
    """

    model: ModelFile | PeopleFile
    run: RunFacts
    name: str | None
    folder: str
    licence: str | None
    people: str | None


def card_text(facts: CardFacts) -> str:
    """Return the card as Markdown, with the Hub's metadata on top."""
    parts = [
        _metadata(facts),
        f"# {escaped(facts.name or facts.folder)}",
        _what(facts),
        "## How to use\n\n" + _use(facts),
        "## Data\n\n" + _data(facts),
        "## Classes\n\n" + _classes(facts),
        "## How it was measured\n\n" + _measured(facts),
        "## Limits\n\n" + _limits(facts),
        "## Citation\n\n" + _X3D.replace("VERSION", __version__),
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: str, longest: int = _LONGEST) -> str:
    """Return a text as Markdown and HTML that show it as it is: no markup, no link, one line.

    `_` between letters and `.` between digits are no markup, and stay legible in the file.
    """
    text = printable(text)
    text = text if len(text) <= longest else f"{text[:longest]}..."
    plain = {found.start() for found in _NO_MARKUP.finditer(text)}
    return "".join(
        c if c.isalnum() or c in " ,-" or at in plain else f"&#{ord(c)};"
        for at, c in enumerate(text)
    )


def _metadata(facts: CardFacts) -> str:
    kind = "video-classification" if isinstance(facts.model, ModelFile) else "object-detection"
    lines = ["library_name: x3d-action-detection", f"pipeline_tag: {kind}"]
    lines += ["tags:", "- x3d", "- action-detection"]
    if facts.licence is not None and _SPDX.fullmatch(facts.licence.lower()):
        lines.append(f"license: {facts.licence.lower()}")
    elif facts.licence is not None:
        lines += ["license: other", f"license_name: {json.dumps(printable(facts.licence))}"]
    return "\n".join(["---", *lines, "---"])


def _what(facts: CardFacts) -> str:
    model = facts.model
    if isinstance(model, PeopleFile):
        numbers = model.numbers
        return (
            f"A people detector: Faster R-CNN `{numbers.name}`, frames scaled to a short side of "
            f"{numbers.short_side_px} px (long side at most {numbers.long_side_px})."
        )
    assert model.network is not None and model.sampling is not None
    kind = "what each person does" if model.network.task == "actions" else "what a clip shows"
    sampling = model.sampling
    return (
        f"An X3D network that says {kind}: {model.network.head.num_classes} classes. A clip is "
        f"{sampling.num_frames} frames, {sampling.step / 30:.3g} s apart "
        f"({sampling.span_s:.3g} s), with a short side of {model.short_side_px} px."
    )


def _use(facts: CardFacts) -> str:
    place = f"hub:{facts.name}" if facts.name else facts.folder
    if not re.fullmatch(r"[\w./@:-]+", place, re.ASCII):
        place = "FOLDER"
    if isinstance(facts.model, PeopleFile):
        command = f"python -m ava_tools.detect_actions video.mp4 --checkpoint RUN --people {place}"
        return f"```\n{_install(facts)}\n{command}\n```"
    people = ""
    if facts.people is None and _is_of_actions(facts.model):
        people = " --people coco"
    command = f"python -m ava_tools.detect_actions video.mp4 --checkpoint {place}{people}"
    given = f", people={people.split()[-1]!r}" if people else ""
    python = [
        "from detection import ActionDetectorPipeline",
        f"detector = ActionDetectorPipeline.from_checkpoint({place!r}{given})",
        'print(*detector.run("video.mp4"), sep="\\n")',
    ]
    return f"```\n{_install(facts)}\n{command}\n```\n\n```python\n" + "\n".join(python) + "\n```"


def _install(facts: CardFacts) -> str:
    return 'pip install "x3d-action-detection[hub]"' if facts.name else _PIP


def _data(facts: CardFacts) -> str:
    run = facts.run
    name = "not stated" if run.data is None else escaped(run.data)
    made_up = " (made up: drawn by a program, no measure of real actions)" if run.made_up else ""
    splits = ""
    if run.train_split and run.val_split:
        splits = f"; trained on {escaped(run.train_split)}, measured on {escaped(run.val_split)}"
    start = ""
    if isinstance(facts.model, ModelFile):
        base = ((facts.model.config or {}).get("model") or {}).get("pretrained")
        name_of_base = re.split(r"[/\\]", str(base).rstrip("/\\"))[-1]
        start = "" if base is None else f" Training started from {escaped(name_of_base)}."
    licence = "not stated by who published it" if facts.licence is None else escaped(facts.licence)
    about = f"Data set: {name}{made_up}{splits}.{start}"
    return f"{about}\n\nLicence of the data and the weights: {licence}."


def _classes(facts: CardFacts) -> str:
    model, run = facts.model, facts.run
    if isinstance(model, PeopleFile):
        return f"{', '.join(map(escaped, model.classes))}.\n\n" + _score_line(model)
    assert model.classes is not None
    multi = run.number("mean_ap") is not None
    measure = "AP" if _is_of_actions(model) or multi else "top-1"
    columns = ["class", "id", measure, "labels"]
    columns += ["threshold"] if model.thresholds is not None else []
    rows = []
    for column, (name, number) in enumerate(
        zip(model.classes.names, model.classes.ids, strict=True)
    ):
        ap = run.number("per_class", name)
        labels = run.number("num_ground_truth", name)
        row = [escaped(name), str(number), _figure(ap), "-" if labels is None else f"{labels:.0f}"]
        if model.thresholds is not None:
            row.append(_figure(float(model.thresholds.score[column])))
        rows.append(row)
    text = _table(columns, rows)
    groups = [
        f"Of {escaped(name)} a person does one at a time: "
        + ", ".join(escaped(model.classes.names[column]) for column in columns_of)
        for name, columns_of in model.classes.exclusive.items()
    ]
    if model.thresholds is not None:
        learned = model.thresholds
        groups.append(
            f"Thresholds were learned on {escaped(learned.source)}"
            + (", one for all classes" if learned.common else "")
            + (", for scores times the person's" if learned.times_person_score else "")
        )
    return "\n\n".join([text, *(f"{line}." for line in groups)])


def _score_line(model: PeopleFile) -> str:
    if model.best_score is None:
        return "From which score on boxes are best kept was not measured."
    return f"Boxes are best kept from a score of {model.best_score:.2f} on."


def _measured(facts: CardFacts) -> str:
    run = facts.run
    if not run.metrics:
        return "Not measured: no figures of these weights lie beside them."
    if isinstance(facts.model, PeopleFile):
        return _measured_people(run)
    number = run.number("mean_ap")
    if _is_of_actions(facts.model):
        protocol, boxes = run.text("protocol"), run.text("boxes")
        iou, keyframes = run.number("iou_threshold"), run.number("num_keyframes")
        lines = [
            f"frame-mAP **{_figure(number)}** at IoU {'-' if iou is None else f'{iou:g}'}, "
            f"protocol {escaped(protocol or 'not stated')}, "
            f"{'-' if keyframes is None else f'{keyframes:,.0f}'} keyframes.",
            f"Boxes: {escaped(boxes or 'not stated')}.",
        ]
        others = run.metrics.get("other_boxes")
        for other in others if isinstance(others, list) else []:
            if isinstance(other, dict):
                beside = RunFacts(metrics=other)
                lines.append(
                    f"Beside it: {_figure(beside.number('mean_ap'))} with "
                    f"{escaped(beside.text('boxes') or 'boxes not stated')}."
                )
        return "\n\n".join(lines)
    views = [run.number("views", name) for name in ("clips", "crops")]
    names = {"top1": "top-1", "top5": "top-5", "mean_class": "mean over classes", "mean_ap": "mAP"}
    figures = [f"{word} **{_figure(run.number(key))}**" for key, word in names.items()
               if run.number(key) is not None]  # fmt: skip
    seen = " x ".join("-" if view is None else f"{view:.0f}" for view in views)
    videos = run.number("num_videos")
    count = "-" if videos is None else f"{videos:,.0f}"
    return f"{', '.join(figures) or '-'}, of {count} videos, {seen} views (clips x crops) each."


def _measured_people(run: RunFacts) -> str:
    figures = {key: run.number("val", key) for key in ("ap", "ap50", "ar", "recall50")}
    frames, people = run.number("val", "num_pictures"), run.number("val", "num_ground_truth")
    rows = [[_figure(value) for value in figures.values()]]
    of = [f"{'-' if n is None else f'{n:,.0f}'}" for n in (frames, people)]
    return (
        _table(["AP", "AP at IoU 0.5", "AR", "recall at IoU 0.5"], rows)
        + f"\n\nOn the validation split: {of[0]} frames with {of[1]} people, COCO's figures."
    )


def _limits(facts: CardFacts) -> str:
    lines = [
        "It knows its classes alone, and people, cameras and scenes such as its data has.",
        "Figures above are of that data; on other videos measure anew before relying on it.",
        "Do not use it to decide about persons: scores are of looks, and are wrong at times.",
    ]
    model = facts.model
    if isinstance(model, ModelFile):
        if not _is_of_actions(model):
            lines.append("It was trained on whole clips, not on persons.")
        elif facts.people is None:
            lines.append("It needs boxes of people; no detector goes with it.")
        if model.thresholds is None:
            lines.append("No thresholds were learned: scores are not tuned to decisions.")
    if facts.run.made_up:
        lines.append("Its videos were drawn by a program: it is a demonstration.")
    return "\n".join(f"* {line}" for line in lines)


def _is_of_actions(model: ModelFile | PeopleFile) -> bool:
    return (
        isinstance(model, ModelFile)
        and model.network is not None
        and (model.network.task == "actions")
    )


def _figure(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
