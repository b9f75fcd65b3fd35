"""The parts of the GPU report (gpu_report.py): each measures, and tells its rows one by one."""

from __future__ import annotations

import copy
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gpu_streams import TINY, streams
from torch import Tensor
from x3d_speed import with_stock_layers

from detection.bounds import MOST_WORKERS
from detection.config import load_config
from detection.cores import memory_limit_bytes, usable_cores
from detection.datasets.loader import ClipLoader
from detection.demo.generate import generate_demo
from detection.demo.parameters import DemoParameters
from detection.engine import runs
from detection.engine.environment import describe_environment
from detection.engine.run_folder import only_run
from detection.models.convolutions import Convolution
from detection.models.inference import FoldedTrunk
from detection.models.timing import time_and_memory
from detection.models.x3d import VARIANTS, X3DTrunk

if TYPE_CHECKING:
    from gpu_report import Row, Settings

    Tell = Callable[[Row], object]

NO_CUDA = "not measured: no CUDA device"
BATCHES = {"xs": 64, "s": 32, "m": 16}
TINY_DEMO = DemoParameters(num_train=2, num_val=2, keyframes=2, width=160, height=120, fps=10)
CUDA_ONLY = ("compiled", "graphed")
PLAIN = ClipLoader.__iter__

__all__ = ["streams"]  # besides the parts below


def machine(settings: Settings, tell: Tell) -> None:
    """Tell what the figures are of."""
    found = describe_environment(sys.argv, 0)
    device = torch.device(settings.device)
    rows: list[tuple[str, object]] = [
        ("device", settings.device),
        ("commit", found["commit"] or "not known"),
        ("processor", found["processor"]),
        ("cores this process may use", usable_cores()),
        ("memory, GiB", round((memory_limit_bytes() or 0) / 2**30, 1) or "not known"),
        *((f"version of {name}", version or "none") for name, version in found["packages"].items()),
        ("TF32 in cuDNN", torch.backends.cudnn.allow_tf32),
        ("TF32 in matrix products", torch.backends.cuda.matmul.allow_tf32),
        ("cuDNN tries its algorithms", torch.backends.cudnn.benchmark),
    ]
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        rows += [
            ("GPU", facts.name),
            ("compute capability", f"{facts.major}.{facts.minor}"),
            ("GPU memory, GiB", round(facts.total_memory / 2**30, 1)),
            ("CUDA", torch.version.cuda),
            ("cuDNN", torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        ]
    else:
        rows.append(("GPU", NO_CUDA))
    for what, value in rows:
        tell({"what": what, "found": value})


def bandwidth(settings: Settings, tell: Tell) -> None:
    """Tell how fast memory of the device is copied: bytes read and written."""
    device = torch.device(settings.device)
    size = 2**22 if settings.dry_run else 2**30
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds, _ = time_and_memory(lambda: target.copy_(source), device=device, repeats=9)
    tell({"copied, MiB": size / 2**20, "GB/s": 2 * size / seconds / 1e9})


@dataclass(frozen=True)
class Contender:
    """A way to compute the same network.

    layers: "stock", which are PyTorch's own, or "ours": of a forward pass those of inference; in
    training they run the same kernels on a GPU.
    bf16: under autocast, else float32.
    last: clips and weights in channels_last_3d.
    how: "eager", "compiled" (torch.compile) or "graphed" (a CUDA graph).
    """

    layers: str
    bf16: bool
    last: bool
    how: str = "eager"

    @property
    def name(self) -> str:
        """Its name in tables."""
        parts = [self.layers, "bf16" if self.bf16 else "fp32"]
        return ", ".join(parts + ["channels last"] * self.last + [self.how] * (self.how != "eager"))


CONTENDERS = (
    *(Contender(layers, bf16, last) for bf16 in (False, True) for last in (False, True)
      for layers in ("stock", "ours")),
    Contender("ours", bf16=False, last=True, how="graphed"),
    Contender("ours", bf16=True, last=True, how="graphed"),
)  # fmt: skip
COMPILED = (Contender("ours", bf16=True, last=True, how="compiled"),)


def network(variant: str, contenders: Sequence[Contender], settings: Settings, tell: Tell) -> None:
    """Tell milliseconds a clip of forward pass and training step, by contender."""
    device, failed = chosen_device(settings), []
    shape, batch = (TINY, 2) if settings.dry_run else (VARIANTS[variant], BATCHES[variant])
    torch.manual_seed(0)
    trunk = X3DTrunk(shape)
    stock = with_stock_layers(trunk)
    side = shape.train_crop
    clips = torch.randn(batch, 3, shape.num_frames, side, side)
    least = least_values(trunk, clips[:1])
    for work in ("forward", "training step"):
        for contender in contenders:
            row: Row = {"work": work, "contender": contender.name, "batch": batch}
            if contender.how in CUDA_ONLY and device.type != "cuda":
                tell(row | {"ms a clip": NO_CUDA})
                continue
            network = stock if contender.layers == "stock" else trunk
            begun = time.perf_counter()
            try:
                call = prepared(network, clips, contender, work, device)
                once, peak_mb = time_and_memory(call, device=device, repeats=1)
                repeats = max(1, min(15, int(1 / once)))
                if not settings.dry_run:
                    once, _ = time_and_memory(call, device=device, repeats=repeats)
            except Exception as error:  # of one contender: the others are measured all the same
                lines = str(error).strip().splitlines()
                said = f"failed: {type(error).__name__}: {lines[0] if lines else ''}"
                tell(row | {"ms a clip": said[:200]})
                failed.append(f"{work} of {contender.name} {said}")
                continue
            spent = time.perf_counter() - begun
            row |= {"ms a clip": 1e3 * once / batch, "clips/s": batch / once}
            if peak_mb is not None and device.type == "cuda" and contender.how != "graphed":
                row["peak MB a clip"] = peak_mb / batch
            speed = measured_bandwidth(settings)
            if work == "forward" and speed:
                moved = batch * least * (2 if contender.bf16 else 4)
                row["share of copy bandwidth"] = moved / once / speed
            tell(row | {"seconds of measuring": spent})
            del call
            if device.type == "cuda":
                gc.collect()  # graphs hold their memory
                torch.cuda.empty_cache()
    if failed:
        raise RuntimeError(f"{len(failed)} of {2 * len(contenders)} failed, first {failed[0]}")


def chosen_device(settings: Settings) -> torch.device:
    """Return the device; make a GPU the current one."""
    device = torch.device(settings.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


network_xs = partial(network, "xs", CONTENDERS)
network_s = partial(network, "s", CONTENDERS)
network_m = partial(network, "m", CONTENDERS)
compiled_xs = partial(network, "xs", COMPILED)
compiled_s = partial(network, "s", COMPILED)
compiled_m = partial(network, "m", COMPILED)


def least_values(trunk: X3DTrunk, clip: Tensor) -> int:
    """Return the numbers that a forward pass must read and write: each convolution's maps."""
    moved = 0

    def count(_: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += inputs[0].numel() + output.numel()

    trunk = copy.deepcopy(trunk).train()  # in training mode every layer is called as it is
    for layer in trunk.modules():
        if isinstance(layer, Convolution):
            layer.register_forward_hook(count)
    with torch.no_grad():
        trunk(clip)
    return moved


def measured_bandwidth(settings: Settings) -> float:
    """Return bytes a second as `bandwidth` measured them; 0: it did not."""
    path = Path(settings.folder) / "bandwidth.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return 1e9 * json.loads(lines[0])["GB/s"] if lines else 0.0


def prepared(
    trunk: X3DTrunk, clips: Tensor, contender: Contender, work: str, device: torch.device
) -> Callable[[], object]:
    """Return what computes the clips once, on the device."""
    form = torch.channels_last_3d if contender.last else torch.contiguous_format
    model = copy.deepcopy(trunk).train(work != "forward")
    if work == "forward" and contender.layers == "ours":
        model = FoldedTrunk(model)
    model = model.to(device).to(memory_format=form)
    given = clips.to(device).contiguous(memory_format=form)
    module: Callable[[Tensor], Tensor] = model
    if contender.how == "compiled":
        module = torch.compile(model)

    def autocast() -> torch.autocast:
        return torch.autocast(  # a graph must not keep weights that were cast outside it
            device.type, torch.bfloat16, enabled=contender.bf16,
            cache_enabled=contender.how != "graphed",
        )  # fmt: skip

    def forward() -> object:
        with torch.inference_mode(contender.how != "compiled"), torch.no_grad(), autocast():
            return module(given)

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = module(given).float().square().mean()
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    call = forward if work == "forward" else step
    return graphed(call) if contender.how == "graphed" else call


def graphed(call: Callable[[], object]) -> Callable[[], object]:
    """Return what replays the kernels of a call (after PyTorch's notes on CUDA graphs)."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay() -> object:
        graph.replay()
        return kept

    return replay


def data(settings: Settings, tell: Tell) -> None:
    """Draw the demo's videos."""
    parameters = TINY_DEMO if settings.dry_run else DemoParameters()
    begun, workers = time.perf_counter(), 0 if settings.dry_run else usable_cores()
    generate_demo(Path(settings.folder) / "demo", parameters, workers=workers)
    videos = parameters.num_train + parameters.num_val
    tell({"videos": videos, "processes": workers, "seconds": time.perf_counter() - begun})


DEMO_SIZES = ["model.width_factor=1.0", "model.depth_factor=1.0", "clip.train_crop_px=32",
              "clip.train_short_side_px=[32,40]", "clip.test_short_side_px=32"]  # fmt: skip
LARGE = ["model.variant=m", "model.res5_stride=2", "clip.num_frames=16", "clip.step=5",
         "clip.train_crop_px=224", "clip.train_short_side_px=[256,320]",
         "clip.test_short_side_px=256", "optim.batch_size=16"]  # fmt: skip


def train(settings: Settings, name: str, overrides: Sequence[str], *, score: bool) -> Path:
    """Train the demo's action detector as train_ava.py does; return its run folder."""
    folder = Path(settings.folder)
    if not (folder / "demo" / "dataset.yaml").exists():
        raise FileNotFoundError("the demo's data are not there: part `data` makes them")
    where = [f"data.root={folder / 'demo'}", f"output={folder / name}"]
    workers = 0 if settings.dry_run else min(usable_cores(), MOST_WORKERS)
    how = [f"device={chosen_device(settings).type}", f"workers={workers}"]
    size = DEMO_SIZES if settings.dry_run else []
    people = ["data.val_boxes=ground-truth", "evaluation.every_epochs=1000"]
    config = load_config("demo_x3d_xs", [*size, *where, *how, *people, *overrides])
    with only_run(folder / name):
        run, training = runs.start(config, overwrite=True)
        if score:
            runs.train_and_report(run, training)
        else:
            runs.train(run, training)
    return folder / name


def loading(settings: Settings, tell: Tell) -> None:
    """Tell clips a second of training with the loader, and with one batch over and over."""
    sizes = {"XS, 4 x 96": [], "M, 16 x 224": [] if settings.dry_run else LARGE}
    for size, overrides in sizes.items():
        for loader in (True, False):
            ClipLoader.__iter__ = PLAIN if loader else one_batch  # type: ignore[method-assign]
            name = f"loading_{size[0].lower()}_{'with' if loader else 'without'}"
            run = train(settings, name, [*overrides, "optim.epochs=2"], score=False)
            lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
            log = [json.loads(line) for line in lines]
            last = [line for line in log if line["event"] == "epoch"][-1]  # the first one warms up
            tell(
                {
                    "network": size,
                    "clips": "of the loader" if loader else "one batch, repeated",
                    "clips/s": last["clips_per_second"],
                    "share of time waiting for clips": last["shares"].get("data"),
                }
            )


def one_batch(loader: ClipLoader[Any]) -> Iterator[Any]:
    """Yield the first batch as often as the loader has batches; it is read once."""
    if not hasattr(loader, "first_batch"):
        loader.first_batch = next(PLAIN(loader))  # type: ignore[attr-defined]
    for _ in range(len(loader)):
        yield loader.first_batch  # type: ignore[attr-defined]


def demo(settings: Settings, tell: Tell) -> None:
    """Tell frame-mAP of the demo, trained as `make demo` does but for people, who are given."""
    begun = time.perf_counter()
    epochs = ["optim.epochs=1"] if settings.dry_run else []
    run = train(settings, "demo_run", epochs, score=True)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    tell(
        {
            "frame-mAP (ground-truth boxes)": metrics["mean_ap"],
            "protocol": metrics["protocol"],
            "seconds of training and scoring": time.perf_counter() - begun,
        }
    )
