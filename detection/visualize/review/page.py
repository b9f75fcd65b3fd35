"""Writes a review page: one HTML file that opens from disk, everything inside but the videos."""

from __future__ import annotations

import html
import json
from pathlib import Path

from detection.files import write_text
from detection.visualize.review.document import ReviewDocument
from detection.visualize.review.encoding import encode_document

PAGE_NAME = "review.html"


def write_review(folder: str | Path, document: ReviewDocument) -> Path:
    """Write `folder/review.html` and return its path; the videos are placed by the caller.

    The folder is made where it is missing. Raises `UserError` where it cannot be written.
    """
    path = Path(folder) / PAGE_NAME
    write_text(path, page_text(document))
    return path


def page_text(document: ReviewDocument) -> str:
    """Return the whole page."""
    data = script_json(encode_document(document))
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(document.title)}</title>"
        f'<script type="application/json" id="review-data">{data}</script></html>\n'
    )


def script_json(value: object) -> str:
    """Return JSON that ends no script element, whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text
