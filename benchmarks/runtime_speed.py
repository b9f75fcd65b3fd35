"""Processor time a clip of X3D by each runtime that is installed, in one process, in turn.

python benchmarks/runtime_speed.py --variants xs m --rounds 5

Contenders, all of which take one clip of the variant's crop and give logits of 400 classes:
  pytorchvideo   its own X3D in eval mode, from normalised floats (where it is installed)
  torch          this project's network as it is opened, from bytes; so are the others
  onnxruntime    its export to ONNX
  openvino       its export to OpenVINO, in float32, and in bfloat16 where the processor has it
Rounds alternate; medians of the processor time of all threads, of which each has --threads. The
last columns are the time as a share of torch's, and pytorchvideo's as a multiple of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from detection.build import place_model
from detection.checkpoints.file import read_model_file, save_model_file
from detection.checkpoints.load import describe_network, load_network
from detection.checkpoints.network_file import kinetics_classes
from detection.export.card import processor_flags
from detection.export.make import export_network
from detection.export.networks import open_exported
from detection.export.runtimes import describe_runtime, has_bfloat16
from detection.export.session import Precision, Threads
from detection.models.classifier import build_classifier
from detection.models.inference import prepare_for_inference
from detection.models.timing import describe_device
from detection.models.x3d import VARIANTS

Call = Callable[[], object]


def pytorchvideo_network(variant: str) -> nn.Module:
    """Return pytorchvideo's network of the same shapes, random weights, in eval mode."""
    from pytorchvideo.models.x3d import create_x3d

    numbers = VARIANTS[variant]
    network: nn.Module = create_x3d(
        input_clip_length=numbers.num_frames,
        input_crop_size=numbers.train_crop,
        depth_factor=numbers.depth_factor,
        head_activation=None,
    )
    return network.eval()


def contenders(variant: str, clip: Tensor, threads: int, folder: Path) -> dict[str, Call]:
    """Return what runs one clip (1, 3, T, H, W) of bytes, by name."""
    torch.manual_seed(0)
    numbers = VARIANTS[variant]
    model = build_classifier(numbers)
    path = folder / "checkpoints" / "last.pt"
    save_model_file(
        path,
        model.state_dict(),
        network=describe_network(model),
        classes=kinetics_classes(),
        sampling=numbers.sampling,
        short_side_px=numbers.train_crop,
    )
    file = read_model_file(path)
    network = prepare_for_inference(place_model(load_network(file), torch.device("cpu")))
    calls: dict[str, Call] = {}
    if importlib.util.find_spec("pytorchvideo") is not None:
        theirs, floats = pytorchvideo_network(variant), clip.float()
        calls["pytorchvideo"] = lambda: theirs(floats)
    calls["torch"] = lambda: network(clip)
    for package, form in (("onnxruntime", "onnx"), ("openvino", "openvino")):
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed, left out")
            continue
        artefact = export_network(file, folder / form, form)  # type: ignore[arg-type]
        precisions: list[Precision] = ["f32", "bf16"] if has_bfloat16(artefact.form) else ["f32"]
        for precision in precisions:
            program = open_exported(artefact, threads=Threads(threads), precision=precision)
            name = describe_runtime(artefact.form, precision)
            calls[name] = lambda program=program: program(clip)  # type: ignore[misc]
    return calls


def measure(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Return the median processor seconds of each call; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, call in calls.items():
                start = time.process_time()
                call()
                if number:
                    seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["xs", "m"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"{describe_device(torch.device('cpu'))} ({processor_flags()}), torch {torch.__version__}"
    )
    for variant in args.variants:
        numbers = VARIANTS[variant]
        side = numbers.train_crop
        clip = torch.randint(0, 256, (1, 3, numbers.num_frames, side, side)).byte()
        with tempfile.TemporaryDirectory() as folder:
            found = measure(contenders(variant, clip, args.threads, Path(folder)), args.rounds)
        print(f"X3D-{variant.upper()}, {numbers.num_frames} frames of {side} px")
        for name, value in found.items():
            line = f"  {name:32} {1e3 * value:8.1f} ms a clip {value / found['torch']:6.2f}"
            if "pytorchvideo" in found:
                line += f" {found['pytorchvideo'] / value:6.2f}"
            print(line)


if __name__ == "__main__":
    main()
