"""Pictures a CPU-second of our image towers against plain open_clip in eager torch.

Four architectures with seeded random weights: speed does not depend on them, and the published
weights need a hub. Both sides encode the same preprocessed batch on one thread, in turn, pair by
pair. "Ours" is the fastest backend that agrees with the reference (cosine >= 0.99), as
`backend = "auto"` takes it; agreement on trained weights is for that to judge.

The share of the machine's peak is what torch's product of two 1024 x 1024 float32 matrices reaches
on one thread; operations of the towers are counted by torch. Products of 8 bits can go beyond 1.

    make bench-encode                  the CPU
    make bench-encode DEVICE=cuda      pictures a second in bfloat16 on a GPU
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from model.clip_files import Backend
from model.encoder import ClipEncoder, EncoderConfig, load_encoder
from tests.bench.report import FOLDER, Row, cpu_seconds, in_turn, write

ARCHITECTURES = ("ViT-B-32", "ViT-B-16", "RN50", "MobileCLIP2-S0")
TARGETS = {"ViT-B-32": 1.6}
PAIRS = 5
BATCH = 8


def main() -> None:
    """Measure, print the table and write `.bench/encode.json`."""
    arguments = argparse.ArgumentParser()
    # Where make's DEVICE=cuda arrives.
    device = os.environ.get("DEVICE", "cpu")
    arguments.add_argument("--device", choices=("cpu", "cuda"), default=device)
    arguments.add_argument("architectures", nargs="*", default=ARCHITECTURES)
    given = arguments.parse_args()
    if given.device == "cuda":
        write("encode-cuda", [_on_cuda(name) for name in given.architectures], runs=PAIRS)
        return
    torch.set_num_threads(1)
    peak = _peak_flops()
    rows = [Row(name="peak: float32 product, one thread", unit="GFLOP/s", value=peak / 1e9)]
    for name in given.architectures:
        rows += _on_cpu(name, peak)
    write("encode", rows, runs=PAIRS, notes=f"batches of {BATCH}, one thread, seeded weights")


def _on_cpu(name: str, peak: float) -> list[Row]:
    config = _seeded(name)
    model = open_clip.create_model(name, pretrained=str(config.checkpoint)).eval()
    reference = load_encoder(config)
    pixels = _pixels(reference)
    batch_BCHW = _as_open_clip(reference, pixels)
    flops = _flops(model, batch_BCHW) / BATCH

    def plain() -> float:
        with torch.inference_mode():
            return _rate(lambda: model.encode_image(batch_BCHW, normalize=True))

    np.save(config.cache / "calibration.npy", pixels)
    expected = reference.encode_pixels(pixels)
    backends: list[tuple[str, Backend, Path | None]] = [
        ("onnx", "onnx", None),
        ("onnx-int8", "onnx-int8", None),
        ("onnx-int8, calibrated", "onnx-int8", config.cache / "calibration.npy"),
    ]
    rows = []
    for shown, backend, calibration in backends:
        encoder = load_encoder(
            dataclasses.replace(config, backend=backend, calibration=calibration)
        )
        cosine = float((encoder.encode_pixels(pixels) * expected).sum(axis=1).mean())
        ours, theirs = in_turn(
            functools.partial(_rate, functools.partial(encoder.encode_pixels, pixels)), plain, PAIRS
        )
        rows.append(
            Row(
                name=f"{name}, {shown} (cosine {cosine:.4f})",
                unit="pictures/CPU-s",
                value=statistics.median(ours),
                rival=statistics.median(theirs),
                ratio=statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
            )
        )
        if cosine < 0.99:
            rows[-1] = dataclasses.replace(rows[-1], name=f"{rows[-1].name}, does not agree")
    best = max(
        (row for row in rows if "does not agree" not in row.name), key=lambda row: row.ratio or 0
    )
    assert best.ratio is not None
    assert best.rival is not None
    return [
        *rows,
        Row(
            name=f"{name}, fastest that agrees",
            unit="times open_clip",
            value=best.ratio,
            target=TARGETS.get(name),
        ),
        Row(
            name=f"{name}, share of peak",
            unit="",
            value=best.value * flops / peak,
            rival=best.rival * flops / peak,
        ),
    ]


def _on_cuda(name: str) -> Row:
    encoder = load_encoder(dataclasses.replace(_seeded(name), backend="torch-bf16"))
    pixels = np.repeat(_pixels(encoder), 32, axis=0)

    def once() -> float:
        started = time.perf_counter()
        encoder.encode_pixels(pixels)
        return len(pixels) / (time.perf_counter() - started)

    once()
    rates = [once() for _ in range(PAIRS)]
    return Row(name=f"{name}, torch-bf16", unit="pictures/s", value=statistics.median(rates))


def _seeded(name: str) -> EncoderConfig:
    """Return the architecture with random weights, the same on every run."""
    folder = FOLDER / "encode" / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "seeded.safetensors"
    if not weights.exists():
        torch.manual_seed(0)
        model = open_clip.create_model(name, load_weights=False)
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, folder / "unfinished")
        (folder / "unfinished").replace(weights)
    return EncoderConfig(model=name, checkpoint=weights, cache=folder, threads=1)


def _pixels(encoder: ClipEncoder) -> NDArray[np.uint8]:
    """Return a batch of smooth noise: more like photographs than white noise is."""
    height, width = encoder.preprocessing.size
    coarse = np.random.default_rng(0).integers(0, 256, (BATCH, 3, 8, 8)).astype(np.float32)
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(coarse), size=(height, width), mode="bicubic"
    )
    pixels: NDArray[np.uint8] = fine.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy().copy()
    return pixels


def _as_open_clip(encoder: ClipEncoder, pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Return what open_clip's transform makes of such pixels."""
    image_BCHW = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    mean, std = (
        torch.tensor(each).reshape(1, 3, 1, 1)
        for each in (encoder.preprocessing.mean, encoder.preprocessing.std)
    )
    return (image_BCHW - mean) / std


def _flops(model: torch.nn.Module, batch_BCHW: torch.Tensor) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.encode_image(batch_BCHW)  # type: ignore[operator] # open_clip's, which torch cannot know
    return float(counter.get_total_flops())


def _rate(encode: Callable[[], object]) -> float:
    """Return pictures a CPU-second of the better of two batches."""
    spent = []
    for _ in range(2):
        before = cpu_seconds()
        encode()
        spent.append(cpu_seconds() - before)
    return BATCH / min(spent)


def _peak_flops() -> float:
    side = 1024
    a, b = torch.randn(side, side), torch.randn(side, side)
    spent = []
    for _ in range(20):
        before = cpu_seconds()
        torch.mm(a, b)
        spent.append(cpu_seconds() - before)
    return 2 * side**3 / min(spent)


if __name__ == "__main__":
    main()
