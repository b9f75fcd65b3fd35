"""Which people detector belongs to a run, and how a data set names it."""

from __future__ import annotations

import pytest

from detection.datasets.folder import DatasetFolder, PeoplePart, SplitPart
from detection.errors import UserError
from detection.people.beside_run import people_beside, store_people, use_command
from detection.people.register import register_boxes

COCO = PeoplePart(weights="coco:mobile_320", score=0.5)


def test_a_name_comes_back_and_a_file_goes_before_it(tmp_path):
    assert people_beside(tmp_path) is None
    store_people(tmp_path, None)
    assert people_beside(tmp_path) is None
    assert use_command(tmp_path).endswith("--people coco")
    store_people(tmp_path, COCO)
    assert people_beside(tmp_path) == "coco:mobile_320"
    assert use_command(tmp_path).endswith(f"--checkpoint {tmp_path}")
    (tmp_path / "people").mkdir()
    assert people_beside(tmp_path) == tmp_path / "people"
    (tmp_path / "people.pt").touch()
    assert people_beside(tmp_path) == tmp_path / "people.pt"


def test_weights_that_are_gone_and_other_contents_are_refused(tmp_path):
    weights = tmp_path / "weights.pt"
    weights.touch()
    store_people(tmp_path, PeoplePart(weights=str(weights)))
    assert people_beside(tmp_path) == weights
    weights.unlink()
    with pytest.raises(UserError, match=r"people\.yaml: names weights that are gone .*--people"):
        people_beside(tmp_path)
    (tmp_path / "people.yaml").write_text("weights: 3\n")
    with pytest.raises(UserError, match=r"people\.yaml:1"):
        people_beside(tmp_path)


@pytest.mark.parametrize(
    "before",
    [
        "name: n\nvideos: v\nsplits:\n  all:\n    annotations: a.csv  # mine\n",
        "name: n\nvideos: v\npeople:\n  weights: old.pt\n  score: 0.2\n"
        "splits:\n  all:\n    annotations: a.csv  # mine\n",
        "name: n\nvideos: v\nsplits: {all: {annotations: a.csv}}  # mine\n"
        "people: {weights: old.pt}",
    ],
)
def test_registered_boxes_bring_their_detector_and_comments_stay(tmp_path, before):
    (tmp_path / "dataset.yaml").write_text(before)
    folder = DatasetFolder.open(tmp_path)
    register_boxes(folder, "all", "people", "people.csv", people=COCO)
    text = (tmp_path / "dataset.yaml").read_text()
    file = DatasetFolder.open(tmp_path).file
    assert "# mine" in text and file.people == COCO
    assert file.splits == {"all": SplitPart(annotations="a.csv", boxes={"people": "people.csv"})}
    register_boxes(folder, "all", "people", "people.csv", people=COCO)
    assert (tmp_path / "dataset.yaml").read_text() == text
    register_boxes(folder, "all", "others", "others.csv")
    assert DatasetFolder.open(tmp_path).file.people == COCO
