"""The first minute: a video and nothing else, on weights that a local server publishes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from misbehaving_server import Page, Server, running_server
from tiny_data import turn
from tiny_pipeline import (
    SquareDetector,
    save_tiny_classifier,
    save_tiny_run,
    use_squares,
    write_squares,
)

from ava_tools import detect_actions
from detection.checkpoints import hub
from detection.checkpoints.hub import DEFAULT_NETWORK, PUBLISHED, Published
from detection.checkpoints.load import fold_pytorchvideo_shortcut
from detection.checkpoints.network_file import kinetics_classes
from detection.checkpoints.weights import to_their_names
from detection.errors import UserError
from detection.models.classifier import build_classifier
from detection.models.x3d import VARIANTS
from detection.people import weights as people_weights
from detection.people.coco import COCO_FILES
from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import PeopleNetworkNumbers, save_people_file
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.networks import KINETICS_NOTE, WHOLE_CLIP_NOTE
from detection.pipeline.options import WHOLE_CLIP_THRESHOLD
from detection.pipeline.scorers import KeyframeClip, SquareScorer
from detection.pipeline.video_results import VideoResults
from detection.transfer.download import TransferRules
from detection.video.reader import VideoReader
from detection.video.writer import VideoWriter

TABLES = ("detections.csv", "tracks.jsonl", "events.jsonl", "label_map.pbtxt", "summary.json")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the published names and shapes, made by a rule, and a second of video."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    network = build_classifier(VARIANTS["s"]).eval()
    with torch.no_grad():  # not 1/400 for each class
        network.head.classes.weight.mul_(200)
    state = network.state_dict()
    torch.save({"model_state": to_their_names(state, "slowfast")}, folder / "x3d_s.pyth")
    folded = to_their_names(fold_pytorchvideo_shortcut(state), "pytorchvideo")
    torch.save({"model_state": folded}, folder / "X3D_S.pyth")
    torch.save({"state_dict": to_their_names(state, "mmaction2")}, folder / "x3d_s_mm.pth")
    people = build_people_network("mobile_320", num_classes=90)
    with torch.no_grad():  # every proposal is a person
        people.roi_heads.box_predictor.cls_score.bias[1] = 20
    torch.save(people.state_dict(), folder / "coco.pth")
    write_squares(folder / "video.mp4", seconds=1)
    save_tiny_classifier(folder / "clips")
    save_tiny_run(folder / "actions")
    return folder


@pytest.fixture
def published(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Server, Path]]:
    """A server under the published names, and a cache of one's own that is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setattr(TransferRules, "__init__", _hasty)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    with running_server() as server:
        for name, file in (("x3d_s.pyth", "x3d_s.pyth"), ("coco.pth", "coco.pth")):
            server.pages[name] = Page((place / file).read_bytes())
        publish(monkeypatch, f"{server.url}/x3d_s.pyth", f"{server.url}/coco.pth")
        yield server, tmp_path / "torch" / "hub" / "checkpoints"


def publish(
    monkeypatch: pytest.MonkeyPatch, network: str, people: str, *, people_hash: str | None = None
) -> None:
    entry = dataclasses.replace(hub.PUBLISHED[DEFAULT_NETWORK], url=network)
    monkeypatch.setitem(PUBLISHED, DEFAULT_NETWORK, entry)
    monkeypatch.setitem(COCO_FILES, "mobile_320", Published(people, "mobile_320", people_hash))


def _hasty(self: TransferRules) -> None:
    for field in dataclasses.fields(TransferRules):
        object.__setattr__(self, field.name, 2 if field.name == "attempts" else 0.01)
    object.__setattr__(self, "timeout_s", 5.0)


def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    use_squares(monkeypatch)


def test_a_video_and_nothing_else(
    published: tuple[Server, Path],
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server, cache = published
    video = str(place / "video.mp4")
    assert detect_actions.main([video, "--max-people", "2"]) == 0
    said = capsys.readouterr().err
    assert f"note: {KINETICS_NOTE}" in said.splitlines()
    assert "2 keyframes, 4 people at them, " in said and " 0 persons" not in said
    for name in ("x3d_s.pyth", "coco.pth"):
        assert f"{server.url}/{name} to {cache / name}" in said
        assert server.ranges_asked(name) == [None]
    out = Path("found/video")
    for name in (*TABLES, "annotated.mp4", "review.html", "run.json"):
        assert (out / name).is_file(), name
    assert not (out / "parts").exists()
    page = (out / "review.html").read_text(encoding="utf-8")
    assert KINETICS_NOTE in page
    tracks = [json.loads(line) for line in (out / "tracks.jsonl").open()]
    assert set(tracks[0]["classes"]) <= set(kinetics_classes().names)
    assert detect_actions.main([video, "--out", "again", "--max-people", "2", "--no-film"]) == 0
    assert len(server.log) == len([1 for verb, *_ in server.log if verb == "GET"]) == 2
    for name in TABLES:
        assert (out / name).read_bytes() == (Path("again") / name).read_bytes()


@pytest.mark.parametrize(
    ("checkpoint", "note", "classes"),
    [
        (DEFAULT_NETWORK, KINETICS_NOTE, 400),
        ("x3d_s.pyth", KINETICS_NOTE, 400),
        ("X3D_S.pyth", KINETICS_NOTE, 400),
        ("x3d_s_mm.pth", KINETICS_NOTE, 400),
        ("clips", WHOLE_CLIP_NOTE, 3),
        ("actions", None, 3),
    ],
)
def test_every_kind_of_checkpoint(
    published: tuple[Server, Path],
    place: Path,
    tmp_path: Path,
    checkpoint: str,
    note: str | None,
    classes: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the command line and from Python: the same people and scores."""
    squares(monkeypatch)
    source = checkpoint if checkpoint in PUBLISHED else str(place / checkpoint)
    people = {} if checkpoint != "actions" else {"people": "coco"}
    arguments = [str(place / "video.mp4"), "--checkpoint", source, "--out", str(tmp_path / "out")]
    arguments += [text for name, value in people.items() for text in (f"--{name}", value)]
    assert detect_actions.main([*arguments, "--no-film", "--no-page", "--quiet"]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert (f"note: {note}" in notes) == (note is not None)
    detector = ActionDetectorPipeline.from_checkpoint(source, **people)
    assert len(detector.networks.label_map) == classes
    assert detector.networks.threshold == (0.5 if note is None else WHOLE_CLIP_THRESHOLD)
    results = detector.analyse(place / "video.mp4")
    assert [len(keyframe) for keyframe in results.keyframes] == [2, 2]
    least = 0.01 if note else 0.0
    rows = sum(int((np.round(k.scores, 6) >= least).sum()) for k in results.keyframes)
    assert len((tmp_path / "out" / "detections.csv").read_text().splitlines()) == rows


def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(
    published: tuple[Server, Path],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, cache = published
    network, people = "http://no-such-host.invalid/x3d_s.pyth", "http://no-such-host.invalid/p.pth"
    publish(monkeypatch, network, people, people_hash="907ea3f9")
    said = refused(place, capsys)
    for part in (network, str(cache / "x3d_s.pyth"), "no hash", "give the same command again"):
        assert part in said
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "x3d_s.pyth").write_bytes((place / "x3d_s.pyth").read_bytes())
    said = refused(place, capsys)
    for part in (people, str(cache / "p.pth"), "begins with 907ea3f9", "same command again"):
        assert part in said
    assert not Path("found").exists()


def test_half_a_file_put_there_by_hand_is_named_and_fetched_once_it_is_deleted(
    published: tuple[Server, Path],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    squares(monkeypatch)
    server, cache = published
    cache.mkdir(parents=True)
    (cache / "x3d_s.pyth").write_bytes((place / "x3d_s.pyth").read_bytes()[:1_000_000])
    said = refused(place, capsys)
    assert str(cache / "x3d_s.pyth") in said and said.endswith("delete it to fetch it again")
    (cache / "x3d_s.pyth").unlink()
    ActionDetectorPipeline.from_checkpoint()
    assert server.ranges_asked("x3d_s.pyth") == [None]


def refused(place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(UserError) as caught:
        detect_actions.main([str(place / "video.mp4"), "--quiet"])
    assert "\n" not in str(caught.value) and capsys.readouterr().err == ""
    return str(caught.value)


def test_classes_are_looked_for_in_the_file_that_names_them(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("classes: {coloured: [be red], still: [be here]}\n")

    def names(*classes: str) -> tuple[str, ...]:
        options = PipelineOptions(gathered_classes=file, classes=classes)
        detector = ActionDetectorPipeline.from_checkpoint(
            place / "clips", people=SquareDetector(), options=options
        )
        return detector.networks.label_map.names

    assert names("still") == ("still",)
    with pytest.raises(UserError, match=r"'be red' is not in .*mine\.yaml; it has: 'coloured'"):
        names("be red")


def test_frames_from_memory_give_what_their_file_gives(place: Path) -> None:
    detector = ActionDetectorPipeline.from_checkpoint(place / "clips", people=SquareDetector())
    of_file = detector.analyse(place / "video.mp4")
    with VideoReader(place / "video.mp4") as reader:
        times_s = reader.decoded_times_s()
        frames = reader.read(times_s).frames.permute(0, 2, 3, 1).numpy()
    of_frames = detector.analyse(zip(times_s, frames, strict=True))
    assert len(of_file.keyframes) == len(of_frames.keyframes) == 2
    for first, second in zip(of_file.keyframes, of_frames.keyframes, strict=True):
        assert np.array_equal(first.tracks, second.tracks) and len(first) == 2
        # Frames are scaled by another hand: an edge moves by a pixel or two of 64.
        assert np.allclose(first.boxes_01, second.boxes_01, atol=0.04)
        assert np.allclose(second.scores.sum(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "turned", "shown", "frames"),
    [((96, 72), 0, (96, 72), 1), ((96, 72), 90, (72, 96), 10), ((90, 66), 270, (66, 90), 10)],
)
def test_odd_videos_of_followed_people(
    place: Path,
    tmp_path: Path,
    size: tuple[int, int],
    turned: int,
    shown: tuple[int, int],
    frames: int,
) -> None:
    """One frame, upright, and smaller than the squares that are cut from it."""
    video = tmp_path / "odd.mp4"
    with VideoWriter(video, width=size[0], height=size[1], fps=10) as writer:
        for _ in range(frames):
            frame = np.full((size[1], size[0], 3), 120, np.uint8)
            frame[10:34, 20:36] = (230, 20, 20)
            writer.write(frame)
    if turned:
        turn(video, turned)
    detector = ActionDetectorPipeline.from_checkpoint(place / "clips", people=SquareDetector())
    list(detector.run(video, out=tmp_path / "out"))
    results = VideoResults.open(tmp_path / "out")
    assert results.keyframes[0].size_px == shown and len(results.keyframes[0]) == 1
    assert (tmp_path / "out" / "annotated.mp4").is_file()
    assert results.keyframes[0].scores.sum() == pytest.approx(1, abs=0.03), "a softmax"


def test_a_page_of_400_classes_holds_the_scores_that_say_something(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SquareScorer, "_score", _one_of_400)
    detector = ActionDetectorPipeline.from_checkpoint(
        place / "x3d_s.pyth", people=SquareDetector(), options=PipelineOptions(smoothing_s=0)
    )
    list(detector.run(place / "video.mp4", out=tmp_path / "out", film=False))
    tracks = [json.loads(line) for line in (tmp_path / "out" / "tracks.jsonl").open()]
    name = kinetics_classes().names[5]
    assert [track["classes"] for track in tracks] == [[name]] * 2
    page = (tmp_path / "out" / "review.html").read_text(encoding="utf-8")
    assert page.count("[5,800]") == 4, "column and thousandths, for each person and keyframe"


def _one_of_400(self: SquareScorer, keyframe: KeyframeClip) -> np.ndarray:
    scores = np.full((len(keyframe.boxes_01), 400), 0.2 / 399, np.float32)
    scores[:, 5] = 0.8
    return scores


def test_the_help_says_the_defaults_that_are_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        detect_actions.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"fetched once (default: {DEFAULT_NETWORK})" in said
    assert f"(default 0.5; {WHOLE_CLIP_THRESHOLD:g} for networks of whole clips)" in said


@pytest.mark.parametrize(
    ("best", "asked", "expected"),
    [(0.62, None, 0.62), (None, None, 0.5), (0.62, "0.3", 0.3), (None, "0.3", 0.3)],
)
def test_where_the_person_threshold_comes_from(
    place: Path,
    tmp_path: Path,
    best: float | None,
    asked: str | None,
    expected: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The option, else the people's file, else 0.5: the run took no detected boxes."""
    torch.manual_seed(0)
    network = build_people_network("small", num_classes=1, short_side_px=64, long_side_px=96)
    numbers = PeopleNetworkNumbers("small", 64, 96)
    save_people_file(tmp_path / "people.pt", network, numbers=numbers, classes=["person"])
    if best is not None:
        people_weights.write_best_score(tmp_path / "people.pt", best)
    said = []
    monkeypatch.setattr(
        "detection.pipeline.summary.summary_lines",
        lambda name, report, networks, *, written_to: said.append(networks.person_score) or [],
    )
    arguments = [str(place / "video.mp4"), "--checkpoint", str(place / "actions"), "--quiet"]
    arguments += ["--people", str(tmp_path / "people.pt"), "--out", str(tmp_path / "out")]
    arguments += [] if asked is None else ["--person-score", asked]
    assert detect_actions.main([*arguments, "--no-film", "--no-page"]) == 0
    assert said == [expected]


class Crowd(SquareDetector):
    """Two squares and a corner of which it is not sure."""

    def _find(self, frame):
        found = super()._find(frame)
        boxes = np.concatenate([found.xyxy_01, [[0.8, 0.0, 0.99, 0.2]]])
        return type(found)(boxes, np.append(found.score, 0.3))


def test_the_summary_counts_who_became_a_tracked_person(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("detection.people.weights.load_people_detector", lambda *_, **__: Crowd())
    arguments = [str(place / "video.mp4"), "--checkpoint", str(place / "clips"), "--quiet"]
    arguments += ["--no-film", "--no-page"]

    def said(*more: str) -> str:
        out = str(tmp_path / "_".join(more))
        assert detect_actions.main([*arguments, *more, "--out", out]) == 0
        return capsys.readouterr().err

    assert "2 keyframes, 6 people at them, 2 persons tracked (2 below the person threshold of " in (
        said("--person-score", "0.5")
    )
    assert "6 people at them, 3 persons tracked, " in said("--person-score", "0.2")
    assert "2 people at them, 1 person tracked, " in said("--max-people", "1")


def test_unfinished_work_of_another_label_map_is_refused_by_its_name(
    place: Path, tmp_path: Path
) -> None:
    def run(name: str, text: str, *, stop: bool = False) -> None:
        (tmp_path / name).write_text(text)
        detector = ActionDetectorPipeline.from_checkpoint(
            place / "clips",
            people=SquareDetector(),
            options=PipelineOptions(gathered_classes=tmp_path / name),
        )
        how = {"out": tmp_path / "out", "film": False, "page": False}
        list(detector.run(place / "video.mp4", should_stop=lambda: stop, **how))

    run("mine.yaml", "classes: {coloured: [be red]}\n", stop=True)
    with pytest.raises(UserError, match=r"gathered classes .*mine\.yaml there, .*other\.yaml here"):
        run("other.yaml", "classes: {coloured: [be here]}\n")
    with pytest.raises(UserError, match=r"gathered classes .*mine\.yaml has changed since"):
        run("mine.yaml", "classes: {coloured: [be here]}\n")
    run("mine.yaml", "classes: {coloured: [be red]}\n")
