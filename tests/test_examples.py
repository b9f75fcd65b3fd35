"""The programs of docs/examples and the pages' blocks about the pipeline run as they are."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_pipeline import SquareDetector, save_tiny_run, write_squares

from detection import ActionDetectorPipeline, PipelineOptions

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCKS = [
    (page, block)
    for page in ("api.md", "pipeline.md")
    for block in re.findall(
        r"^```python(?: needs weights)?\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S
    )
    if "from_checkpoint" in block
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    save_tiny_run(folder / "run")
    write_squares(folder / "video.mp4", seconds=4)
    return folder


def detector_of(place, people=None, **options):
    options = {"threshold": 0.6, **options}
    return ActionDetectorPipeline.from_checkpoint(
        place / "run", people=people or SquareDetector(), options=PipelineOptions(**options)
    )


@pytest.fixture
def opened(place, monkeypatch):
    """The detector that examples get, whatever weights they name."""
    detector = detector_of(place, threshold=0.7)

    def from_checkpoint(checkpoint="", *, people=None, options=None):
        return detector

    monkeypatch.setattr(ActionDetectorPipeline, "from_checkpoint", from_checkpoint)
    return detector


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, DOCS / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_are_named_in_the_page():
    page = (DOCS / "api.md").read_text()
    for path in (DOCS / "examples").iterdir():
        if path.suffix == ".py":
            assert f"](examples/{path.name})" in page, path


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[block[-40:] for _, block in BLOCKS])
def test_blocks_about_the_pipeline_run_as_they_are(
    place, opened, tmp_path, monkeypatch, page, block
):
    for package in ("pandas", "supervision"):
        if f"to_{package}" in block:
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "video.mp4").symlink_to(place / "video.mp4")
    exec(compile(block, page, "exec"), {"__name__": "example"})


def test_frames_from_memory(place, opened, capsys):
    example = load("frames_from_memory")
    example.main(["RUN", "PEOPLE", str(place / "video.mp4")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 8 and all(
        re.match(r" +\d\.\d0 s  person [12] at \d", x) for x in lines
    )
    frames = example.frames_of(str(place / "video.mp4"))
    expected = [doing for keyframe in opened.keyframes(frames) for doing in keyframe.doing]
    said = [line.rpartition(": ")[2] for line in lines]
    assert [", ".join(doing) or "nothing above its threshold" for doing in expected] == said
    assert len(set(said)) > 1


@pytest.mark.parametrize(
    ("name", "words"), [("frames_from_memory", ["v.mp4"]), ("http_service", [])]
)
def test_examples_say_in_a_line_what_is_missing(tmp_path, name, words):
    if name == "http_service":
        pytest.importorskip("uvicorn")

    def said_after(*arguments):
        command = [sys.executable, str(DOCS / "examples" / f"{name}.py"), *arguments]
        environment = os.environ | {"PYTHONPATH": str(DOCS.parent)}
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 1 and ended.stderr.count("\n") == 1, ended.stderr
        return ended.stderr

    assert f"{name}.py RUN PEOPLE" in said_after()
    assert "none.pth: " in said_after("none.pth", "people.onnx", *words)


# The HTTP service


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    """Where uploads lie; everything around it is looked at afterwards."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(tmp_path.rglob("*")) == [folder], "left behind"


@pytest.fixture
def serve():
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    clients = []

    def start(detector, **limits):
        clients.append(TestClient(load("http_service").create_app(detector, **limits)))
        return clients[-1].__enter__()

    yield start
    for client in clients:
        client.__exit__(None, None, None)


def test_the_service_answers_with_the_events_of_an_upload(place, uploads, serve):
    detector = detector_of(place)
    client = serve(detector)
    answer = client.post("/events", content=(place / "video.mp4").read_bytes())
    assert answer.status_code == 200
    found, expected = answer.json(), list(detector.run(place / "video.mp4"))
    names = ("track", "action", "start_s", "end_s", "peak_score")
    assert [tuple(e[n] for n in names) for e in found["events"]] == [
        tuple(getattr(e, n) for n in names) for e in expected
    ]
    assert found["events"] and (found["keyframes"], found["people"]) == (8, 16)
    assert found["stopped"] is False and found["gaps"] == []


def test_the_service_refuses_what_is_no_video_too_large_or_too_long(place, uploads, serve):
    film = (place / "video.mp4").read_bytes()
    client = serve(detector_of(place), most_bytes=len(film))
    assert client.post("/events", content=film).status_code == 200
    large = client.post("/events", content=film + b"\0")
    assert large.status_code == 413 and f"at most {len(film):,} bytes" in large.json()["detail"]

    def endless():
        for _ in range(50):
            yield bytes(len(film))

    assert client.post("/events", content=endless()).status_code == 413, "without a length"
    for content in (b"", b"no video", b"#EXTM3U\nfile:///etc/passwd\n"):
        wrong = client.post("/events", content=content)
        assert wrong.status_code == 422 and wrong.json()["detail"].startswith("the upload: not a v")
        assert str(uploads) not in wrong.text
    assert client.get("/events").status_code == 405
    hurried = serve(detector_of(place, SquareDetector(delay_s=0.3), batch_size=1), work_s=0.5)
    answer = hurried.post("/events", content=film).json()
    assert answer["stopped"] is True and answer["keyframes"] < 8


def test_no_word_of_the_client_becomes_part_of_a_path(place, uploads, serve):
    client = serve(detector_of(place))
    film = (place / "video.mp4").read_bytes()
    escape = "../../../escape.mp4"
    named = {"content-disposition": f'attachment; filename="{escape}"', "x-file-name": escape}
    answer = client.post(f"/events?name={escape}", content=film, headers=named)
    assert answer.status_code == 200 and "escape" not in answer.text
    assert client.post(f"/events/{escape}", content=film).status_code == 404
    assert client.post("/events", files={"file": (escape, film)}).status_code == 422, "a form"


def test_one_request_at_a_time_is_in_the_networks_and_few_wait(place, uploads, serve):
    class Counting(SquareDetector):
        inside = most = 0

        def detect(self, images):
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.05)
            try:
                return super().detect(images)
            finally:
                self.inside -= 1

    people = Counting()
    client = serve(detector_of(place, people, workers=1, batch_size=2), most_waiting=3)
    film = (place / "video.mp4").read_bytes()
    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda _: client.post("/events", content=film).status_code, range(6)))
    assert people.most == 1 and set(codes) == {200, 503} and codes.count(200) >= 3
    assert client.post("/events", content=film).status_code == 200, "and it goes on"
    assert threading.active_count() < 40
