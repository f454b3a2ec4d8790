"""The image tower on ONNX Runtime: exported once from open_clip's model, kept in a cache folder.

    <cache>/<encoder id>/fp32.onnx    the tower, preprocessing's constants and normalisation included
    <cache>/<encoder id>/int8.onnx    made from it: products of 8 bits; other vectors, so another id

Input "pixels": uint8 (B, H, W, C), B free. Output "embedding": float32 (B, D), unit vectors.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.clip_files import EncoderUnavailable, said
from model.preprocess import Preprocessing
from model.towers import ClipModel, channel_constants

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

_MOST_DIFFERENCE = 1e-4
"""Between the exported model's vectors and torch's; they share an encoder id.

Stored vectors have 16 bits, which round a component near 0.1 by up to 3e-5 and one near 1 by 2.4e-4.
"""

_PROTOBUF_LIMIT_BYTES = 2**31
"""What one file of ONNX can hold; larger weights lie beside it."""

_CALIBRATED_OPERATORS = ["Conv", "MatMul", "Gemm", "Add", "Mul", "Relu", "AveragePool"]
_CALIBRATED_OPERATORS += ["GlobalAveragePool"]


class OnnxTower:
    """An exported image tower on ONNX Runtime's CPU backend."""

    batch_size = 8
    at_once = 1

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        # Threads that wait by spinning take the cores from those that decode pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # it warns of optimisations that it leaves out
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def encode(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors, float32 (B, D)."""
        (vectors_BD,) = self._session.run(None, {"pixels": np.ascontiguousarray(pixels_BHWC)})
        rows: NDArray[np.float32] = vectors_BD
        return rows


def exported(model: ClipModel, preprocessing: Preprocessing, folder: Path, shown: str) -> Path:
    """Return the float32 model in `folder`, exported on first use and compared with `model`.

    Raises EncoderUnavailable when the tower cannot be exported, or says something else afterwards.
    """
    path = folder / "fp32.onnx"
    if not path.exists():
        _log.info("exporting %s to ONNX, once, into %s", shown, folder)
        with _made_whole(path) as unfinished:
            _export(model, preprocessing, unfinished, shown)
            _compare(model, preprocessing, unfinished, shown)
    return path


def quantised(source: Path, folder: Path, calibration: Path | None) -> Path:
    """Return the int8 model in `folder`, made on first use from the float32 one, `source`.

    With `calibration`, pixels uint8 (N, H, W, C), activations are scaled by the ranges that they
    have there; without, as they come, and then convolutions stay in float32 (ONNX Runtime's dynamic
    ones are slower than that). Weights are scaled channel by channel and have 7 bits: with 8, CPUs
    without VNNI add two products in 16 bits and saturate, so that the vectors would depend on the
    machine, and be worse (`model/NOTES.md` has the figures).
    """
    path = folder / "int8.onnx"
    if not path.exists():
        _log.info("quantising %s, once, into %s", source, folder)
        with _made_whole(path) as unfinished, _quiet_export():
            if calibration is None:
                _quantise_as_they_come(source, unfinished)
            else:
                _quantise_by_ranges(source, unfinished, np.load(calibration))
    return path


def _quantise_as_they_come(source: Path, to: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        to,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=_is_large(source),
        extra_options={"MatMulConstBOnly": True},
    )


def _quantise_by_ranges(source: Path, to: Path, pixels_NHWC: NDArray[np.uint8]) -> None:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quant_pre_process,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types here
        def __init__(self) -> None:
            self._left = iter(np.array_split(pixels_NHWC, max(1, len(pixels_NHWC) // 4)))

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self._left, None)
            return None if batch is None else {"pixels": batch}

    fused = to.with_name("fused.onnx")
    # Batch norms go into their convolutions first: quantised apart they cost more than they save.
    quant_pre_process(
        source, fused, skip_symbolic_shape=True, save_as_external_data=_is_large(source)
    )
    quantize_static(
        fused,
        to,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=_CALIBRATED_OPERATORS,
        use_external_data_format=_is_large(source),
    )
    fused.unlink()
    fused.with_name("fused.onnx.data").unlink(missing_ok=True)


def _is_large(path: Path) -> bool:
    data = path.with_name(path.name + ".data")
    beside = data.stat().st_size if data.exists() else 0
    return path.stat().st_size + beside >= _PROTOBUF_LIMIT_BYTES


def _export(model: ClipModel, preprocessing: Preprocessing, path: Path, shown: str) -> None:
    import torch

    tower = _wrapped(model.visual, preprocessing)
    parameters = sum(each.numel() * each.element_size() for each in tower.parameters())
    height, width = preprocessing.size
    example = torch.zeros((2, height, width, 3), dtype=torch.uint8)
    try:
        with _quiet_export():
            program = torch.onnx.export(
                tower,
                (example,),
                input_names=["pixels"],
                output_names=["embedding"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
            assert program is not None  # noqa: S101 - for the type checker: only the old exporter gives none
            program.save(path, external_data=parameters >= _PROTOBUF_LIMIT_BYTES * 0.9)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as error:
        raise EncoderUnavailable(
            f"the image tower of {shown} cannot be exported to ONNX ({said(error)}): "
            "take backend torch"
        ) from error


def _wrapped(visual: torch.nn.Module, preprocessing: Preprocessing) -> torch.nn.Module:
    """Return the tower with the preprocessing's arithmetic before it and normalisation behind it."""
    import torch

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = visual
            mean, std = channel_constants(preprocessing)
            # (x / 255 - mean) / std as one product and one sum.
            self.scale = torch.nn.Buffer(1 / (255 * std))
            self.shift = torch.nn.Buffer(-mean / std)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            image_BCHW = pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift
            return torch.nn.functional.normalize(self.visual(image_BCHW), dim=-1)

    return Tower().eval()


def _compare(model: ClipModel, preprocessing: Preprocessing, path: Path, shown: str) -> None:
    import torch

    height, width = preprocessing.size
    # Three, because two is what the export was shown.
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = _wrapped(model.visual, preprocessing)(torch.from_numpy(pixels)).numpy()
    found = OnnxTower(path).encode(pixels)
    difference = float(np.abs(found - expected).max())
    if not difference <= _MOST_DIFFERENCE:
        raise EncoderUnavailable(
            f"the ONNX export of {shown} differs from the model by {difference:.1e} where "
            f"{_MOST_DIFFERENCE:.0e} is allowed: take backend torch"
        )


@contextlib.contextmanager
def _made_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path`, with what lies beside it, when all is written.

    Of two processes that make the same, the later one's stays; they are alike.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as scratch:
        unfinished = Path(scratch) / path.name
        yield unfinished
        # The model itself comes last: once it is there, its weights are, too.
        for made in sorted(Path(scratch).iterdir(), key=lambda each: each == unfinished):
            made.replace(path.with_name(made.name))


@contextlib.contextmanager
def _quiet_export() -> Iterator[None]:
    """Silence the exporters: their notes on their own insides are for their makers."""
    root = logging.getLogger()
    refuse: Callable[[logging.LogRecord], bool] = lambda _: False  # noqa: E731 - taken off by identity
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    root.addFilter(refuse)
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        # Deprecations inside torch are not the caller's.
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        root.removeFilter(refuse)
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
