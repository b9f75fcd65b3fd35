"""Videos already cut around one subject: the whole frame is the box, and no detector is needed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_pipeline import LABELS, save_tiny_classifier, save_tiny_run, write_squares

from ava_tools import convert, detect_actions, inspect_model
from detection.checkpoints.file import read_model_file
from detection.checkpoints.load import load_network
from detection.checkpoints.weights import to_their_names
from detection.datasets.transforms import EvalTransform
from detection.errors import UserError
from detection.models.classifier import HeadDescription, build_classifier
from detection.models.x3d import VARIANTS
from detection.people.whole_frame import WHOLE_FRAME, WholeFrame
from detection.pipeline import ActionDetectorPipeline, PipelineOptions

PLAIN = ["--no-film", "--no-page", "--quiet", "--runtime", "torch", "--whole-frame"]


def test_each_frame_has_one_box_and_no_frame_none():
    assert WholeFrame().detect([]) == []
    images = [torch.zeros(3, 4, 5, dtype=torch.uint8), torch.zeros(3, 90, 7, dtype=torch.uint8)]
    for boxes in WholeFrame().detect(images):
        assert boxes.xyxy_01.tolist() == [[0, 0, 1, 1]] and boxes.score.tolist() == [1]
    with pytest.raises(ValueError, match="uint8"):
        WholeFrame().detect([torch.zeros(3, 4, 5)])


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("video") / "scene.mp4", seconds=2.0)


def test_a_run_of_actions_needs_no_detector(video, tmp_path, capsys):
    run = save_tiny_run(tmp_path / "run")
    out = tmp_path / "found"
    lowest = ["--threshold", "0.001"]
    code = detect_actions.main(
        [str(video), "--checkpoint", str(run), "--out", str(out), *PLAIN, *lowest]
    )
    assert code == 0 and "the whole frame is taken" in capsys.readouterr().err
    keyframes = [json.loads(line) for line in (out / "tracks.jsonl").read_text().splitlines()]
    rows = (out / "detections.csv").read_text().splitlines()
    assert len(rows) == 4 * len(LABELS)
    assert {tuple(map(float, row.split(",")[2:6])) for row in rows} == {(0.0, 0.0, 1.0, 1.0)}
    assert keyframes


def test_the_keyframes_are_one_track_with_a_person_score_of_1(video, tmp_path):
    run = save_tiny_run(tmp_path / "run")
    detector = ActionDetectorPipeline.from_checkpoint(run, people=WHOLE_FRAME)
    found = detector.analyse(video)
    assert len(found.keyframes) == 4
    for keyframe in found.keyframes:
        assert len(keyframe.tracks) == 1
        np.testing.assert_array_equal(keyframe.boxes_01, [[0, 0, 1, 1]])
        np.testing.assert_allclose(keyframe.person_scores, [1])
    assert len({int(keyframe.tracks[0]) for keyframe in found.keyframes}) == 1


def test_a_network_of_whole_clips_sees_the_whole_frame(video, tmp_path):
    run = save_tiny_classifier(tmp_path / "run")
    detector = ActionDetectorPipeline.from_checkpoint(
        run, people=WHOLE_FRAME, options=PipelineOptions(smoothing_s=0.0)
    )
    scorer = detector.networks.actions
    assert scorer.whole_frames and detector.networks.short_side_px == 48
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 256, (60, 90, 3)).astype(np.uint8) for _ in range(4)]
    from detection.pipeline.scorers import KeyframeClip

    whole = np.tile(np.array([0, 0, 1, 1.0]), (1, 4, 1))
    (found,) = scorer.score([KeyframeClip(0.0, frames, whole[:, 0].astype(np.float32), whole)])
    transform = EvalTransform(short_side=48)
    images = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    params = transform.make_params(np.random.default_rng(0))
    clip = transform.apply(images, np.zeros((0, 4), np.float32), params).frames
    assert clip.shape[-2:] == (48, 72)  # nothing of its sides is cut off
    with torch.no_grad():
        expected = load_network(read_model_file(run)).probabilities(clip[None])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    results = detector.analyse(video)
    assert len(results.keyframes) == 4
    assert "each person is shown to it alone" not in " ".join(detector.networks.notes)


@pytest.mark.parametrize("option", [["--people", "coco"], ["--relevance"]])
def test_options_of_detected_people_are_refused(option, video, tmp_path):
    with pytest.raises(UserError, match=f"{option[0]} does not go with it"):
        detect_actions.main([str(video), *PLAIN, *option])


def test_results_of_boxes_and_of_whole_frames_are_two(video, tmp_path):
    run = save_tiny_run(tmp_path / "run")
    out = ["--out", str(tmp_path / "found"), "--checkpoint", str(run)]
    detect_actions.main([str(video), *out, *PLAIN])
    from tiny_people import save_tiny_people

    people = save_tiny_people(tmp_path / "people.pt")
    others = [option for option in PLAIN if option != "--whole-frame"]
    with pytest.raises(UserError, match="people"):
        detect_actions.main([str(video), *out, *others, "--people", str(people)])


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Another project's X2D of three classes of its own, and the list of them."""
    torch.manual_seed(1)
    network = build_classifier(VARIANTS["x2d"], HeadDescription(3, hidden=24))
    folder = tmp_path_factory.mktemp("theirs")
    torch.save(
        {"state_dict": to_their_names(network.state_dict(), "pytorchvideo")}, folder / "a.ckpt"
    )
    (folder / "classes.txt").write_text("1: graze\n0: run\n2: head up\n")
    return folder


def test_anothers_classes_are_named_by_a_list(theirs, video, tmp_path, capsys):
    given = ["--checkpoint", str(theirs / "a.ckpt"), "--class-list", str(theirs / "classes.txt")]
    out = tmp_path / "found"
    lowest = ["--threshold", "0.01", "--no-smoothing"]
    assert detect_actions.main([str(video), *given, *PLAIN, *lowest, "--out", str(out)]) == 0
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert events and {event["action"] for event in events} <= {"run", "graze", "head up"}
    own = tmp_path / "own.pt"
    assert convert.main([*given, "--to", "own", "--out", str(own)]) == 0
    assert read_model_file(own).classes.names == ("run", "graze", "head up")
    capsys.readouterr()
    assert inspect_model.main([*given, "--no-timing"]) == 0
    assert "3 classes: run, graze, head up" in capsys.readouterr().out


def test_a_list_of_another_length_is_refused(theirs, video, tmp_path):
    (tmp_path / "two.txt").write_text("run\ngraze\n")
    given = ["--checkpoint", str(theirs / "a.ckpt"), "--class-list", str(tmp_path / "two.txt")]
    for command in (
        lambda: detect_actions.main([str(video), *given, *PLAIN, "--out", str(tmp_path / "f")]),
        lambda: convert.main([*given, "--to", "own", "--out", str(tmp_path / "o.pt")]),
        lambda: inspect_model.main([*given, "--no-timing"]),
    ):
        with pytest.raises(UserError, match="2 classes, the network 3"):
            command()
    without = ["--checkpoint", str(theirs / "a.ckpt")]
    with pytest.raises(UserError, match="--class-list FILE"):
        detect_actions.main([str(video), *without, *PLAIN, "--out", str(tmp_path / "f")])
