"""`--relevance`: scores of people are weighed where the run and the detector allow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_people import frame, save_tiny_people
from tiny_pipeline import SquareDetector, save_tiny_run, write_squares

from ava_tools import detect_actions
from detection.checkpoints.relevance_part import plain_relevance
from detection.errors import UserError
from detection.people.box_origin import origin_of_detector
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.clip_buffer import DetectionFrame, Group
from detection.pipeline.relevant_people import weigh_people
from detection.pipeline.timing import StageClock
from detection.relevance import FEATURES, BoxOrigin, Relevance
from detection.structures import ActorBoxes

WEIGHTS = np.zeros(len(FEATURES))
WEIGHTS[FEATURES.index("log_area")] = 2.0
WEIGHTS[FEATURES.index("log_people")] = -0.5


def fitted(origin: BoxOrigin, least_score: float = 0.05) -> Relevance:
    return Relevance(FEATURES, WEIGHTS, 5.0, origin, least_score, 90, 30, 2)


def give_relevance(run: Path, relevance: Relevance) -> Path:
    path = save_tiny_run(run) / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    torch.save({**content, "relevance": plain_relevance(relevance)}, path)
    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relevant")
    people = save_tiny_people(folder / "people.pt", best_score=0.3)
    origin = origin_of_detector(people, torch.device("cpu"))
    give_relevance(folder / "run", fitted(origin))
    give_relevance(folder / "named", fitted(BoxOrigin("yolox")))
    save_tiny_run(folder / "plain")
    write_squares(folder / "walk.mp4", seconds=2)
    return folder


def opened(place: Path, run: str = "run", people: object = None, **options: object):  # type: ignore[no-untyped-def]
    return ActionDetectorPipeline.from_checkpoint(
        place / run,
        people=place / "people.pt" if people is None else people,  # type: ignore[arg-type]
        options=PipelineOptions(**options),  # type: ignore[arg-type]
        device="cpu",
    )


def people_in(pipeline: ActionDetectorPipeline) -> ActorBoxes:
    images = frame(64, 96).permute(1, 2, 0).numpy()
    group = Group(0, [DetectionFrame(0, 0.0, images, None)])  # type: ignore[call-arg]
    return pipeline.networks.detect_people(group, StageClock())[0]


def test_off_unless_asked_for(place: Path) -> None:
    with_it, without = opened(place), opened(place, "plain")
    assert with_it.networks.relevance is None
    first, second = people_in(with_it), people_in(without)
    assert len(first) > 3
    np.testing.assert_array_equal(first.score, second.score)
    np.testing.assert_array_equal(first.xyxy_01, second.xyxy_01)


def test_scores_are_weighed_before_anything_compares_them(place: Path) -> None:
    pipeline = opened(place, relevance=True, person_score=0.3, max_people=999)
    raw = opened(place, person_score=0.02, max_people=999).networks
    found = people_in(pipeline)
    # What the detector finds from the least score on, and not what the threshold leaves of it.
    (every,) = raw.people.detect([frame(64, 96)])
    company = every.select(every.score >= 0.05)
    expected = fitted(BoxOrigin("x")).weigh(company)
    kept = expected.select(expected.score >= pipeline.networks.keep_score)
    assert 0 < len(kept) == len(found)
    assert pipeline.networks.people.network.roi_heads.score_thresh == 0.05  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.score, np.sort(kept.score)[::-1], rtol=1e-5)
    (note,) = [line for line in pipeline.networks.notes if "multiplied by relevance" in line]
    assert "90 boxes of 2 videos" in note


def test_people_below_the_least_score_are_no_company() -> None:
    relevance = fitted(BoxOrigin("x"), least_score=0.3)
    boxes = ActorBoxes([(0, 0, 0.2, 0.2), (0.3, 0.3, 0.9, 0.9), (0, 0, 1, 1)], [0.9, 0.3, 0.29])
    weighed = weigh_people(boxes, relevance)
    assert len(weighed) == 2 and (np.diff(weighed.score) <= 0).all()
    expected = relevance.weigh(boxes.select(np.array([0, 1])))
    np.testing.assert_allclose(sorted(weighed.score), sorted(expected.score), rtol=1e-6)
    assert len(weigh_people(ActorBoxes.empty(), relevance)) == 0


@pytest.mark.parametrize(
    ("run", "people", "said"),
    [
        ("plain", "people.pt", "holds no relevance"),
        ("run", "other.pt", "another detector"),
        ("named", "people.pt", "cannot be compared"),
        ("run", None, "cannot be compared"),
        ("named", None, "cannot be compared"),  # though its name is the same
    ],
)
def test_without_its_own_detector_it_is_refused(
    place: Path, run: str, people: str | None, said: str
) -> None:
    if people == "other.pt":
        save_tiny_people(place / people, seed=9)
    mine = SquareDetector()
    mine.name = "yolox"
    with pytest.raises(UserError, match=said) as refused:
        opened(place, run, mine if people is None else place / people, relevance=True)
    assert "\n" not in str(refused.value)


def test_the_command_asks_for_it(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [str(place / "walk.mp4"), "--people", str(place / "people.pt"), "--no-film"]
    line += ["--no-page", "--device", "cpu", "--quiet", "--relevance"]
    run = ["--checkpoint", str(place / "run"), "--out", str(tmp_path / "out")]
    assert detect_actions.main([*line, *run]) == 0
    assert "scores of people are multiplied by relevance" in capsys.readouterr().err
    plain = ["--checkpoint", str(place / "plain"), "--out", str(tmp_path / "plain")]
    with pytest.raises(UserError, match="holds no relevance"):
        detect_actions.main([*line, *plain])
    # Results with and without it are not each other's.
    with pytest.raises(UserError, match="relevance"):
        detect_actions.main([*line[:-1], *run])
