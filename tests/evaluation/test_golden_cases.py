"""Equal to each real script, class by class, on 1,000 random cases and on the special ones.

How `golden_ap.npz` was made: docs/evaluation.md.
"""

from __future__ import annotations

from pathlib import Path

import golden_cases
import numpy as np
import pytest

from detection.datasets.ava_csv import (
    AvaRows,
    read_detections,
    read_ground_truth,
    read_keyframe_list,
)
from detection.datasets.label_map import read_label_map
from detection.evaluation.frame_map import frame_map
from detection.evaluation.protocols import PROTOCOLS
from detection.structures import Keyframe, LabelMap

ANSWERS = np.load(Path(__file__).with_name("golden_ap.npz"))
SCRIPTS = [name for name in PROTOCOLS if name != "frame-map"]
SPECIAL = golden_cases.special_cases()


Files = tuple[AvaRows, AvaRows, LabelMap, frozenset[Keyframe]]


def read(folder: Path, case: golden_cases.Case) -> Files:
    """Write the files of a case and read them."""
    excluded = case.exclusions
    files = {"gt.csv": case.ground_truth, "det.csv": case.detections, "map.pbtxt": case.label_map}
    for name, text in files.items():
        (folder / name).write_text(text)
    if excluded is not None:
        (folder / "excluded.csv").write_text(excluded)
    return (
        read_ground_truth(folder / "gt.csv"),
        read_detections(folder / "det.csv"),
        read_label_map(folder / "map.pbtxt"),
        frozenset() if excluded is None else read_keyframe_list(folder / "excluded.csv"),
    )


def answer(files: Files, protocol: str) -> np.ndarray:
    """Return AP per class, then the mean."""
    truth, found, label_map, exclusions = files
    if protocol == "activitynet-2020":
        exclusions = frozenset()  # the 2020 script has no exclusion file
    result = frame_map(truth, found, label_map, exclusions=exclusions, protocol=protocol)
    return np.array([*result.per_class.values(), result.mean_ap])


@pytest.fixture(scope="module")
def random_files(tmp_path_factory) -> list[Files]:
    folder = tmp_path_factory.mktemp("random")
    return [read(folder, case) for case in golden_cases.random_cases()]


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
def test_random_cases(protocol, random_files):
    got = np.array([answer(files, protocol) for files in random_files])
    expected = ANSWERS[f"random {protocol}"]
    assert expected.shape == (1000, 6)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


def test_fractional_times_and_empty_keyframes(tmp_path):
    cases = golden_cases.fractional_cases()
    got = np.array([answer(read(tmp_path, case), "activitynet-2020") for case in cases])
    np.testing.assert_allclose(got, ANSWERS["fractional activitynet-2020"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("protocol", SCRIPTS)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_cases(name, protocol, tmp_path):
    if protocol == "mmaction2" and name == "scores that float32 cannot tell apart":
        pytest.skip("equal scores in float32: the script orders them by chance")
    got = answer(read(tmp_path, SPECIAL[name]), protocol)
    expected = ANSWERS[f"special {protocol}"][list(SPECIAL).index(name)]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


@pytest.mark.real_data
@pytest.mark.parametrize("protocol", SCRIPTS)
def test_real_labels_against_jittered_copies(protocol, real_data, tmp_path):
    truth = (real_data / "ava" / "ava_sub6_val_v2.2.csv").read_text()
    label_map = real_data / "ava" / "ava_action_list_v2.2_for_activitynet_2019.pbtxt"
    (tmp_path / "det.csv").write_text(golden_cases.jittered(truth))
    files = (
        read_ground_truth(real_data / "ava" / "ava_sub6_val_v2.2.csv"),
        read_detections(tmp_path / "det.csv"),
        read_label_map(label_map),
        frozenset(),
    )
    np.testing.assert_allclose(
        answer(files, protocol), ANSWERS[f"real {protocol}"], rtol=0, atol=1e-9
    )


@pytest.mark.parametrize(
    ("name", "means"),
    [
        (
            "ten confident boxes on frames without ground truth",
            {"activitynet-2018": 1 / 6, "activitynet-2019": 1 / 6, "activitynet-2020": 1.0},
        ),
        ("one of two classes never predicted", {"activitynet-2018": 0.5, "mmaction2": 1.0}),
        ("listed from the worst score up", {"activitynet-2018": 0.5, "pyslowfast": 1 / 6}),
        ("the fiftieth row of a keyframe", {"activitynet-2018": 1.0, "activitynet-2019": 0.5}),
    ],
)
def test_examples_that_tell_the_protocols_apart(name, means, tmp_path):
    files = read(tmp_path, SPECIAL[name])
    got = {protocol: answer(files, protocol)[-1] for protocol in means}
    assert got == pytest.approx(means)
