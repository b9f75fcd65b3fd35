"""Labelling, teaching and merging on a data set of extracted frames."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_data
import tiny_labels

from ava_tools import import_dataset, label, teach
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFolder
from detection.datasets.label_map import write_label_map
from detection.errors import UserError

RED, BLUE = ("be red", "be here"), ("be blue", "be here")


def test_label_teach_and_merge(tmp_path: Path, capsys) -> None:
    root = tiny_labels.make_raw(tmp_path / "raw", videos=3)
    tiny_labels.turn_into_frames(root)
    (root / "annotations" / "label_map.pbtxt").unlink()
    for split in ("train", "val"):
        (root / "annotations" / f"{split}.csv").write_text("")
    assert label.main(["--dataset", str(root), "--quiet"]) == 0
    played = [path for path in (root / "label" / "videos").iterdir() if path.suffix == ".mp4"]
    assert len(played) == 3

    chosen = {"train_0": RED, "train_1": BLUE, "train_2": RED}
    exported = tiny_labels.write_labels(root / "labels" / "labels.json", root, chosen)
    words = ["--dataset", str(root), "--cfg", str(tiny_labels.write_configuration(tmp_path))]
    words += ["--out", str(tmp_path / "run"), "--quiet"]
    for computed in (6, 0):
        assert teach.main(words) == 0
        said = capsys.readouterr().out
        assert "3 of 3 people decided" in said and f"features: {computed} computed" in said

    words = ["corrections", "--dataset", str(root), "--corrections", str(exported)]
    words += ["--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="raw: holds extracted frames.*label_map.pbtxt"):
        import_dataset.main(words)
    assert not (tmp_path / "out").exists()
    write_label_map(root / "annotations" / "label_map.pbtxt", tiny_data.LABELS)
    with pytest.raises(UserError, match="class 'be "):  # the page's ids were other ones
        import_dataset.main([*words, "--split", "train"])
    tiny_labels.write_labels(exported, root, chosen)
    assert import_dataset.main([*words, "--split", "train"]) == 0
    rows = read_ground_truth(DatasetFolder.open(tmp_path / "out").split("train").annotations)
    assert len(rows) == 12 and len(list((tmp_path / "out" / "frames").rglob("*.jpg"))) == 4 * 30
