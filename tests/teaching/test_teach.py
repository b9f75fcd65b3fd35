"""The loop: label, teach, label what it suggests, use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_labels
import torch

from ava_tools import teach
from detection.checkpoints.file import read_checkpoint
from detection.engine.probe import FOLDS
from detection.errors import UserError
from detection.models.action_detector import ActionDetector
from detection.teaching import session
from detection.teaching.order import suggest_order
from detection.teaching.session import Rows
from detection.teaching.teach import thresholds_of

RED, BLUE = ("be red", "be here"), ("be blue", "be here")


class World:
    def __init__(self, folder: Path) -> None:
        self.root = tiny_labels.make_raw(folder / "raw")
        self.cfg = tiny_labels.write_configuration(folder)
        self.run = folder / "runs" / "raw"

    def teach(self, *arguments: str, cfg: str | None = None) -> int:
        words = ["--dataset", str(self.root), "--cfg", cfg or str(self.cfg), "--quiet"]
        return teach.main([*words, "--out", str(self.run), *arguments])

    def label(self, chosen, name: str = "labels.json", **more) -> Path:
        return tiny_labels.write_labels(self.root / "labels" / name, self.root, chosen, **more)

    def page(self) -> dict:
        """Return the page's data, with the clips by number."""
        text = (self.root / "label" / "review.html").read_text()
        blocks = {}
        for part in text.split('<script type="application/json" id="')[1:]:
            name, _, rest = part.partition('">')
            blocks[name] = json.loads(rest.partition("</script>")[0])
        return blocks


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def clips(monkeypatch) -> list[int]:
    """The clips that any network is given, counted."""
    counted: list[int] = []
    taken = ActionDetector.actor_features

    def counting(self, frames, rois_px):
        counted.append(len(frames))
        return taken(self, frames, rois_px)

    monkeypatch.setattr(ActionDetector, "actor_features", counting)
    return counted


def test_without_labels_the_page_is_written_and_how_to_begin_is_said(world, capsys, clips) -> None:
    assert world.teach() == 0
    said = capsys.readouterr().out
    assert "nothing is labelled yet" in said and "review.html" in said and "be red" in said
    page = world.page()
    assert sorted(page["review-data"]["order"]) == [[v, 1] for v in range(6)]
    assert page["review-data"]["order"] != [[v, 1] for v in range(6)]
    assert not clips and not world.run.exists()  # no network, and no weights, are needed for that


def test_people_who_do_nothing_and_boxes_of_nobody_count_for_the_order(world, monkeypatch) -> None:
    asked = []

    def order(scores, counts, **more):
        asked.append((len(scores), counts.tolist(), more))
        return suggest_order(scores, counts, **more)

    monkeypatch.setattr(session, "suggest_order", order)
    world.label({"train_0": RED, "train_1": BLUE, "train_2": (), "train_3": None})
    assert world.teach("seed=7") == 0
    assert asked == [(2, [1, 1, 2], {"num_none": 2, "num_labelled": 4, "seed": 7})]


def test_the_loop(world, capsys, clips) -> None:
    world.teach()
    key = world.page()["review-data"]["key"]
    world.label({"train_0": RED, "train_1": BLUE, "train_2": RED, "train_3": BLUE})
    before = (world.root / "labels" / "labels.json").read_bytes()
    capsys.readouterr()
    assert world.teach() == 0
    said = capsys.readouterr().out
    assert "4 of 6 people decided" in said and sum(clips) == 12
    assert f"use it: python -m ava_tools.detect_actions VIDEO --checkpoint {world.run}" in said
    assert (world.root / "labels" / "labels.json").read_bytes() == before

    file = read_checkpoint(world.run)
    assert file.classes is not None and file.classes.names == ("be red", "be blue", "be here")
    assert file.classes.exclusive == {"colour": (0, 1)}
    assert file.thresholds is not None and len(file.thresholds) == 3
    assert file.thresholds.examples.tolist() == [4, 4, 8]
    assert "4 folds of 4 videos" in file.thresholds.source

    page = world.page()
    assert page["review-data"]["key"] == key  # picks in the browser survive
    assert {video for video, _ in page["review-data"]["order"][:2]} == {4, 5}
    assert page["clip-0"]["decided"] == [
        {"id": 1, "k": [0, 1], "l": [[0, 2], [0, 2]], "nobody": False}
    ]
    assert page["clip-4"]["decided"] == []
    assert all(scores for scores in page["clip-4"]["tracks"][0]["s"])

    clips.clear()
    assert world.teach() == 0
    assert not clips and "features: 0 computed" in capsys.readouterr().out


def test_red_and_blue_are_told_apart_on_videos_that_were_not_labelled(
    world, monkeypatch, capsys
) -> None:
    def colours(self, frames, rois_px):
        """The mean colour of each box, in place of what a random network sees."""
        features = torch.zeros(len(rois_px), self.head.classes.in_features)
        for row, (clip, *box) in enumerate(rois_px.round().int().tolist()):
            inside = frames[clip, :, :, box[1] : box[3], box[0] : box[2]].float()
            features[row, :3] = inside.mean((1, 2, 3)) / 255
        return features

    monkeypatch.setattr(ActionDetector, "actor_features", colours)
    world.label({"train_0": RED, "train_1": BLUE, "train_2": RED, "train_3": BLUE})
    world.teach()
    page = world.page()
    for video, column in ((4, 0), (5, 1)):
        flat = page[f"clip-{video}"]["tracks"][0]["s"][0]
        scores = dict(zip(flat[::2], flat[1::2], strict=True))
        assert scores[column] > 900 and scores.get(1 - column, 0) < 100
    thresholds = read_checkpoint(world.run).thresholds
    assert thresholds.precision.tolist() == [1, 1, 1] and thresholds.recall.tolist() == [1, 1, 1]


def test_the_same_labels_give_the_same_network_and_the_same_page(world) -> None:
    world.label({"train_0": RED, "train_1": BLUE, "train_2": RED})
    world.teach()
    first = read_checkpoint(world.run).state
    page = (world.root / "label" / "review.html").read_bytes()
    world.teach()
    second = read_checkpoint(world.run).state
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (world.root / "label" / "review.html").read_bytes() == page


def test_classes_without_examples_are_never_found_and_one_example_is_learned(world, capsys) -> None:
    world.label({"train_0": ("be red",), "train_2": (), "train_3": None})
    assert world.teach() == 0
    said = capsys.readouterr().out
    lines = {line.split("  ")[0]: line for line in said.splitlines()}
    assert "no example yet: never found" in lines["be blue"]
    assert "cannot be measured" in lines["be red"] and "thresholds: none" in said
    assert "2 of them no person" in said
    file = read_checkpoint(world.run)
    assert file.thresholds is None
    bias = file.state["head.classes.bias"]
    assert bias[1] < -15 and bias[2] < -15 and bias[0] > -15
    assert not file.state["head.classes.weight"][1].any()
    summary = json.loads((world.run / "teach.json").read_text())
    assert [one["people"] for one in summary["classes"]] == [1, 0, 0]
    assert world.page()["clip-3"]["decided"][0]["nobody"] is True


def test_annotators_who_disagree_are_both_named_and_prefer_decides(
    world, capsys, monkeypatch
) -> None:
    one = world.label({"train_0": RED, "train_1": BLUE, "train_2": RED}, "ann.json")
    two = world.label({"train_1": RED, "train_3": BLUE}, "bob.json", annotator="b2")
    with pytest.raises(UserError, match="2 disagreements between label files") as caught:
        world.teach()
    said = str(caught.value)
    assert f"'be blue', 'be here' in {one}" in said and f"'be red', 'be here' in {two}" in said
    assert "'train_1' at 1.000 s" in said and "--prefer FILE" in said and "\n" not in said
    assert not world.run.exists() or not (world.run / "teach.json").exists()
    assert not (world.root / "label").exists()
    capsys.readouterr()
    for preferred, classes in ((one, [1, 2]), (two, [0, 2])):
        monkeypatch.chdir(preferred.parent)  # however the file is named
        assert world.teach("--prefer", preferred.name) == 0
        assert f"2 disagreements decided by {preferred.name}" in capsys.readouterr().out
        assert world.page()["clip-1"]["decided"][0]["l"] == [classes] * 2
        assert len(world.page()["clip-3"]["decided"]) == 1  # what one alone says stays
    with pytest.raises(UserError, match="other.json: not one of the files that count: .*ann.json"):
        world.teach("--prefer", "other.json")


def test_a_broken_network_is_named(world, monkeypatch, capsys) -> None:
    world.label({"train_0": RED, "train_1": BLUE, "train_2": RED})
    world.teach()
    assert "looks broken" not in capsys.readouterr().out
    weights = torch.load(world.root.parent / "weights.pt", weights_only=True)
    name = next(key for key in weights["model_state"] if key.endswith("running_var"))
    weights["model_state"][name][0] = 0
    torch.save(weights, world.root.parent / "weights.pt")
    fitted = "detection.teaching.session.fit_shown_classes"
    monkeypatch.setattr(
        fitted, lambda x, y, **_: (x.new_zeros(3, x.shape[1]), y.new_full((3,), 80))
    )
    world.teach()
    said = capsys.readouterr().out
    assert said.count("warning: the network looks broken") == 2
    assert name.removesuffix(".running_var") in said and "a logit of 80" in said
    assert len(json.loads((world.run / "teach.json").read_text())["warnings"]) == 2


def test_a_run_that_is_not_of_teaching_is_kept(world) -> None:
    (world.run / "checkpoints").mkdir(parents=True)
    (world.run / "config.yaml").write_text("mine")
    with pytest.raises(UserError, match="another run and is kept"):
        world.teach()
    assert (world.run / "config.yaml").read_text() == "mine"


def test_the_run_finds_actions_in_a_video(world) -> None:
    from tiny_pipeline import SquareDetector

    from detection.pipeline.detector import ActionDetectorPipeline

    world.label({"train_0": RED, "train_1": BLUE, "train_2": RED})
    world.teach()
    pipeline = ActionDetectorPipeline.from_checkpoint(world.run, people=SquareDetector())
    found = list(pipeline.keyframes(world.root / "videos" / "train_4.mp4"))
    assert found


def test_the_source_says_in_how_many_folds_it_was_measured() -> None:
    for videos, folds in ((3, 3), (7, FOLDS)):
        video = np.repeat(np.arange(videos), 2)
        labels = torch.eye(2)[torch.from_numpy(video % 2)]
        rows = Rows(torch.zeros(len(video), 4), labels, video, video, video >= 0, video * 0.0 + 1)
        learned = thresholds_of(labels * 0.6 + 0.2, rows)
        assert learned.source.startswith(f"{folds} folds of {videos} videos")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("video", "an export of another data set"),
        ("boxes", "an export of a page of other boxes"),
        ("cut", "labels.json"),
        ("classes", "labelled with other classes: it has 'be green'"),
    ],
)
def test_exports_of_something_else_are_refused_and_nothing_is_written(world, damage, words) -> None:
    more = {"video": {"names": {"train_0": "other"}}, "boxes": {"shift": 0.001}}.get(damage, {})
    path = world.label({"train_0": RED, "train_1": BLUE}, **more)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    if damage == "classes":
        path.write_text(path.read_text().replace("be red", "be green"))
    with pytest.raises(UserError, match=words) as caught:
        world.teach()
    assert str(path) in str(caught.value)
    assert not (world.root / "label").exists() and not (world.run / "teach.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--watch-folder", "x"], "goes with --watch"),
        (["--watch", "--watch-folder", "/does/not/exist"], "folder not found"),
        (["data.root=x"], "--dataset and --out"),
        (["model.exclusive_actions=true"], "false is required"),
        (
            ["data.val_boxes=a", "evaluation.multiply_person_score=true", "people.relevance=fit"],
            "people.relevance=none is required",
        ),
        (["model.actor_input=tube"], "hang on one box, 'roi' is required"),
        (["model.pretrained=/does/not/exist.pt"], "/does/not/exist.pt"),
        (["--labels", "/does/not/exist.json"], "not found"),
    ],
)
def test_options_that_make_no_sense(world, arguments, words) -> None:
    world.label({"train_0": RED, "train_1": BLUE})
    with pytest.raises(UserError, match=words):
        world.teach(*arguments)


def test_without_a_labelling_task_the_command_that_makes_one_is_named(world) -> None:
    (world.root / "labels.yaml").unlink()
    with pytest.raises(UserError, match="ava_tools.label"):
        world.teach()


def test_labels_that_come_while_it_watches_are_taught(world, monkeypatch, capsys, clips) -> None:
    """New exports: in the folder itself, from downloads, of another page, broken; then Ctrl-C."""
    downloads = world.root.parent / "downloads"
    downloads.mkdir()
    (downloads / "labels.json").write_text("{")
    steps = iter(range(100))

    def key() -> str:
        return world.page()["review-data"]["key"]

    def sleep(_seconds: float) -> None:
        step = next(steps)
        if step == 2:
            world.label({"train_0": RED, "train_1": BLUE}, annotator="a1")
        if step == 5:
            path = world.label({"train_2": RED}, "x.json", annotator="b2", page=key())
            path.rename(downloads / "labels (1).json")
            path = world.label({"train_3": BLUE}, "x.json", annotator="other", page="1" * 20)
            path.rename(downloads / "labels-other.json")
        if step == 12:
            (world.root / "labels" / "broken.json").write_text("{")
        if step == 16:
            (world.root / "labels" / "broken.json").unlink()
        if step == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr("detection.teaching.watch.time.sleep", sleep)
    assert world.teach("--watch", "--watch-folder", str(downloads)) == 0
    said = capsys.readouterr()
    assert "2 of 6 people decided" in said.out and "3 of 6 people decided" in said.out
    copies = sorted(path.name for path in (world.root / "labels").iterdir())
    assert copies == ["b2_2026-01-02T03-04-05Z.json", "labels.json"]
    assert "4 of 6" not in said.out  # the other page's
    assert "broken.json" in said.err and said.err.count("left alone") == 1
    assert sorted(path.name for path in downloads.iterdir()) == [
        "labels (1).json", "labels-other.json", "labels.json",
    ]  # fmt: skip
    assert sum(clips) == 12  # everybody's, once, before the first label came


def test_killed_in_the_middle_it_goes_on_and_the_last_run_stands(world) -> None:
    """Killed for real between two videos: the second start computes the rest alone."""
    world.label({"train_0": RED, "train_1": BLUE})
    program = (
        "import sys, os\n"
        "from detection.teaching.features import FeatureStore\n"
        "add, done = FeatureStore.add, []\n"
        "def killed(self, *a):\n"
        "    if len(done) == 3: os.kill(os.getpid(), 9)\n"
        "    done.append(add(self, *a))\n"
        "FeatureStore.add = killed\n"
        "from ava_tools.teach import main\n"
        "main(sys.argv[1:])\n"
    )
    words = ["--dataset", str(world.root), "--cfg", str(world.cfg), "--out", str(world.run)]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr.decode()
    kept = list((world.root / "features").rglob("*.npz"))
    assert len(kept) == 3 and not (world.run / "checkpoints").exists()
    assert world.teach() == 0
    assert len(list((world.root / "features").rglob("[!.]*.npz"))) == 6
    assert read_checkpoint(world.run).classes is not None


def test_that_every_decided_person_does_an_action_is_said(world, capsys) -> None:
    world.label({"train_0": RED, "train_1": BLUE, "train_2": None})  # None: no person at all
    world.teach()
    assert "every decided person does one" in capsys.readouterr().out
    world.label({"train_0": RED, "train_1": BLUE, "train_2": ()})
    world.teach()
    assert "every decided person" not in capsys.readouterr().out
