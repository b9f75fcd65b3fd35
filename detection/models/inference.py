"""A network for inference alone: BatchNorm in the weights, maps changed in place, few calls.

Training needs BatchNorm beside its convolution and every map kept for the way back. Without them a
clip takes a fifth to a fourth less time on a CPU (`benchmarks/x3d_speed.py`), as there

* oneDNN adds the bias and applies the activation while numbers are in registers;
* weights lie as it reads them, else it would turn them round in each call;
* blocks are functions of tensors that are gathered once: a clip of X3D-XS is so small that a fifth
  of its time went into calling modules and kernels.

Legend: B clips, T frames, H W map size, C channels. Maps are (B, T, H, W, C) inside the trunk,
which is what (B, C, T, H, W) is in memory in channels_last_3d: a 1x1x1 convolution is then a linear
layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, linear, silu

from detection.models.action_detector import ActionDetector
from detection.models.classifier import X3DClassifier
from detection.models.convolutions import Convolution, fold_norm
from detection.models.x3d import Block, SqueezeExcite, Stem, X3DTrunk

NetworkT = TypeVar("NetworkT", bound=ActionDetector | X3DClassifier)
After = Literal["none", "relu", "swish"]
TensorsT = TypeVar("TensorsT", bound=tuple[Tensor, ...])
Layer = tuple[Tensor, Tensor]  # weight and bias

# oneDNN's functions with an activation behind them; some builds of PyTorch have no oneDNN.
_ops: Any = torch.ops.mkldnn
_ONEDNN = hasattr(_ops, "_linear_pointwise") and hasattr(_ops, "_convolution_pointwise")
if _ONEDNN:
    _onednn_linear = _ops._linear_pointwise.default
    _onednn_convolution = _ops._convolution_pointwise.default
    _pack_convolution = _ops._reorder_convolution_weight.default


def prepare_for_inference(network: NetworkT) -> NetworkT:
    """Return a copy of a network that gives the same outputs in less time, and no gradients.

    The copy stands for the weights as they are now: after they change, make another (it takes
    milliseconds). It is in eval mode and cannot be trained, nor given other weights.
    Raises `ValueError` for BatchNorm without stored statistics.
    """
    with torch.inference_mode(False), torch.no_grad():
        prepared = copy.deepcopy(network)
        prepared.trunk = FoldedTrunk(prepared.trunk)
        prepared.requires_grad_(False)
        prepared.eval()
    return prepared


class FoldedTrunk(X3DTrunk):
    """What `X3DTrunk` computes in eval mode, of layers without BatchNorm."""

    def __init__(self, trunk: X3DTrunk) -> None:
        nn.Module.__init__(self)
        self.description = trunk.description
        self.res5_stride = trunk.res5_stride
        self.spatial_stride = trunk.spatial_stride
        self.checkpoint_activations = False
        self.out_channels = trunk.out_channels
        self.folded_stem = FoldedStem(trunk.stem)
        self.blocks = nn.ModuleList()
        for stage in trunk.stages:
            assert isinstance(stage, nn.Sequential)
            for block in stage:
                assert isinstance(block, Block)
                self.blocks.append(FoldedBlock(block))
        self.conv5 = _linear(*fold_norm(trunk.final, trunk.final_norm))
        self.requires_grad_(False)
        self.eval()

        self._packed: list[BlockTensors] | None = None

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) float, normalised -> (B, out_channels, T, h, w), the conv5 map."""
        use_onednn = _takes_onednn(clips)
        blocks = self._pack() if use_onednn else self._blocks()
        features = self.folded_stem(clips).permute(0, 2, 3, 4, 1)
        for block in blocks:
            features = run_block(features, block, use_onednn)
        features = pointwise(features, *_tensors(self.conv5), "relu", use_onednn)
        return features.permute(0, 4, 1, 2, 3)

    def _pack(self) -> list[BlockTensors]:
        """Return all blocks' tensors as oneDNN reads them; gathered in the first call."""
        if self._packed is None:
            self._packed = [block.packed() for block in self._blocks()]
        return self._packed

    def _blocks(self) -> list[BlockTensors]:
        return [block.tensors() for block in self.blocks if isinstance(block, FoldedBlock)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FoldedTrunk:
        """Forget what was packed: the layers are moved, or become another type."""
        self._packed = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was packed, of copies and pickles: they pack for themselves."""
        return {**self.__dict__, "_packed": None}

    def train(self, mode: bool = True) -> FoldedTrunk:
        """Stay in eval mode; `RuntimeError` where training is asked for."""
        if mode:
            raise RuntimeError(
                "a network that was prepared for inference cannot be trained: its BatchNorm is in "
                "its weights; train the network that it was made of"
            )
        super().train(False)
        return self

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        raise RuntimeError(
            "a network that was prepared for inference takes no other weights: load them into the "
            "network that it was made of, and prepare that"
        )


class FoldedStem(nn.Module):
    """`Stem` with the BatchNorm in the weights of the convolution in time."""

    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.spatial = stem.spatial
        self.temporal = stem.temporal
        _set(self.temporal, *fold_norm(stem.temporal, stem.norm))

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, C, T, H/2, W/2)."""
        out: Tensor = self.temporal(self.spatial(clips))
        return out.relu_()


class BlockTensors(NamedTuple):
    """All that a block computes with.

    stride: of the depthwise convolution, in space.
    gate: two layers' weights and biases; None where the block has no squeeze and excite.
    shortcut: None where the block's input is added to its output as it is.
    """

    expand: Layer
    depthwise: Layer
    stride: int
    gate: tuple[Tensor, Tensor, Tensor, Tensor] | None
    shortcut: Layer | None
    project: Layer

    def packed(self) -> BlockTensors:
        """Return plain tensors (a parameter takes longer to call with), as oneDNN reads them."""
        weight, bias = self.depthwise
        ones, strides = [1, 1, 1], [1, self.stride, self.stride]
        weight = _pack_convolution(weight.detach(), ones, strides, ones, len(weight))
        return BlockTensors(
            _detached(self.expand),
            (weight, bias.detach()),
            self.stride,
            self.gate and _detached(self.gate),
            self.shortcut and _detached(self.shortcut),
            _detached(self.project),
        )


class FoldedBlock(nn.Module):
    """The layers of a `Block`, BatchNorm in their weights; `run_block` computes with them."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.expand = _linear(*fold_norm(block.expand, block.expand_norm))
        self.depthwise = block.depthwise
        _set(self.depthwise, *fold_norm(block.depthwise, block.depthwise_norm))
        self.reduce: nn.Linear | None = None
        self.restore: nn.Linear | None = None
        self.shortcut: nn.Linear | None = None
        if block.squeeze is not None:
            self.reduce, self.restore = _gate_layers(block.squeeze)
        self.project = _linear(*fold_norm(block.project, block.project_norm))
        if block.shortcut is not None and block.shortcut_norm is not None:
            self.shortcut = _linear(*fold_norm(block.shortcut, block.shortcut_norm))

    def tensors(self) -> BlockTensors:
        """Return what the layers hold now."""
        gate = None
        if self.reduce is not None and self.restore is not None:
            gate = _tensors(self.reduce) + _tensors(self.restore)
        return BlockTensors(
            _tensors(self.expand),
            _tensors(self.depthwise),
            self.depthwise.stride[1],
            gate,
            None if self.shortcut is None else _tensors(self.shortcut),
            _tensors(self.project),
        )


def run_block(features: Tensor, block: BlockTensors, use_onednn: bool) -> Tensor:
    """(B, T, H, W, in) -> (B, T, H/stride, W/stride, out)."""
    stride = block.stride
    inner = pointwise(features, *block.expand, "relu", use_onednn)
    if block.gate is None:
        inner = depthwise(inner, *block.depthwise, stride, "swish", use_onednn)
    else:
        inner = depthwise(inner, *block.depthwise, stride, "none", use_onednn)
        inner = silu(squeeze_and_excite(inner, *block.gate), inplace=True)
    if block.shortcut is not None:
        features = features[:, :, ::stride, ::stride].contiguous()
        features = pointwise(features, *block.shortcut, "none", use_onednn)
    return pointwise(inner, *block.project, "none", use_onednn).add_(features).relu_()


def pointwise(
    features: Tensor, weight: Tensor, bias: Tensor, after: After, use_onednn: bool
) -> Tensor:
    """(B, T, H, W, C) -> (B, T, H, W, C'): a linear layer at every position, then `after`."""
    if use_onednn:
        out: Tensor = _onednn_linear(features, weight, bias, after, [], "")
        return out
    return _activate(linear(features, weight, bias), after)


def depthwise(
    features: Tensor, weight: Tensor, bias: Tensor, stride: int, after: After, use_onednn: bool
) -> Tensor:
    """(B, T, H, W, C) -> (B, T, H/stride, W/stride, C): 3x3x3, padded by 1, then `after`."""
    images, groups = features.permute(0, 4, 1, 2, 3), features.shape[-1]
    ones, strides = [1, 1, 1], [1, stride, stride]
    out: Tensor
    if use_onednn:
        out = _onednn_convolution(
            images, weight, bias, ones, strides, ones, groups, after, [], ""
        )  # fmt: skip
    else:
        out = _activate(conv3d(images, weight, bias, strides, ones, ones, groups), after)
    return out.permute(0, 2, 3, 4, 1)


def squeeze_and_excite(
    features: Tensor, reduce: Tensor, reduce_bias: Tensor, restore: Tensor, restore_bias: Tensor
) -> Tensor:
    """Multiply (B, T, H, W, C) in place by a factor between 0 and 1 for each clip and channel."""
    rows = features.flatten(1, 3)  # (B, T * H * W, C)
    squeezed = linear(rows.mean(1), reduce, reduce_bias).relu_()
    factors = linear(squeezed, restore, restore_bias).sigmoid_()
    return rows.mul_(factors.unsqueeze(1)).view(features.shape)


def _activate(features: Tensor, after: After) -> Tensor:
    if after == "relu":
        return features.relu_()
    return silu(features, inplace=True) if after == "swish" else features


def _takes_onednn(clips: Tensor) -> bool:
    """Say whether oneDNN's own functions are to compute with these clips.

    Not in a program that is traced: it is for other runtimes, and its weights are its layers'.
    """
    return (
        _ONEDNN
        and not torch.compiler.is_compiling()
        and clips.dtype == torch.float32
        and clips.device.type == "cpu"
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
    )


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a linear layer of the weights (C', C, 1, 1, 1) and bias (C',) of a convolution.

    Output channels lie last in memory, as oneDNN's matrix product reads them.
    """
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    turned = weight.detach().flatten(1).t().contiguous().t()
    layer.weight = nn.Parameter(turned, requires_grad=False)
    layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def _tensors(layer: nn.Linear | nn.Conv3d) -> Layer:
    assert layer.bias is not None
    return layer.weight, layer.bias


def _detached(tensors: TensorsT) -> TensorsT:
    return cast(TensorsT, tuple(tensor.detach() for tensor in tensors))


def _gate_layers(squeeze: SqueezeExcite) -> tuple[nn.Linear, nn.Linear]:
    reduce, restore = squeeze.reduce, squeeze.restore
    assert reduce.bias is not None and restore.bias is not None
    return _linear(reduce.weight, reduce.bias), _linear(restore.weight, restore.bias)


def _set(convolution: Convolution, weight: Tensor, bias: Tensor) -> None:
    convolution.weight = nn.Parameter(weight.detach(), requires_grad=False)
    convolution.bias = nn.Parameter(bias.detach(), requires_grad=False)
