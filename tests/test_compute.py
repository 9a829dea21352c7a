"""Device, precision and normalisation."""

import numpy as np
import pytest
import torch
from conftest import naming

from foldsmith.errors import InputError
from foldsmith.inference import compute as compute_module
from foldsmith.inference.compute import (
    build_compute,
    choose_device,
    choose_devices,
    choose_precision,
)
from foldsmith.process import machine

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
def test_an_unknown_device_is_refused(word: str) -> None:
    with pytest.raises(InputError, match=naming(word, "auto", "cpu", "cuda", "cuda:N")):
        choose_device(word)


@pytest.mark.parametrize(("word", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_missing_gpu_is_refused(word: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InputError, match=naming(word, count)):
        choose_device(word)


@pytest.mark.parametrize("available", [False, True])
def test_auto_uses_a_gpu_if_there_is_one(available: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(available))
    assert str(choose_device("auto")) == ("cuda:0" if available else "cpu")
    assert choose_device("cpu").type == "cpu"


def test_a_gpu_always_has_its_index_so_that_torch_makes_it_current(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(device) for device in choose_devices("cuda,cuda:1,cuda")] == ["cuda:0", "cuda:1", "cuda:0"]


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


def test_on_a_cpu_a_decoder_is_trained_in_fp32_unless_set_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_module, "has_fast_bf16", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    for device, chosen in (("cpu", "fp32"), ("cuda", "bf16")):
        assert choose_precision("auto", torch.device(device), reconstructs=True) == chosen
        assert choose_precision("bf16", torch.device(device), reconstructs=True) == "bf16"
    assert build_compute("cpu", "auto", MEAN, STD, reconstructs=True).precision == "fp32"
    assert build_compute("cpu", "auto", MEAN, STD).precision == "bf16"


@pytest.mark.parametrize(
    ("flags", "limit", "fast"),
    [
        ("avx2 avx512f avx512_bf16", "", True),
        ("avx2 avx512f amx_bf16", "DEFAULT", True),
        ("avx2 avx512f avx512_bf16", "avx2", False),
        ("avx2 avx512f avx512_bf16", "AVX512_CORE_BF16", True),
        ("avx2", "", False),
    ],
)
def test_bf16_is_fast_where_the_processor_has_it_and_onednn_may_use_it(
    flags: str, limit: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda: f"processor : 0\nflags : fpu {flags}\n")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert machine.has_fast_bf16() == fast


@pytest.mark.parametrize("words", ["auto", "cuda:0,cuda:1", "cuda:1, cuda:0", "cpu,cpu", "cpu"])
def test_several_devices_are_read_in_order(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    expected = {
        "auto": ["cuda:0", "cuda:1"],
        "cuda:0,cuda:1": ["cuda:0", "cuda:1"],
        "cuda:1, cuda:0": ["cuda:1", "cuda:0"],
        "cpu,cpu": ["cpu", "cpu"],
        "cpu": ["cpu"],
    }[words]
    assert [str(device) for device in choose_devices(words)] == expected
    assert str(choose_device(words)) == expected[0]


def test_each_of_several_devices_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=naming("cuda:1", 1)):
        choose_devices("cuda:0,cuda:1")


@pytest.mark.parametrize(("channels", "size"), [(3, 5), (1, 4), (3, 1)])
def test_normalised_images_are_channels_last_whatever_their_input_layout(channels: int, size: int) -> None:
    mean, std = (0.2, 0.5, 0.7)[:channels], (0.3, 0.2, 0.9)[:channels]
    images = torch.randint(0, 256, (6, size, size, 3), dtype=torch.uint8)
    compute = build_compute("cpu", "fp32", mean, std)
    exact = images.double().permute(0, 3, 1, 2)
    if channels == 1:
        exact = (exact * torch.tensor([0.299, 0.587, 0.114]).double().view(3, 1, 1)).sum(dim=1, keepdim=True)
    shape = (channels, 1, 1)
    exact = (exact / 255 - torch.tensor(mean).double().view(shape)) / torch.tensor(std).double().view(shape)
    # the memory layout of images that a GPU augmented
    planar = images.float().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    for batch in (images, images.float(), planar):
        normalised = compute.normalise(batch)
        assert normalised.dtype == torch.float32
        assert normalised.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(normalised.double(), exact, rtol=1e-5, atol=1e-5)


def test_half_precision_on_a_cpu_is_refused() -> None:
    with pytest.raises(InputError, match="fp16"):
        choose_precision("fp16", torch.device("cpu"))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_layers_compute_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(3, 2)
    with build_compute("cpu", precision, MEAN, STD).autocast():
        assert layer(torch.ones(1, 3)).dtype == dtype
