"""X3D files that others trained on their own classes: the logits of the original networks."""

from __future__ import annotations

import argparse

import golden_rule as rule
import numpy as np
import pytest
import torch
from make_foreign_heads import CLASSES, GOLDEN, HIDDEN, frames, their_state

from detection.checkpoints.load import load_network
from detection.checkpoints.network_file import read_network_file
from detection.errors import UserError
from detection.structures import LabelMap

LABELS = LabelMap(tuple(f"class {n}" for n in range(CLASSES)), tuple(range(CLASSES)), None)


def renamed(state, prefix: str):
    return {prefix + name: value for name, value in state.items()}


def momentum(state):
    """What an optimiser keeps beside the weights."""
    numbered = {n: {"momentum_buffer": v.clone()} for n, v in enumerate(state.values())}
    return {"state": numbered, "param_groups": [{"lr": 0.1, "params": list(numbered)}]}


def lightning(state, prefix="model."):
    """A checkpoint of Lightning's Trainer."""
    metrics = {"train_acc.tp": torch.zeros(CLASSES), "criterion.weight": torch.ones(CLASSES)}
    return {
        "epoch": 3,
        "global_step": 99,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": renamed(state, prefix) | metrics,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [momentum(state)],
        "lr_schedulers": [{"base_lrs": [0.1], "last_epoch": 3}],
        "hparams_name": "args",
        "hyper_parameters": {"lr": 1e-3, "args": argparse.Namespace(arch="x3d"), "classes": 8},
    }


def in_sequential(state):
    """The class layer behind a dropout, as `proj = nn.Sequential(nn.Dropout(), nn.Linear())`."""
    layers = ("blocks.5.proj.", "head.projection.")
    return {
        next((k.replace(x, f"{x}1.") for x in layers if k.startswith(x)), k): v
        for k, v in state.items()
    }


FORMS = {
    "alone": lambda state: state,
    "with an optimiser": lambda state: {
        "model_state": state, "optimizer_state": momentum(state), "epoch": 5, "cfg": "MODEL: {}",
    },
    "of DDP": lambda state: {"model_state": renamed(state, "module."), "epoch": 1},
    "of DDP around a module": lambda state: {"model": renamed(state, "module.model.")},
    "of Lightning": lightning,
    "of Lightning around a module": lambda state: lightning(state, "net.model."),
    "behind a dropout": in_sequential,
}  # fmt: skip


@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.parametrize("form", FORMS)
def test_logits_are_those_of_the_original(kind, form, tmp_path):
    path = tmp_path / "x3d_xs_of_others.pth"
    torch.save(FORMS[form](their_state(kind)), path)
    file = read_network_file(path, label_map=LABELS)
    assert file.naming == kind and file.classes == LABELS
    assert (file.network.head.num_classes, file.network.head.hidden) == (CLASSES, HIDDEN[kind])
    with torch.no_grad():
        found = load_network(file).position_logits(frames())[0]
    expected = np.load(GOLDEN / "foreign_heads.npz")[kind]
    assert rule.relative(found, expected) < 1e-5
    left_out = [note for note in file.notes if "no weights of the network" in note]
    assert len(left_out) == ("Lightning" in form)


def test_a_head_of_several_layers_is_refused(tmp_path):
    state = their_state("pytorchvideo")
    layer = {k: state.pop(f"blocks.5.proj.{k}") for k in ("weight", "bias")}
    for number in (0, 2):
        state |= {f"blocks.5.proj.{number}.{k}": v for k, v in layer.items()}
    torch.save(state, tmp_path / "mlp.pth")
    with pytest.raises(UserError, match="class layer"):
        read_network_file(tmp_path / "mlp.pth", label_map=LABELS)


def test_classes_without_names_are_asked_for(tmp_path):
    torch.save(their_state("pytorchvideo"), tmp_path / "x3d.pth")
    with pytest.raises(UserError, match=r"8 classes.*--class-list"):
        read_network_file(tmp_path / "x3d.pth")
    with pytest.raises(UserError, match="3 classes, the network 8"):
        three = LabelMap(("a", "b", "c"), (0, 1, 2), None)
        read_network_file(tmp_path / "x3d.pth", label_map=three)
