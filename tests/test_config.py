"""Configurations: what is accepted, and what one line a user gets for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.config import (
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    list_options,
    load_config,
    load_people_config,
)
from detection.errors import UserError
from detection.expansion.config import load_expand_config

LOADERS = {"people": load_people_config, "expand": load_expand_config}
CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_only_differences_from_the_defaults_are_needed(tmp_path):
    config = load_config(write(tmp_path, "data:\n  root: somewhere\n"))
    assert config.data.root == "somewhere"
    assert config.clip.num_frames == 16
    assert config.output == str(Path("runs") / "run")


def test_numbers_that_yaml_reads_as_text_are_mended(tmp_path):
    text = "data: {root: x}\noptim: {lr: 1e-3}\n"
    assert load_config(write(tmp_path, text)).optim.lr == 0.001


def test_overrides_replace_the_file(tmp_path):
    path = write(tmp_path, "data: {root: x}\noptim: {lr: 0.5}\n")
    config = load_config(path, ["optim.lr=0.25", "clip.train_short_side_px=[300, 310]", "seed=7"])
    assert (config.optim.lr, config.clip.train_short_side_px, config.seed) == (0.25, (300, 310), 7)


def test_a_written_configuration_reads_back_the_same(tmp_path):
    config = load_config(write(tmp_path, "data: {root: x}\noptim: {schedule: constant}\n"))
    again = load_config(write(tmp_path, config_to_yaml(config)))
    assert again == config
    assert config_from_dict(config_to_dict(config), "a dict") == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads_and_opens_with_its_command(path):
    LOADERS.get(path.stem.partition("_")[0], load_config)(path)
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"configs/{path.name}" in line for line in head)


@pytest.mark.parametrize(
    ("text", "line", "required"),
    [
        ("data: {root: x}\noptim:\n  lrr: 1\n", 3, "unknown option 'optim.lrr', did you mean 'o"),
        ("data: {root: x}\nmodell: {}\n", 2, "unknown option 'modell', did you mean 'model'"),
        ("data: {root: x}\noptim:\n  epochs: many\n", 3, "optim.epochs: input should be a valid"),
        ("data: {root: x}\noptim:\n  epochs: -1\n", 3, "greater than or equal to 0, got -1"),
        ("data: {root: x}\nmodel:\n  variant: q\n", 3, "input should be 'xs', 's', 'm'"),
        ("data: {root: x}\noptim: 3\n", 2, "optim: "),
        ("data: {root: x}\nseed: 1\nseed: 2\n", 3, "'seed' is given twice"),
        ("data: {root: x\noptim: 3\n", 2, "YAML error"),
        ("data: {root: x}\nclip: {train_crop_px: 300}\n", 2, "below train_crop_px 300"),
        ("data: {root: x}\noptim: {schedule: step}\n", 2, "non-empty `milestones`"),
        ("data: {root: x}\noptim: {lr: .nan}\n", 2, "finite"),
        ("data: {root: x}\nmodel: {frozen_stages: 2}\n", 2, "needs pretrained"),
        (
            "data: {root: x}\nmodel: {frozen_stages: 2, pretrained: x}\n",
            2,
            "needs freeze_batch_norm",
        ),
    ],
)
def test_bad_input_is_one_line_with_its_place(tmp_path, text, line, required):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert required in message
    assert "\n" not in message


def test_missing_file_missing_option_and_non_mapping(tmp_path):
    with pytest.raises(UserError, match="configuration file not found"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="option 'data' is required"):
        load_config(write(tmp_path, ""))
    with pytest.raises(UserError, match="found a list"):
        load_config(write(tmp_path, "- 1\n"))
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="not UTF-8"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("override", ["seed", "=3", "seed.more=1", "optim.lrr=1", "seed=[", ".=1"])
def test_bad_overrides_name_the_command_line(tmp_path, override):
    with pytest.raises(UserError, match="command line: "):
        load_config(write(tmp_path, "data: {root: x}\nseed: 0\n"), [override])


def test_every_option_has_a_sentence():
    for key, _, _, sentence in list_options():
        assert sentence.endswith("."), key


@pytest.mark.parametrize(
    ("options", "required"),
    [
        (["precision=fp16", "device=cpu"], "precision 'fp16' and device 'cpu' exclude"),
        (["model.sync_batch_norm=true", "device=cpu"], "model.sync_batch_norm and device 'cpu'"),
        (
            ["model.sync_batch_norm=true", "model.freeze_batch_norm=true"],
            "sync_batch_norm and freeze_batch_norm exclude",
        ),
        (
            ["optim.precise_bn_batches=5", "model.freeze_batch_norm=true"],
            "optim.precise_bn_batches and model.freeze_batch_norm exclude",
        ),
        (
            ["compile=true", "model.checkpoint_activations=true"],
            "compile and model.checkpoint_activations exclude",
        ),
        (
            ["optim.schedule=plateau", "evaluation.every_epochs=100"],
            "'plateau' needs evaluations while training",
        ),
    ],
)
def test_options_that_exclude_each_other_are_refused_by_name(tmp_path, options, required):
    path = write(tmp_path, "data: {root: x}\n")
    with pytest.raises(UserError, match=required):
        load_config(path, options)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_found_by_its_name(tmp_path, monkeypatch, path):
    load = LOADERS.get(path.stem.partition("_")[0], load_config)
    expected = load(path)
    monkeypatch.chdir(tmp_path)
    assert load(path.stem) == expected
    (tmp_path / path.stem).mkdir()  # a folder is no configuration
    assert load(path.stem) == expected


def test_a_file_wins_over_the_name_of_a_shipped_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo_x3d_xs").write_text("data: {root: here}\nseed: 7\n")
    config = load_config("demo_x3d_xs")
    assert (config.data.root, config.seed) == ("here", 7)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("demo_x3d", "demo_x3d: configuration file not found, did you mean 'demo_x3d_xs'"),
        (
            "other/people_dem.yaml",
            "people_dem.yaml: configuration file not found, did you mean 'peop",
        ),
        ("xyz", "'ava_x3d_m' or 'ava_x3d_m_8gb' or "),
    ],
)
def test_a_configuration_that_is_not_there_is_one_line_with_near_names(name, said):
    with pytest.raises(UserError) as refused:
        load_config(name)
    assert said in str(refused.value) and "\n" not in str(refused.value)
