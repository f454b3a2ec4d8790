"""Pictures a CPU-second of our image towers against plain open_clip in eager torch.

Architectures with seeded random weights: speed does not depend on them, and the published
weights need a hub. Both sides encode the same preprocessed batch on one thread, in turn, pair by
pair. "Ours" is the fastest backend that agrees with the reference (cosine >= 0.99), as
`backend = "auto"` takes it; agreement on trained weights is for that to judge.

The share of the machine's peak is what torch's product of two 1024 x 1024 float32 matrices reaches
on one thread; operations of the towers are counted by torch. Products of 8 bits can go beyond 1.

End to end is `flows.prelabel.embed_shard`: photographs read from an object store on loopback,
decoded and resized in other processes, encoded, and their vectors committed. Model-only is the same
encoder on the same pixels, decoded before the clock starts, on the same cores: so what decoding
costs is lost where there is no core to spare, and its share of the CPU seconds says how much.

    make bench-encode                  the CPU: about five minutes
    ARCHITECTURES="ViT-B-32 ViT-B-16 RN50 MobileCLIP2-S0" PAIRS=5 make bench-encode
                                       the issue's four: twelve minutes
    make bench-encode DEVICE=cuda      in bfloat16 on a GPU

On a GPU there are three figures an architecture: pictures a second of the model alone, with and
without torch.compile, batches as large as memory takes; and, end to end, the share of the time in
which the GPU computed, by torch's profiler.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from crawler.decode import decode
from flows.prelabel import EMBED_SHARD_IMAGES, embed_shard
from model.clip_files import Backend
from model.device_tower import DeviceTower
from model.encoder import ClipEncoder, EncoderConfig, load_encoder
from tests.bench.device_time import busy_share
from tests.bench.report import FOLDER, Row, cpu_seconds, in_turn, write
from tests.bench.stored import photographs_in_store

ARCHITECTURES = ("ViT-B-32", "RN50", "MobileCLIP2-S0")
TARGETS = {"ViT-B-32": 1.6}
PAIRS = int(os.environ.get("PAIRS", "3"))
BATCH = 8
END_TO_END, END_TO_END_PAIRS = "ViT-B-32", 3
PHOTOGRAPHS = EMBED_SHARD_IMAGES // 2
"""Half a shard: starting the processes that decode is a cost of every shard."""
CUDA_BATCHES = 20


def main() -> None:
    """Measure, print the table and write `.bench/encode.json`."""
    arguments = argparse.ArgumentParser()
    # Where make's DEVICE=cuda arrives.
    device = os.environ.get("DEVICE", "cpu")
    arguments.add_argument("--device", choices=("cpu", "cuda"), default=device)
    chosen = os.environ.get("ARCHITECTURES", "").split() or ARCHITECTURES
    arguments.add_argument("architectures", nargs="*", default=chosen)
    given = arguments.parse_args()
    if given.device == "cuda":
        if not torch.cuda.is_available():
            sys.exit("DEVICE=cuda needs a CUDA device, and torch finds none on this machine")
        rows = [row for name in given.architectures for row in _on_cuda(name)]
        write("encode-cuda", rows, runs=PAIRS, notes=torch.cuda.get_device_name())
        return
    torch.set_num_threads(1)
    peak = _peak_flops()
    rows = [Row(name="peak: float32 product, one thread", unit="GFLOP/s", value=peak / 1e9)]
    for name in given.architectures:
        rows += _on_cpu(name, peak)
    if END_TO_END in given.architectures:
        rows += _end_to_end()
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


def _end_to_end() -> list[Row]:
    """Return what reading, decoding and storing cost beside encoding, pair by pair."""
    config = dataclasses.replace(_seeded(END_TO_END), backend="onnx-int8", threads=None)
    encoder = load_encoder(config)
    with photographs_in_store(PHOTOGRAPHS) as workspace:
        sha256s = sorted(workspace.catalog.sha256s())
        decoded = [
            encoder.preprocessing.pixels(decode(workspace.catalog.read_image_bytes(sha256)))
            for sha256 in sha256s
        ]
        batches = [np.stack(decoded[at : at + BATCH]) for at in range(0, len(decoded), BATCH)]
        spent: dict[str, list[tuple[float, float]]] = {"ours": [], "model": []}

        def timed(kind: str, work: Callable[[], object]) -> float:
            started, before = time.perf_counter(), cpu_seconds()
            work()
            spent[kind].append((time.perf_counter() - started, cpu_seconds() - before))
            return len(sha256s) / spent[kind][-1][0]

        def whole() -> float:
            # A table of its own each time: what is there already would not be written.
            encoder.id = f"bench-{len(spent['ours'])}"
            return timed("ours", lambda: embed_shard(workspace, encoder, sha256s))

        def model_only() -> float:
            return timed("model", lambda: [encoder.encode_pixels(batch) for batch in batches])

        model_only()
        spent["model"].clear()
        ours, model = in_turn(whole, model_only, END_TO_END_PAIRS)
    pairs = list(zip(spent["model"], spent["ours"], strict=True))
    name = f"{END_TO_END}, onnx-int8, end to end"
    return [
        Row(
            name=f"{name} (rival: the model alone)",
            unit="pictures/s",
            value=statistics.median(ours),
            rival=statistics.median(model),
        ),
        Row(
            name=f"{name}, of the model alone",
            unit="of the wall clock",
            value=statistics.median(alone[0] / all_[0] for alone, all_ in pairs),
            target=0.85,
        ),
        Row(
            name=f"{name}, of the model alone",
            unit="of the CPU seconds",
            value=statistics.median(alone[1] / all_[1] for alone, all_ in pairs),
        ),
    ]


def _on_cuda(name: str) -> list[Row]:
    """Return the model's own speed, compiled and not, and how much of the time it is busy."""
    encoder = load_encoder(dataclasses.replace(_seeded(name), backend="torch-bf16"))
    size = encoder.batch_size
    pixels = np.resize(_pixels(encoder), (size, *encoder.preprocessing.size, 3))
    tower = DeviceTower(
        encoder._model, encoder.preprocessing, torch.device("cuda"), batch_size=size, at_once=2
    )
    tower._visual.compile()

    def rate(encoder: ClipEncoder) -> float:
        started = time.perf_counter()
        for _ in encoder.encode_in_turn(itertools.repeat(pixels, CUDA_BATCHES)):
            pass
        return CUDA_BATCHES * size / (time.perf_counter() - started)

    compiled = copy.copy(encoder)
    compiled._made = tower
    rate(encoder)
    rate(compiled)
    eager_rates, compiled_rates = in_turn(lambda: rate(encoder), lambda: rate(compiled), PAIRS)
    with photographs_in_store(EMBED_SHARD_IMAGES) as workspace:
        sha256s = sorted(workspace.catalog.sha256s())
        busy, taken_s = busy_share(lambda: embed_shard(workspace, encoder, sha256s), "cuda")
    return [
        Row(
            name=f"{name}, torch-bf16, batches of {size} (rival: with torch.compile)",
            unit="pictures/s",
            value=statistics.median(eager_rates),
            rival=statistics.median(compiled_rates),
        ),
        Row(
            name=f"{name}, torch-bf16, end to end",
            unit="pictures/s",
            value=len(sha256s) / taken_s,
        ),
        Row(
            name=f"{name}, torch-bf16, end to end, the GPU computes",
            unit="of the wall clock",
            value=busy,
            target=0.9,
        ),
    ]


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
