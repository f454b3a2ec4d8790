"""The tower for accelerators, as far as a CPU can tell: its arithmetic, its batches, its order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from model.clip_files import Clip, EncoderConfig, resolve
from model.device_tower import MOST_PICTURES, DeviceTower, arranged, pictures_that_fit
from model.encoder import ClipEncoder, built, load_encoder
from model.preprocess import Preprocessing
from model.towers import ClipModel, TorchTower
from tests.bench.device_time import busy_share, covered
from tests.bench.report import ROOT
from tests.model.small_towers import CONVOLUTIONAL, ants_and_bees, small_vit

if TYPE_CHECKING:
    import torch

Built = tuple[ClipModel, Preprocessing]


def cpu() -> torch.device:
    import torch

    return torch.device("cpu")


def model_of(clip: Clip) -> Built:
    model, preprocessing, _ = built(clip)
    return model, preprocessing


@pytest.fixture(scope="module")
def convolutional() -> Built:
    return model_of(resolve(EncoderConfig(checkpoint=CONVOLUTIONAL)))


@pytest.fixture(scope="module", params=["convolutional", "vit"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    if request.param == "convolutional":
        return cast("Built", request.getfixturevalue("convolutional"))
    checkpoint = small_vit(tmp_path_factory.mktemp("towers") / "vit")
    return model_of(resolve(EncoderConfig(checkpoint=checkpoint)))


@pytest.fixture
def pixels(model: Built, shared: Path) -> NDArray[np.uint8]:
    """Twelve photographs as the tower sees them, uint8 (12, H, W, 3)."""
    images, _ = ants_and_bees(shared)
    return np.stack([model[1].pixels(image) for image in images])


def test_bfloat16_says_what_float32_says(model: Built, pixels: NDArray[np.uint8]) -> None:
    """Cosine 0.998 at least, of unit vectors; on the CPU's own bfloat16."""
    reference = TorchTower(*model).encode(pixels)
    got = DeviceTower(*model, cpu()).encode(pixels)
    assert got.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-3)
    assert (got * reference).sum(axis=1).min() >= 0.998
    assert np.abs(got - reference).max() > 1e-5  # it is not float32 after all


def test_weights_are_bfloat16_and_channels_last_and_the_model_stays_as_it_is(
    convolutional: Built,
) -> None:
    import torch

    before = {name: each.dtype for name, each in convolutional[0].visual.named_parameters()}
    there = arranged(convolutional[0].visual, cpu())
    assert {each.dtype for each in there.parameters()} == {torch.bfloat16}
    kernels = [each for each in there.parameters() if each.ndim == 4]
    assert kernels
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in kernels)
    assert {n: p.dtype for n, p in convolutional[0].visual.named_parameters()} == before


@pytest.mark.parametrize(
    ("free_bytes", "expected"),
    [
        (80 * 2**30, MOST_PICTURES),
        (100 * 2**20, 64),  # 80 MiB may be taken
        (81 * 2**20, 64),
        (79 * 2**20, 32),
        (0, 1),
    ],
)
def test_batches_are_sized_to_the_free_memory(free_bytes: int, expected: int) -> None:
    """Of pictures that take a MiB each, four fifths of it at most, in powers of two."""
    assert pictures_that_fit(free_bytes, 2**20) == expected


def test_a_picture_that_takes_nothing_that_can_be_measured_is_no_division_by_zero() -> None:
    assert pictures_that_fit(2**30, 0.0) == MOST_PICTURES


class Small:
    """A model whose tower runs out of memory above `fits` pictures; the rest is a real one's."""

    def __init__(self, real: ClipModel, fits: int) -> None:
        import torch

        self.asked: list[int] = []
        asked = self.asked

        class Visual(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = real.visual

            def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
                asked.append(len(image_BCHW))
                if len(image_BCHW) > fits:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                vectors: torch.Tensor = self.inner(image_BCHW)
                return vectors

            def __deepcopy__(self, memo: object) -> Visual:
                return self  # it remembers what it was asked for

        self.visual = Visual()
        self.logit_scale = real.logit_scale


def test_a_batch_that_does_not_fit_is_halved_and_later_ones_are_smaller(
    convolutional: Built, shared: Path
) -> None:
    """No picture is lost and none changes its place."""
    real, preprocessing = model_of(resolve(EncoderConfig(checkpoint=CONVOLUTIONAL)))
    small = Small(real, fits=3)
    images, _ = ants_and_bees(shared)
    pixels = np.stack([preprocessing.pixels(image) for image in images])
    tower = DeviceTower(cast("ClipModel", small), preprocessing, cpu(), batch_size=12)
    got = tower.encode(pixels)
    assert small.asked == [12, 6, 3, 3, 6, 3, 3]
    assert tower.batch_size == 3
    expected = DeviceTower(*convolutional, cpu()).encode(pixels)
    assert (got * expected).sum(axis=1).min() >= 0.999


def test_one_picture_that_does_not_fit_is_an_error() -> None:
    import torch

    real, preprocessing = model_of(resolve(EncoderConfig(checkpoint=CONVOLUTIONAL)))
    tower = DeviceTower(cast("ClipModel", Small(real, fits=0)), preprocessing, cpu())
    with pytest.raises(torch.OutOfMemoryError):
        tower.encode(np.zeros((2, *preprocessing.size, 3), np.uint8))


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_batches_come_back_in_order_and_only_so_many_are_taken_ahead(
    convolutional: Built, at_once: int
) -> None:
    """Also an empty batch, and with several under way."""
    real = load_encoder(EncoderConfig(checkpoint=CONVOLUTIONAL))
    model, preprocessing = convolutional
    encoder = ClipEncoder(
        encoder_id="any",
        dim=real.dim,
        model=model,
        preprocessing=preprocessing,
        tokenizer=real._tokenizer,
        make_tower=lambda: DeviceTower(model, preprocessing, cpu(), at_once=at_once),
    )
    random = np.random.default_rng(0)
    sizes = [2, 0, 1, 3, 1]
    batches = [
        random.integers(0, 256, (size, *preprocessing.size, 3), dtype=np.uint8) for size in sizes
    ]
    taken: list[int] = []

    def handed_out() -> Iterator[NDArray[np.uint8]]:
        for number, batch in enumerate(batches):
            taken.append(number)
            yield batch

    got = []
    for number, vectors_BD in enumerate(encoder.encode_in_turn(handed_out())):
        assert len(taken) <= number + at_once
        got.append(vectors_BD)
    assert [each.shape for each in got] == [(size, encoder.dim) for size in sizes]
    for batch, vectors_BD in zip(batches, got, strict=True):
        if len(batch):
            np.testing.assert_array_equal(vectors_BD, encoder.encode_pixels(batch))


def test_time_that_two_kernels_share_is_counted_once() -> None:
    assert covered([(5, 6), (0, 2), (1, 3), (1.5, 2.5)]) == 4
    assert covered([]) == 0


def test_the_busy_share_is_of_the_device_and_not_of_waiting_for_others() -> None:
    """Arithmetic of Python's own is no time of torch's."""
    import torch

    matrix = torch.ones(300, 300)
    idle, _ = busy_share(lambda: sum(range(200_000)), "cpu")
    busy, taken_s = busy_share(lambda: [matrix @ matrix for _ in range(50)], "cpu")
    assert idle < busy <= 1
    assert taken_s > 0


def test_the_benchmark_says_in_a_sentence_that_there_is_no_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench.encode"],
        env={**os.environ, "DEVICE": "cuda"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "DEVICE=cuda needs a CUDA device, and torch finds none on this machine\n"
