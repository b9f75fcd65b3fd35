"""Writes a review page: one HTML file that opens from disk, with everything inline but the videos.

A page opened from disk cannot fetch scripts, styles or data; its content security policy allows
images and videos from its folder, and this script alone.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from detection.errors import UserError
from detection.files import replacing, sha256_of_text, text_lines
from detection.review.document import ReviewDocument
from detection.review.encoding import encode_document

PAGE_NAME = "review.html"


def write_review(folder: str | Path, document: ReviewDocument) -> Path:
    """Write `folder/review.html` and return its path; the caller places the videos.

    A missing folder is created. Raises `UserError` if it cannot be written.
    """
    path = Path(folder) / PAGE_NAME
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as page:
        page.writelines(page_pieces(document))
    return path


def page_pieces(document: ReviewDocument) -> Iterator[str]:
    """Yield the page in pieces, so that it never is one string in memory."""
    head, clips = encode_document(document)
    script, style = _assets()
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src 'self' file: data:; media-src 'self' file: blob:; base-uri 'none'; "
        "form-action 'none'"
    )
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(document.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        "<noscript>This page needs JavaScript.</noscript>\n"
    )
    yield from _data_block("review-data", [script_json(head)])
    for number, clip in enumerate(clips):
        yield from _data_block(f"clip-{number}", _clip_json(clip))
    yield f"<script>{script}</script>\n</body>\n</html>\n"


def script_json(value: object) -> str:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _data_block(name: str, pieces: Iterable[str]) -> Iterator[str]:
    yield f'<script type="application/json" id="{name}">'
    yield from pieces
    yield "</script>\n"


def _clip_json(clip: Mapping[str, Any]) -> Iterator[str]:
    rest = {name: value for name, value in clip.items() if name != "tracks"}
    yield script_json(rest)[:-1] + ',"tracks":['
    for number, track in enumerate(clip["tracks"]):
        yield ("," if number else "") + script_json(track)
    yield "]}"


@cache
def _assets() -> tuple[str, str]:
    folder = resources.files("detection.review") / "assets"
    names = sorted(entry.name for entry in folder.iterdir())
    scripts = [(folder / name).read_text("utf-8") for name in names if name.endswith(".js")]
    script = '(() => {\n"use strict";\n' + "\n".join(scripts) + "})();\n"
    return script, (folder / "page.css").read_text("utf-8")


def _digest(text: str) -> str:
    """Return the content security policy's source expression of an inline element."""
    return "sha256-" + base64.b64encode(bytes.fromhex(sha256_of_text(text))).decode()


def page_key(path: str | Path) -> str:
    """Return the key of a page that `write_review` wrote, which its exports name as theirs.

    Raises `UserError` where the file is missing, and for other files.
    """
    start = '<script type="application/json" id="review-data">'
    for line in text_lines(path, what="review page"):
        if line.startswith(start):
            head = json.loads(line.removeprefix(start).rstrip().removesuffix("</script>"))
            return str(head["key"])
    raise UserError(f"{path}: not a review page")
