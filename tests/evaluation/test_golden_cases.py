"""Equal to each real script, class by class, on 1,000 random cases and on the special ones.

How `golden_ap.npz` was made: docs/evaluation.md.
"""

from __future__ import annotations

from pathlib import Path

import golden_cases
import numpy as np
import pytest

from detection.data.ava_files import read_detections, read_ground_truth, read_keyframe_list
from detection.data.label_map import read_label_map
from detection.evaluation.frame_map import frame_map
from detection.evaluation.protocols import PROTOCOLS

ANSWERS = np.load(Path(__file__).with_name("golden_ap.npz"))
SCRIPTS = [name for name in PROTOCOLS if name != "frame-map"]
SPECIAL = golden_cases.special_cases()


def answer(folder: Path, case: golden_cases.Case, protocol: str) -> np.ndarray:
    """Write the files of a case and score them: AP per class, then the mean."""
    files = {"gt.csv": case.ground_truth, "det.csv": case.detections, "map.pbtxt": case.label_map}
    for name, text in files.items():
        (folder / name).write_text(text)
    exclusions = frozenset()
    # The 2020 script has no exclusion file.
    if case.exclusions is not None and protocol != "activitynet-2020":
        (folder / "excluded.csv").write_text(case.exclusions)
        exclusions = read_keyframe_list(folder / "excluded.csv")
    result = frame_map(
        read_ground_truth(folder / "gt.csv"),
        read_detections(folder / "det.csv"),
        read_label_map(folder / "map.pbtxt"),
        exclusions=exclusions,
        protocol=protocol,
    )
    return np.array([*result.per_class.values(), result.mean_ap])


def test_cases_are_those_the_scripts_saw():
    digests = [
        golden_cases.digest(cases)
        for cases in (
            golden_cases.random_cases(),
            golden_cases.fractional_cases(),
            list(SPECIAL.values()),
        )
    ]
    assert ANSWERS["digest"].tolist() == digests


@pytest.mark.parametrize("protocol", SCRIPTS)
def test_random_cases(protocol, tmp_path):
    cases = golden_cases.random_cases()
    got = np.array([answer(tmp_path, case, protocol) for case in cases])
    wanted = ANSWERS[f"random {protocol}"]
    assert wanted.shape == (1000, 6)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9)


def test_fractional_times_and_empty_keyframes(tmp_path):
    cases = golden_cases.fractional_cases()
    got = np.array([answer(tmp_path, case, "activitynet-2020") for case in cases])
    np.testing.assert_allclose(got, ANSWERS["fractional activitynet-2020"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("protocol", SCRIPTS)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_cases(name, protocol, tmp_path):
    if protocol == "mmaction2" and name == "scores that float32 cannot tell apart":
        pytest.skip("equal scores in float32: the script orders them by chance")
    got = answer(tmp_path, SPECIAL[name], protocol)
    wanted = ANSWERS[f"special {protocol}"][list(SPECIAL).index(name)]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9)
