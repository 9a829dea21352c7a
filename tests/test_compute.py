"""Device, precision and normalisation."""

import numpy as np
import pytest
import torch

from foldsmith.errors import InputError
from foldsmith.training import compute as compute_module
from foldsmith.training.compute import build_compute, choose_device, choose_precision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_images_are_normalised_as_numpy_does_it() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    normalised = build_compute("cpu", "fp32", MEAN, STD).normalise(torch.from_numpy(images))
    expected = ((images / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    assert normalised.dtype == torch.float32 and normalised.shape == (5, 3, 6, 7)
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(normalised.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_normalising_leaves_the_pixels_alone() -> None:
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    before = images.clone()
    build_compute("cpu", "fp32", MEAN, STD).normalise(images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("word", ["gpu", "cuda:x", "", "mps", "meta", "cpu:one"])
def test_a_device_nobody_knows_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="write auto, cpu, cuda, cuda:N"):
        choose_device(word)


@pytest.mark.parametrize(("word", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(word: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InputError, match=f"this machine has {count} CUDA GPUs"):
        choose_device(word)


@pytest.mark.parametrize("available", [False, True])
def test_auto_takes_a_gpu_where_there_is_one(available: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device("auto").type == ("cuda" if available else "cpu")
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("device", "capability", "fast_bf16", "chosen"),
    [
        ("cuda", (9, 0), False, "bf16"),
        ("cuda", (8, 0), False, "bf16"),
        ("cuda", (7, 5), True, "fp16"),
        ("cpu", None, True, "bf16"),
        ("cpu", None, False, "fp32"),
    ],
)
def test_the_hardware_alone_decides_the_precision(
    device: str,
    capability: tuple[int, int] | None,
    fast_bf16: bool,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(compute_module, "has_fast_bf16", lambda: fast_bf16)
    assert choose_precision("auto", torch.device(device)) == chosen
    assert choose_precision("fp32", torch.device(device)) == "fp32"
    assert choose_precision("bf16", torch.device(device)) == "bf16"


def test_half_precision_on_a_cpu_is_refused() -> None:
    with pytest.raises(InputError, match="needs a GPU"):
        choose_precision("fp16", torch.device("cpu"))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_layers_compute_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(3, 2)
    with build_compute("cpu", precision, MEAN, STD).autocast():
        assert layer(torch.ones(1, 3)).dtype == dtype
