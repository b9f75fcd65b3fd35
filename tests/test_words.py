"""Words of the glossary (CONTRIBUTING.md) in code, docstrings and messages; one name, one thing."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("detection", "ava_tools")
    for path in (ROOT / folder).rglob("*.py")
) + ["train_ava.py"]

# Also as a part of a name: `_write_film`, not `Picturesque`.
OTHER_WORDS = re.compile(
    r"(?<![a-z])(wanted|films?|pictures?|somebody|nobody|moments?|rivals?|holes?|no such|lessons?"
    r"|in vain|recompute)(?![a-z])",
    re.IGNORECASE,
)
# What keeps such a word, and why.
KEPT = re.compile(
    "|".join(
        (
            r"--(no-)?film\b|options\.film\b|\bfilm=|\bfilm: bool",  # options that users type
            r"--rivals\b|options\.rivals\b|--pictures\b|options\.pictures\b",
            r"config\.picture\b|\bpicture: FrameConfig|\"picture\"",  # a section of configurations
            r"\bpicture\.(short|long)_side_px",
            # A key of label files.
            r"\.nobody\b|\bnobody(?=: bool|: tuple|: the boxes|=|\} of tracks)|\"nobody\"",
            r"\b(num_pictures|pictures_per_second|holes_s|holes|on_hole)\b",  # keys of JSON files
        )
    )
)
# Files and rooms with a word of their own.
OWN_WORD = {
    "ava_tools/download.py": "films?",  # AVA's word for its source videos
    "detection/prepare/ava_download.py": "films?",
    "detection/pipeline/": "film",  # a keyword of `run`, and a key of its files
}


def other_words(text: str, path: str = "") -> list[str]:
    said = KEPT.sub("", text)
    for start, word in OWN_WORD.items():
        if path.startswith(start):
            said = re.sub(rf"(?<![a-z]){word}(?![a-z])", "", said, flags=re.IGNORECASE)
    return [match[0] for match in OTHER_WORDS.finditer(said)]


def test_code_keeps_to_the_words_of_the_glossary():
    found = [
        f"{path}:{number}: {word}"
        for path in FILES
        for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), 1)
        for word in other_words(line, path)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("def _write_film(picture):", ["film", "picture"]),
        ("# Nobody is there, a moment later", ["Nobody", "moment"]),
        ('raise UserError("no such file")', ["no such"]),
        ("momentum, whole, unwanted, PictureType", []),
        ('add("--no-film", help="draw no film")', ["film"]),
        ("frame = config.picture", []),
    ],
)
def test_words_are_found_in_names_and_prose(text, words):
    assert other_words(text) == words
    assert other_words(text.replace("film", "video"), "ava_tools/download.py") == [
        word for word in words if word != "film"
    ]


# Public names that stand in several modules for what is the same there.
SAME_IN_EACH = {
    "main": "of every command",
    "evaluate_checkpoint": "of both trainings: --eval-only",
    "as_json": "of every kind of result",
    "basis": "of every kind of result: what it was scored on",
    "page": "of every kind of result: its HTML page",
    "write_tables": "of a video, and of all of them",
    "fetch": "a file from elsewhere, whole, to this machine",
}


def test_a_public_name_means_one_thing():
    places: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for node in ast.parse((ROOT / path).read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in SAME_IN_EACH} == {}
    assert set(SAME_IN_EACH) <= set(twice), "no longer needed"
