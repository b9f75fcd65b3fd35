"""What a run's results are known by: every option and every file, each of them alone.

One table names another value for every entry of the key. A new option or entry without a row in it
fails here, and so does an entry that is left out of the key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil

import pytest
import torch
from tiny_pipeline import SquareDetector, save_tiny_run, write_squares

from detection.errors import UserError
from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import PeopleNetworkNumbers, save_people_file
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.segments import RESULT_NAMES

SAID = "events.jsonl"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decisive")
    save_tiny_run(folder / "run")
    write_people(folder / "people.pt", seed=0)
    write_squares(folder / "monday" / "cam1.mp4", seconds=3)
    write_squares(folder / "tuesday" / "cam1.mp4", seconds=3, speed=9)
    return folder


def write_people(path, *, seed):
    torch.manual_seed(seed)
    network = build_people_network("small", num_classes=1, short_side_px=64)
    save_people_file(
        path, network, numbers=PeopleNetworkNumbers("small", 64, 128), classes=["person"]
    )


def look(place, out, *, video=None, run=None, people=None, options=None, half=False, **how):
    """Run one video into `out`, looking at a second of it only."""
    detector = ActionDetectorPipeline.from_checkpoint(
        run or place / "run",
        people=people or SquareDetector(),
        options=PipelineOptions(**{"workers": 1, **(options or {})}),
    )
    if half:  # a GPU is needed to compute so; what is asked here is whether it is noticed
        detector.networks = dataclasses.replace(detector.networks, half_precision=True)
    how = {"film": False, "page": False, "end_s": 1.0, **how}
    events = list(detector.run(video or place / "monday" / "cam1.mp4", out=out, **how))
    return detector, events


class OtherDetector(SquareDetector):
    name = "another detector"


# For every entry of the key: what else to ask for, so that this entry differs.
OTHER_OPTIONS = {
    "keyframe_interval_s": {"options": {"keyframe_interval_s": 0.25}},
    "people_per_keyframe": {"options": {"people_per_keyframe": 2}},
    "batch_size": {"options": {"batch_size": 4}},
    "workers": {"options": {"workers": 2}},
    "smoothing_s": {"options": {"smoothing_s": 0.0}},
    "fill_misses": {"options": {"fill_misses": "none"}},
    "multiply_person_score": {"options": {"multiply_person_score": True}},
    "threshold": {"options": {"threshold": 0.25}},
    "class_thresholds": {"options": {"class_thresholds": {"be red": 0.125}}},
    "off_share": {"options": {"off_share": 0.25}},
    "classes": {"options": {"classes": ("be red",)}},
    "top_k": {"options": {"top_k": 2}},
    "person_score": {"options": {"person_score": 0.25}},
    "keep_share": {"options": {"keep_share": 0.25}},
    "max_gap_s": {"options": {"max_gap_s": 1.25}},
    "max_people": {"options": {"max_people": 7}},
    "thresholds": {"options": {"threshold": 0.25}},
    "video_id": {"video_id": "another"},
    "live": {"live": True},
    "start_s": {"start_s": 0.5},
    "end_s": {"end_s": 1.25},
    "film": {"film": True},
    "page": {"page": True},
    "half_precision": {"half": True},
    "people": {"people": OtherDetector()},
    "mine": {"identity": {"mine": "2"}},
}


def test_every_option_has_a_row_in_the_table_and_an_entry_in_the_key(place, tmp_path):
    look(place, tmp_path / "out", identity={"mine": "1"})
    key = json.loads((tmp_path / "out" / "run.json").read_text())
    assert set(key["options"]) == set(OTHER_OPTIONS)
    fields = {field.name for field in dataclasses.fields(PipelineOptions)}
    # gathered_classes and class_list are inputs; relevance is an entry where it is asked for.
    assert fields - {"gathered_classes", "class_list", "relevance"} <= set(key["options"])
    assert set(key["inputs"]) == {"video", "checkpoint", "people"}


@pytest.mark.parametrize("name", sorted(OTHER_OPTIONS))
@pytest.mark.parametrize("complete", [True, False])
def test_each_option_alone_tells_the_results_apart(place, tmp_path, name, complete):
    """The message names it: an entry that is left out is not hidden by another that differs."""
    look(place, tmp_path / "out", identity={"mine": "1"})
    set_unfinished(tmp_path / "out", not complete)
    said = (tmp_path / "out" / SAID).read_bytes()
    how = {"identity": {"mine": "1"}, **OTHER_OPTIONS[name]}
    with pytest.raises(UserError, match=rf"[(;] ?{name}(?= |;|\))") as caught:
        look(place, tmp_path / "out", **how)
    assert "--overwrite" in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / "out" / SAID).read_bytes() == said


@pytest.mark.parametrize("name", ["video", "checkpoint", "people"])
@pytest.mark.parametrize("entry", ["bytes", "modified_ns", "sha256", "name"])
def test_each_entry_of_an_input_alone_tells_it_from_another(place, tmp_path, name, entry):
    people = place / "people.pt" if entry != "name" else None
    look(place, tmp_path / "out", people=people)
    path = tmp_path / "out" / "run.json"
    key = json.loads(path.read_text())
    content = key["inputs"][name]["content"]
    if entry not in content:
        pytest.skip("this input has no such entry")
    content[entry] = 17 if isinstance(content[entry], int) else "another"
    path.write_text(json.dumps(key))
    with pytest.raises(UserError, match=f"the {name} .* has changed since"):
        look(place, tmp_path / "out", people=people)


def set_unfinished(out, unfinished):
    path = out / "run.json"
    key = json.loads(path.read_text())
    path.write_text(json.dumps({**key, "complete": not unfinished}))


def test_mondays_results_are_not_tuesdays(place, tmp_path):
    monday, tuesday = (place / day / "cam1.mp4" for day in ("monday", "tuesday"))
    out = tmp_path / "found"
    look(place, out, video=monday, film=True)
    with pytest.raises(UserError, match=r"of other files \(the video .*monday.*tuesday.*\)"):
        look(place, out, video=tuesday, film=True)
    first = {name: (out / name).read_bytes() for name in RESULT_NAMES if (out / name).exists()}
    assert "annotated.mp4" in first
    look(place, out, video=tuesday, overwrite=True)
    assert not (out / "annotated.mp4").exists(), "monday's, beside tuesday's tables"
    assert (out / "tracks.jsonl").read_bytes() != first["tracks.jsonl"]


def test_a_moved_file_is_the_same_and_a_replaced_one_is_not(place, tmp_path):
    video = tmp_path / "here" / "cam1.mp4"
    video.parent.mkdir()
    shutil.copyfile(place / "monday" / "cam1.mp4", video)
    look(place, tmp_path / "out", video=video)
    (tmp_path / "there").mkdir()
    moved = video.rename(tmp_path / "there" / "cam1.mp4")
    assert look(place, tmp_path / "out", video=moved)[0].report.already_complete
    when = moved.stat()
    shutil.copyfile(place / "tuesday" / "cam1.mp4", moved)
    os.utime(moved, ns=(when.st_atime_ns, when.st_mtime_ns))
    with pytest.raises(UserError, match="there, .* here|has changed since"):
        look(place, tmp_path / "out", video=moved)


def test_a_video_replaced_between_a_kill_and_the_next_try_is_noticed(place, tmp_path):
    class Killed(SquareDetector):
        def detect(self, images):
            if self.frames > 14:
                raise KeyboardInterrupt
            return super().detect(images)

    video = write_squares(tmp_path / "cam.mp4", seconds=12)
    with pytest.raises(KeyboardInterrupt):
        look(place, tmp_path / "out", video=video, people=Killed(), end_s=12)
    assert list((tmp_path / "out" / "parts").glob("*.npz"))
    write_squares(video, seconds=12, speed=9)
    with pytest.raises(UserError, match="the video .* has changed since"):
        look(place, tmp_path / "out", video=video, end_s=12)
    look(place, tmp_path / "out", video=video, end_s=12, overwrite=True)
    look(place, tmp_path / "whole", video=video, end_s=12)
    for name in ("tracks.jsonl", "detections.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_weights_behind_a_path_that_stays_the_same(place, tmp_path):
    run, people = tmp_path / "run", tmp_path / "people.pt"
    shutil.copytree(place / "run", run)
    shutil.copyfile(place / "people.pt", people)
    how = {"run": run, "people": people}
    look(place, tmp_path / "out", **how)
    assert look(place, tmp_path / "out", **how)[0].report.already_complete
    write_people(people, seed=1)
    with pytest.raises(UserError, match="the people .* has changed since"):
        look(place, tmp_path / "out", **how)
    shutil.copyfile(place / "people.pt", people)
    save_tiny_run(run, spread=5.0)
    with pytest.raises(UserError, match="the checkpoint .* has changed since"):
        look(place, tmp_path / "out", **how)
    shutil.copyfile(place / "run" / "checkpoints" / "last.pt", run / "checkpoints" / "last.pt")
    assert look(place, tmp_path / "out", **how)[0].report.already_complete


def test_results_of_before_this_was_noted_are_refused_in_one_line(place, tmp_path):
    look(place, tmp_path / "out")
    path = tmp_path / "out" / "run.json"
    key = json.loads(path.read_text())
    del key["inputs"]
    path.write_text(json.dumps({**key, "format": 1}))
    with pytest.raises(UserError, match="older version.*--overwrite") as caught:
        look(place, tmp_path / "out")
    assert "\n" not in str(caught.value)
    look(place, tmp_path / "out", overwrite=True)
    assert look(place, tmp_path / "out")[0].report.already_complete


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2}', '{"format": 2, "options": 3}', "[" * 5000, "\0", '"']
)
def test_a_damaged_state_is_one_line_and_overwrite_helps(place, tmp_path, text):
    look(place, tmp_path / "out")
    (tmp_path / "out" / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json: (damaged|not of this command)") as caught:
        look(place, tmp_path / "out")
    assert "\n" not in str(caught.value)


# Entries whose change is noticed by another entry, or another rule (`live`), as well.
SEEN_TWICE = {
    "live",
    "threshold",
    "thresholds",
    "class_thresholds",
    "classes",
    "person_score",
    "people",
}


@pytest.mark.parametrize("name", sorted({*OTHER_OPTIONS, "video", "checkpoint"}))
def test_an_entry_left_out_of_the_key_would_let_another_value_pass(
    place, tmp_path, name, monkeypatch
):
    """Each entry is taken out of the key in turn: the tests above can fail, entry by entry."""
    from detection.pipeline.decisive import Decisive
    from detection.pipeline.runner import VideoRun

    def at_once(run):
        """Nothing is computed: what is asked is whose results they are taken for."""
        if run.folder.is_complete:
            run.report.already_complete = True
        else:
            run.folder.complete()
        return iter(())

    monkeypatch.setattr(VideoRun, "events", at_once)
    first, other = {"identity": {"mine": "1"}}, {"identity": {"mine": "1"}}
    if name == "video":
        other["video"] = place / "tuesday" / "cam1.mp4"
        other["video_id"] = first["video_id"] = "cam1"
    elif name == "checkpoint":
        other["run"] = save_tiny_run(tmp_path / "run", spread=5.0)
    else:
        other |= OTHER_OPTIONS[name]
    look(place, tmp_path / "whole", **first)
    with pytest.raises(UserError, match="--overwrite"):
        look(place, tmp_path / "whole", **other)

    as_json = Decisive.as_json

    def without(decisive):
        content = as_json(decisive)
        for part in content.values():
            part.pop(name, None)
        return content

    monkeypatch.setattr(Decisive, "as_json", without)
    look(place, tmp_path / "out", **first)
    if name in SEEN_TWICE:
        with contextlib.suppress(UserError):
            look(place, tmp_path / "out", **other)
        return
    assert look(place, tmp_path / "out", **other)[0].report.already_complete
