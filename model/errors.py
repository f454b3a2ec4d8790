"""What can go wrong in this room and is told to the user as it stands.

ModelError                one sentence: what, which, and what to do
├── EncoderUnavailable    the encoder cannot be loaded (model/encoder.py)
├── EncoderMismatch       vectors of two encoders were about to be compared (model/encoder.py)
├── TooFewExamples        a label cannot be learned and measured yet (model/train.py)
└── CheckpointInvalid     files are not those of one whole model (model/checkpoint.py)
"""

from __future__ import annotations


class ModelError(Exception):
    """An error of the room `model` that is told to the user as one sentence."""
