"""Any X3D network comes back whole: by published name, another project's file or one of ours."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from misbehaving_server import Page, Server, running_server

from ava_tools import convert, inspect_model
from detection.checkpoints import hub
from detection.checkpoints.file import ModelFile, save_model_file
from detection.checkpoints.load import describe_network, fold_pytorchvideo_shortcut, load_network
from detection.checkpoints.network_file import kinetics_classes, read_network_file
from detection.checkpoints.weights import Naming, to_their_names
from detection.datasets.transforms import EvalTransform
from detection.errors import UserError
from detection.models.action_detector import ActionDetector, build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.classifier import HeadDescription, X3DClassifier, build_classifier
from detection.models.x3d import VARIANTS
from detection.structures import LabelMap
from detection.transfer.download import TransferRules
from detection.video.reader import VideoReader

SAMPLING = {"xs": (4, 12, 182), "s": (13, 6, 182), "m": (16, 5, 256), "l": (16, 5, 356)}
TWO = LabelMap(("sit", "stand"), (11, 12))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Weights by a rule, of Kinetics' 400 classes and the shapes of XS, S and M."""
    network = build_classifier(VARIANTS["m"])
    with torch.no_grad():
        for number, value in enumerate(network.state_dict().values()):
            if value.is_floating_point():
                value.copy_(
                    torch.linspace(0.01, 0.02 + number * 1e-5, value.numel()).view_as(value)
                )
    return network.state_dict()


def write(path: Path, state: dict[str, torch.Tensor], naming: Naming) -> Path:
    if naming == "pytorchvideo":
        state = fold_pytorchvideo_shortcut(state)
    torch.save({"model_state": to_their_names(state, naming)}, path)
    return path


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory, state: dict[str, torch.Tensor]) -> Path:
    return write(tmp_path_factory.mktemp("theirs") / "weights.pyth", state, "slowfast")


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setattr(TransferRules, "__init__", _hasty)
    return tmp_path / "hub" / "checkpoints"


def _hasty(self: TransferRules) -> None:
    for field in dataclasses.fields(TransferRules):
        object.__setattr__(self, field.name, 2 if field.name == "attempts" else 0.01)
    object.__setattr__(self, "timeout_s", 5.0)


def publish(name: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = dataclasses.replace(hub.PUBLISHED[name], url=url, sha256_prefix=None)
    monkeypatch.setitem(hub.PUBLISHED, name, entry)


@pytest.mark.parametrize("naming", ["slowfast", "pytorchvideo", "mmaction2"])
def test_files_of_other_projects_come_back_whole(
    naming: Naming, tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    file = read_network_file(write(tmp_path / "x3d_xs.pth", state, naming))
    assert file.classes == kinetics_classes() and file.classes.ids[0] == 1
    assert file.sampling is not None
    assert (file.sampling.num_frames, file.sampling.step, file.short_side_px) == SAMPLING["xs"]
    network = load_network(file)
    assert isinstance(network, X3DClassifier) and not network.training
    assert network.trunk.description == VARIANTS["xs"]
    for name, value in network.state_dict().items():
        if naming != "pytorchvideo":
            assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    ("name", "asked", "variant", "why"),
    [
        ("X3D_XS.pyth", None, "xs", "file's name"),
        ("x3d_s_13x6x1_facebook.pth", None, "s", "file's name"),
        ("my-x3d-m.pyth", None, "m", "file's name"),
        ("x3d_small.pyth", None, "m", "nothing says which"),
        ("weights.pyth", None, "m", "nothing says which"),
        ("x3d_xs.pyth", "s", "s", None),
    ],
)
def test_which_of_xs_s_and_m(
    name: str, asked: str | None, variant: str, why: str | None, foreign: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.symlink_to(foreign)
    file = read_network_file(path, variant=asked)
    assert file.sampling is not None
    assert (file.sampling.num_frames, file.sampling.step, file.short_side_px) == SAMPLING[variant]
    about = [note for note in file.notes if "same shapes" in note]
    assert len(about) == (why is not None) and all(str(why) in note for note in about)


def test_published_names_are_fetched_once_and_tell_the_variant(
    foreign: Path,
    server: Server,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.pages["a.pyth"] = Page(foreign.read_bytes(), faults=["cut"])
    publish(hub.DEFAULT_NETWORK, f"{server.url}/a.pyth", monkeypatch)
    file = read_network_file(hub.DEFAULT_NETWORK)
    assert file.sampling == VARIANTS["s"].sampling and file.short_side_px == 182
    assert file.classes == kinetics_classes()
    assert not any("same shapes" in note for note in file.notes)
    size = foreign.stat().st_size
    assert server.ranges_asked("a.pyth") == [None, f"bytes={size // 2}-"], "a half, then the rest"
    told = capsys.readouterr().err
    assert f"{size / 1e6:.1f} MB from {server.url}/a.pyth to {cache / 'a.pyth'}" in told
    read_network_file(hub.DEFAULT_NETWORK)
    assert len(server.ranges_asked("a.pyth")) == 2
    assert capsys.readouterr().err == ""


def test_what_cannot_be_fetched_is_one_line(
    foreign: Path,
    server: Server,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "x3d_m_kinetics400_mmaction2"
    entry = hub.PUBLISHED[name]

    def refused() -> str:
        with pytest.raises(UserError) as caught:
            read_network_file(name)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for url in ("http://no-such-host.invalid/m.pth", f"{server.url}/m.pth"):
        monkeypatch.setitem(hub.PUBLISHED, name, dataclasses.replace(entry, url=url))
        message = refused()
        for part in (url, str(cache / "m.pth"), "begins with 3f42382a", "same command again"):
            assert part in message
        assert capsys.readouterr().err == "", "the line of the error is the only one"
    server.pages["m.pth"] = Page(foreign.read_bytes())
    assert "the publisher says 3f42382a" in refused()
    assert not (cache / "m.pth").exists(), "others would take it for the published file"
    cache.mkdir(exist_ok=True, parents=True)
    (cache / "m.pth").write_bytes(foreign.read_bytes()[:1000])  # by hand, and half of it
    assert "or not all of it" in refused()
    assert (cache / "m.pth").exists(), "what a person put there is not removed"


def test_half_a_file_of_unknown_hash_is_one_line(
    foreign: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("x3d_s_kinetics400", "http://no-such-host.invalid/s.pyth", monkeypatch)
    cache.mkdir(parents=True)
    (cache / "s.pyth").write_bytes(foreign.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"s\.pyth: truncated or damaged") as caught:
        read_network_file("x3d_s_kinetics400")
    assert "\n" not in str(caught.value)


def test_other_classes_need_their_names(tmp_path: Path) -> None:
    network = build_classifier(VARIANTS["x2d"], HeadDescription(2))
    path = write(tmp_path / "two.pyth", network.state_dict(), "slowfast")
    with pytest.raises(UserError, match=r"two.pyth: does not name its 2 classes.*--label-map"):
        read_network_file(path)
    file = read_network_file(path, label_map=TWO)
    assert file.classes == TWO and file.sampling == VARIANTS["x2d"].sampling
    three = LabelMap(("a", "b", "c"), (1, 2, 3))
    with pytest.raises(UserError, match="3 classes, the network 2"):
        read_network_file(path, label_map=three)


@pytest.mark.parametrize("task", ["actions", "classification"])
def test_files_of_our_own_come_back_as_they_are(task: str, tmp_path: Path) -> None:
    network: ActionDetector | X3DClassifier
    if task == "actions":
        network = build_detector(VARIANTS["x2d"], ActorHeadDescription(2))
    else:
        network = build_classifier(VARIANTS["x2d"], HeadDescription(2))
    sampling = dataclasses.replace(VARIANTS["x2d"].sampling, step=7)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    save_model_file(
        run / "checkpoints" / "last.pt",
        network.state_dict(),
        network=describe_network(network),
        classes=TWO,
        sampling=sampling,
        short_side_px=99,
    )
    for source in (run, run / "checkpoints" / "last.pt"):
        file = read_network_file(source)
        assert (file.classes, file.sampling, file.short_side_px) == (TWO, sampling, 99)
        assert type(load_network(file)) is type(network)
    with pytest.raises(UserError, match="states its own network, which is not X3D-M"):
        read_network_file(run, variant="m")


@pytest.mark.parametrize("form", ["own", "safetensors"])
@pytest.mark.parametrize("named", [True, False])
def test_what_convert_writes_is_whole(
    form: str, named: bool, foreign: Path, tmp_path: Path
) -> None:
    names = [f"class {number}" for number in range(400)]
    (tmp_path / "map.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    out = tmp_path / "out"
    more = ["--label-map", str(tmp_path / "map.json")] if named else []
    arguments = ["--checkpoint", str(foreign), "--variant", "s", "--to", form, "--out", str(out)]
    assert convert.main([*arguments, *more]) == 0
    file = read_network_file(out)
    assert file.classes is not None
    assert list(file.classes.names) == (names if named else list(kinetics_classes().names))
    assert file.sampling == VARIANTS["s"].sampling and file.short_side_px == 182
    assert isinstance(load_network(file), X3DClassifier)


def test_commands_take_published_names(
    foreign: Path,
    server: Server,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.pages["a.pyth"] = Page(foreign.read_bytes())
    publish("x3d_xs_kinetics400", f"{server.url}/a.pyth", monkeypatch)
    inspect_model.main(["--checkpoint", "x3d_xs_kinetics400", "--no-timing", "--json"])
    assert json.loads(capsys.readouterr().out)["frames"] == 4
    out = tmp_path / "xs.pt"
    convert.main(["--checkpoint", "x3d_xs_kinetics400", "--to", "own", "--out", str(out)])
    assert read_network_file(out).sampling == VARIANTS["xs"].sampling


def test_wrong_sources_are_one_line(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.pyth").touch()
    torch.save(
        {"format": "people-detector", "model_state": {"a": torch.ones(1)}}, tmp_path / "p.pt"
    )
    wrong: list[tuple[str | Path, str | None, str]] = [
        ("x3d_m_kinetcs400", None, "did you mean x3d_m_kinetics400"),
        (tmp_path / "none.pyth", None, "not found"),
        (tmp_path / "empty.pyth", None, "an empty file"),
        (tmp_path / "p.pt", None, "not an X3D network"),
        (foreign, "l", "its shapes are those of X3D-XS, S, M, not of X3D-L"),
        (foreign, "xxl", "variant 'xxl' is not one of xs, s, m"),
    ]
    for source, variant, message in wrong:
        with pytest.raises(UserError, match=message) as caught:
            read_network_file(source, variant=variant)
        assert "\n" not in str(caught.value)


@pytest.mark.real_data
def test_real_weights_see_archery(real_data: Path) -> None:
    names = json.loads((real_data / "weights" / "kinetics_id_to_classname.json").read_text())
    assert [names[str(number)] for number in range(400)] == list(kinetics_classes().names)
    file = read_network_file(real_data / "weights" / "x3d_xs_k400_from_int8.pyth")
    assert file.sampling is not None and file.short_side_px == 182 and file.classes is not None
    network = load_network(file)
    with VideoReader(real_data / "clips" / "archery.mp4") as video:
        start_s, end_s = video.span_s()
        clip = video.read(file.sampling.times_s((start_s + end_s) / 2))
    transform = EvalTransform(short_side=file.short_side_px)
    nobody = np.zeros((0, 4), np.float32)
    params = transform.make_params(np.random.default_rng(0))
    frames = transform.apply(clip.frames, nobody, params).frames
    with torch.inference_mode():
        (probabilities,) = network.probabilities(frames[None])
    assert file.classes.names[int(probabilities.argmax())] == "archery"
    assert float(probabilities.max()) > 0.9


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"box_score_threshold": 0.8}, 0.5),
        ({"box_score_threshold": 0.8, "val_boxes": "ground-truth", "train_boxes": None}, 0.5),
        ({"box_score_threshold": 0.8, "val_boxes": "people"}, 0.8),
        ({"box_score_threshold": 0.7, "val_boxes": "ground-truth", "train_boxes": "people"}, 0.7),
    ],
)
def test_a_score_that_no_box_was_held_against_is_no_persons_threshold(data, expected):
    file = ModelFile("x.pt", {}, "own", config={"data": data})
    assert file.box_score_threshold(default=0.5) == expected
