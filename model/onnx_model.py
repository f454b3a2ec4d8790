"""Image tower and head in one ONNX file: a picture tensor goes in, probabilities come out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from model.classifier import MultiLabelHead
from model.encoder import EncoderConfig, EncoderMismatch, encoder_id, load_encoder, tower_file
from model.errors import ModelError

_MOST_DIFFERENCE = 1e-3
"""Between the file's probabilities and those of torch and the head, on noise."""


class ExportFailed(ModelError):
    """The file does not answer as the model does; nothing was written."""


def export_onnx(head: MultiLabelHead, config: EncoderConfig, version: str) -> bytes:
    """Return the model as ONNX, checked against the encoder's own embeddings and the head.

    Input "pixels": uint8 (B, height, width, 3), cropped and resized as the encoder wants. Output
    "probabilities": float32 (B, L). Labels, thresholds, the encoder's id and the version stand in
    the file's metadata as JSON. EncoderMismatch is raised for an encoder that is not the head's.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    if encoder_id(config) != head.encoder_id:
        raise EncoderMismatch(
            f"the head reads embeddings of {head.encoder_id}, not of {encoder_id(config)}: export "
            "it with the encoder that it was trained on"
        )
    model = onnx.load(tower_file(config))
    (embedding,) = model.graph.output
    weight = np.ascontiguousarray(head.weight_LD.T, np.float32)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(weight, "head.weight"),
            numpy_helper.from_array(head.bias_L.astype(np.float32), "head.bias"),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("Gemm", [embedding.name, "head.weight", "head.bias"], ["head.logits"]),
            helper.make_node("Sigmoid", ["head.logits"], ["probabilities"]),
        ]
    )
    batch = embedding.type.tensor_type.shape.dim[0].dim_param or "batch"
    del model.graph.output[:]
    model.graph.output.append(
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, len(head.labels)])
    )
    helper.set_model_props(model, {"cratedig": json.dumps(about_model(head, version))})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    _compare(data, head, config)
    return data


def about_model(head: MultiLabelHead, version: str) -> dict[str, object]:
    """Return what an exported file says of itself."""
    return {
        "labels": head.labels,
        "thresholds": [float(each) for each in head.thresholds_L],
        "encoder_id": head.encoder_id,
        "version": version,
    }


def write_export(path: Path, data: bytes) -> None:
    """Write the file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def _compare(data: bytes, head: MultiLabelHead, config: EncoderConfig) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    _, height, width, _ = session.get_inputs()[0].shape
    noise = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    (found,) = session.run(["probabilities"], {"pixels": noise})
    expected = head.scores(load_encoder(config).encode_pixels(noise))
    difference = float(np.abs(found - expected).max())
    if not difference <= _MOST_DIFFERENCE:
        raise ExportFailed(
            f"the exported model differs from {head.encoder_id} and its head by {difference:.1e} "
            f"where {_MOST_DIFFERENCE:.0e} is allowed: report this with the encoder's name"
        )
