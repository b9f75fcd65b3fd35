"""YAML that is hostile or unlucky, in files and on the command line: one line with its row."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from detection.bounds import MOST_THREADS, MOST_WORKERS
from detection.config import list_options, load_config, load_people_config
from detection.errors import UserError
from detection.expansion.config import load_expand_config
from detection.option_names import hint_for
from detection.yaml_files import LIMIT_BYTES, read_yaml


def bomb(levels: int = 30) -> str:
    lines = ["a0: &a0 [x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}, *a{level - 1}]")
    return "\n".join(lines) + "\n"


def merge_bomb(levels: int = 14) -> str:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        same = ", ".join([f"*a{level - 1}"] * 8)
        lines.append(f"a{level}: &a{level} {{<<: [{same}], k{level}: 1}}")
    return "\n".join(lines) + "\n"


# text, the line that must be named, what must be said
BAD = {
    "aliases, 3^n places": (bomb(), None, "more than 100,000 values|nested deeper"),
    "merges, 8^n": (merge_bomb(), None, "more than 100,000 values|nested deeper"),
    "alias to itself": ("data: {root: x}\nmodel: &a\n  variant: *a\n", 2, "what it is in itself"),
    "alias to itself in a list": ("data: &a [*a]\n", 1, "what it is in itself"),
    "integer that is none": ("data: {root: x}\nseed: !!int x\n", 2, "'x' is no int"),
    "float that is none": ("seed: !!float x\n", 1, "'x' is no float"),
    "bool that is none": ("seed: !!bool x\n", 1, "'x' is no bool"),
    "5,000 digits": ("data: {root: x}\nseed: " + "9" * 5000 + "\n", 2, "no int that can be read"),
    "4,000 digits": ("data: {root: x}\nseed: " + "9" * 4000 + "\n", 2, "a whole number of"),
    "3,000 brackets": ("data: {root: x}\nseed: " + "[" * 3000 + "\n", 2, "nested deeper than 16"),
    "3,000 closed brackets": ("seed: " + "[" * 3000 + "]" * 3000, 1, "nested deeper than 16"),
    "a million brackets": ("[" * 1_000_000, 1, "nested deeper than 16"),
    "a million dashes": ("- " * 500_000, 1, "nested deeper than 16"),
    "braces": ("{a: " * 3000, 1, "nested deeper than 16"),
    "a tab": ("data:\n\troot: x\n", 2, "YAML error: .*found character"),
    "two documents": ("data: {root: x}\n---\ndata: {root: y}\n", 2, "expected a single document"),
    "a program": ("data: !!python/object/apply:os.getcwd []\n", 1, "the tag .* is not read"),
    "a set": ("data: !!set {a, b}\n", 1, "the tag .* is not read"),
    "binary": ("data: !!binary x\n", 1, "the tag .* is not read"),
    "a list as a key": ("? [a]\n: 1\n", 1, "a list or a mapping as a key"),
    "a bell": ("data: {root: x}\nseed: \a\n", 2, r"U\+0007"),
    "<< of a text": ("data: {<<: x}\n", 1, "<< takes mappings"),
    "<< twice": ("a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n", 4, "given twice"),
    "twice in an alias": ("data: {root: x}\nclip: {step: 1, step: 2}\n", 2, "'clip.step' is given"),
    "unknown anchor": ("data: {root: *x}\n", 1, "undefined alias"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_line_with_their_row(kind: str, tmp_path: Path) -> None:
    text, line, says = BAD[kind]
    path = tmp_path / "run.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(UserError, match=says) as caught:
        load_config(path)
    assert time.process_time() - start < 5
    message = str(caught.value)
    assert message.startswith(f"{path}:{'' if line is None else f'{line}: '}")
    assert "\n" not in message and len(message) < 600


@pytest.mark.parametrize(
    "text",
    ["{a: &a {b: *a}}", "!!int x", "9" * 5000, "[" * 3000, "[" * 3000 + "]" * 3000, "!!set {a}"]
    + ["{a: 1, a: 2}", "\t@", "a: b: c", "!!python/name:os.system x", "\a"],
)
def test_bad_overrides_are_one_line_of_the_command_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {root: x}\n")
    with pytest.raises(UserError) as caught:
        load_config(path, [f"model.pretrained={text}"])
    message = str(caught.value)
    assert message.startswith("command line: 'model.pretrained=")
    assert "\n" not in message and "\a" not in message and len(message) < 600


def test_dates_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for date in ("2001-01-02", "2001-99-99", "2001-01-02 03:04:05"):
        path.write_text(f"data: {{root: x, val_split: {date}}}\n")
        assert load_config(path).data.val_split == date
        assert load_config(path, [f"data.train_split={date}"]).data.train_split == date


def test_aliases_and_merges_of_moderate_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "a: &a {step: 2, num_frames: 8}\nb: {<<: *a, step: 3}\nc: *a\nd: {<<: [{step: 9}, *a]}\n"
    )
    file = read_yaml(path)
    assert file.values["b"] == {"step": 3, "num_frames": 8}
    assert file.values["d"] == {"step": 9, "num_frames": 8}
    assert file.places["b", "num_frames"] == f"{path}:1"
    file.override(["c.step=7"])
    assert file.values["a"]["step"] == 2 and file.values["c"]["step"] == 7


def test_values_are_counted_with_all_that_aliases_stand_for(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    # 1 + (1 + 99) + 1 + 998 x 100 + (1 + 97) = 100,000
    text = f"a: &a [{'x, ' * 99}]\nb: [{'*a, ' * 998}]\nc: [{'x, ' * 97}]\n"
    path.write_text(text)
    assert len(read_yaml(path).values["b"]) == 998
    path.write_text(text.replace("c: [", "c: [x, "))
    with pytest.raises(UserError, match=r"run\.yaml:3: more than 100,000 values"):
        read_yaml(path)


def test_what_an_override_replaced_is_blamed_no_more(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data:\n  root: x\n")
    with pytest.raises(UserError, match="'data.root' is required") as caught:
        load_config(path, ["data={val_split: v}"])
    assert str(caught.value).startswith("command line: 'data={val_split: v}': ")


@pytest.mark.parametrize("load", [load_config, load_people_config])
def test_processes_and_threads_have_ends(load: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {root: x}\n")
    for name, least, most in (("workers", 0, MOST_WORKERS), ("threads", 1, MOST_THREADS)):
        for good in (least, most):
            assert getattr(load(path, [f"{name}={good}"]), name) == good
        for bad in (least - 1, most + 1):
            with pytest.raises(UserError, match=f"command line: '{name}={bad}': {name}: "):
                load(path, [f"{name}={bad}"])


def test_byte_order_marks_other_encodings_and_size(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfdata: {root: x}\r\nseed: 4\r\n")
    assert load_config(path).seed == 4
    path.write_bytes("data: {root: x}\n".encode("utf-16"))
    with pytest.raises(UserError, match="UTF-16"):
        load_config(path)
    path.write_text("data: {root: x}\n" + "#" * LIMIT_BYTES)
    with pytest.raises(UserError, match="at most 1,048,576 are read of a configuration file"):
        load_config(path)


# ---------------------------------------------------------------- who is to blame


@pytest.mark.parametrize(
    ("overrides", "place", "says"),
    [
        (["optim.lrr=1"], "command line: 'optim.lrr=1': ", "unknown option 'optim.lrr'"),
        (["optim.epochs=many"], "command line: 'optim.epochs=many': ", "optim.epochs"),
        (
            ["clip.train_crop_px=300"],
            "command line: 'clip.train_crop_px=300': ",
            "below train_crop",
        ),
        (["data={root: y, box: 1}"], "command line: 'data={root: y, box: 1}': ", "'data.box'"),
        (["compile=true", "seed=3"], "command line: 'compile=true', 'seed=3': ", "exclude"),
        (["data=3"], "command line: 'data=3': ", "data"),
        (["--seed=3"], "command line: '--seed=3': ", "without dashes"),
        (["optim.lr 3"], "command line: 'optim.lr 3' ", "not of the form a.b=value"),
    ],
)
def test_the_command_line_is_blamed_for_its_own(
    overrides: list[str], place: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "data: {root: x}\nclip: {flip_probability: 0}\noptim: {lr: 1}\n"
        "model: {checkpoint_activations: true}\n"
    )
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    assert str(caught.value).startswith(place) and says in str(caught.value)


def test_the_file_is_blamed_for_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {root: x}\nclip:\n  train_crop_px: 300\n")
    with pytest.raises(UserError) as caught:
        load_config(path, ["clip.flip_probability=0", "seed=2"])
    assert str(caught.value).startswith(f"{path}:2: clip: ")


# ---------------------------------------------------------------- names, paths and sizes


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("model.num_classes", "the number of classes comes from the data set's label map"),
        ("MODEL.NUM_CLASSES", "label map"),
        ("lr", "did you mean 'optim.lr'?"),
        ("learning_rate", "did you mean 'optim.lr'?"),
        ("SOLVER.BASE_LR", "did you mean 'optim.lr'?"),
        ("batch_size", "did you mean 'optim.batch_size' or 'evaluation.batch_size'?"),
        ("TRAIN.BATCH_SIZE", "did you mean 'optim.batch_size'?"),
        ("epochs", "did you mean 'optim.epochs'?"),
        ("SOLVER.MAX_EPOCH", "did you mean 'optim.epochs'?"),
        ("num_frames", "did you mean 'clip.num_frames'?"),
        ("DATA.SAMPLING_RATE", "did you mean 'clip.step'?"),
        ("fps", "clip.step, in 1/30 s"),
        ("gpus", "torchrun"),
        ("weights", "did you mean 'model.pretrained'?"),
        ("TRAIN.CHECKPOINT_FILE_PATH", "did you mean 'model.pretrained'?"),
        ("data.path", "did you mean 'data.root'?"),
        ("output-dir", "did you mean 'output'?"),
        ("optim_wrapper.clip_grad", "did you mean 'optim.clip_grad_norm'?"),
        ("optim.lrr", "did you mean 'optim.lr'?"),
    ],
)
def test_names_of_other_projects_get_a_hint(name: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {root: x}\n")
    with pytest.raises(UserError, match="unknown option") as caught:
        load_config(path, [f"{name}=1"])
    assert hint in str(caught.value)


def test_every_hint_names_an_option_that_there_is() -> None:
    from detection.config import list_people_options
    from detection.option_names import _ELSEWHERE

    known = {option[0] for option in [*list_options(), *list_people_options()]}
    assert {option for options in _ELSEWHERE.values() for option in options} <= known
    assert hint_for("num_classes", ["name"], "key") == ""


def test_home_is_expanded_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "run.yaml"
    path.write_text("data: {root: ~/data}\noutput: ~/x\nmodel: {pretrained: ~/w.pt}\n")
    config = load_config(path)
    assert (config.data.root, config.output) == (f"{tmp_path}/data", f"{tmp_path}/x")
    assert config.model.pretrained == f"{tmp_path}/w.pt"
    clips = ["task=classification", "classification.video_folder=~/v", "output=~/"]
    config = load_config(path, clips)
    assert (config.classification.video_folder, config.output) == (f"{tmp_path}/v", str(tmp_path))
    people = load_people_config(path, ["model={start_from: ~/w.pt}"])
    assert (people.data.root, people.output) == (f"{tmp_path}/data", f"{tmp_path}/x")
    assert people.model.start_from == f"{tmp_path}/w.pt"
    path.write_text("training: {}\ntarget: 1\noutput: ~/x\n")
    assert load_expand_config(path).output == f"{tmp_path}/x"
    path.write_text("data: {root: x}\noutput: ~nobody_of_this_name/x\n")
    with pytest.raises(UserError, match=r"2: output: there is no home folder for '~nobody_of"):
        load_config(path)


@pytest.mark.parametrize(
    "override",
    ["workers=1000000", "workers=-1", "threads=100000", "clip.num_frames=1000000000000"]
    + ["clip.step=1e12", "clip.test_short_side_px=1000000", "optim.batch_size=10000000"]
    + ["optim.epochs=10000000000", "model.head_width=10000000000", "model.width_factor=1e9"]
    + ["model.depth_factor=1e9", "seed=99999999999999999999", "checkpoint_minutes=1e300"]
    + ["clip.train_short_side_px=[256, 1000000]", "model.roi_size=100000"],
)
def test_absurd_sizes_are_refused(override: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {root: x}\n")
    with pytest.raises(UserError) as caught:
        load_config(path, [override])
    assert str(caught.value).startswith(f"command line: '{override}'")


def test_a_clip_that_no_machine_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {root: x}\nclip: {num_frames: 4000, test_short_side_px: 8000}\n")
    with pytest.raises(UserError, match=r"run\.yaml:2: clip: 4000 frames of 8000 px are more"):
        load_config(path)
