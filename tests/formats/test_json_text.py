from __future__ import annotations

import json

import numpy as np

from detection.formats.json_text import json_text


def test_what_json_does_not_have_is_null():
    values = {"a": [1.0, float("nan")], "b": {"c": (float("inf"), -np.inf)}, "d": "nan", "e": None}
    assert json.loads(json_text(values)) == {
        "a": [1.0, None], "b": {"c": [None, None]}, "d": "nan", "e": None,
    }  # fmt: skip
    assert json_text(1).endswith("\n")
