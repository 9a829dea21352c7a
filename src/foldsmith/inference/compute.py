"""Device, precision and input normalisation of a network."""

import os
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from foldsmith.augment.colours import LUMA
from foldsmith.augment.rows import Augmentation
from foldsmith.data.pixels import Pixels, StreamedPixels
from foldsmith.errors import InputError
from foldsmith.process.machine import has_fast_bf16, keep_freed_memory, processor
from foldsmith.recipes import Recipe

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RESIDENT = 0.1  # largest share of GPU memory for training images; several folds may share a GPU


@dataclass(frozen=True)
class Compute:
    """A device, a precision, and the normalisation of images, `(image - offset) / scale`.

    Offset and scale are (C, 1, 1), on a scale of 0 to 255. C is that of the images, 3 or 4, or 1 for networks
    that take brightness only.
    """

    device: torch.device
    precision: str  # a key of DTYPES
    offset: torch.Tensor
    scale: torch.Tensor

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def synchronize(self) -> None:
        """Wait until a GPU has finished; a CPU has."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    @property
    def hardware(self) -> str:
        """Return the GPU's name, or the processor's and the number of threads."""
        if self.on_gpu:
            return torch.cuda.get_device_name(self.device)
        threads = torch.get_num_threads()
        return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"

    def autocast(self) -> AbstractContextManager:
        """Return the autocast context of the precision; fp32 disables it."""
        dtype = DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise images (B, H, W, 3 or 4) from 0 to 255: float32 (B, C, H, W) on the device.

        The memory format is channels-last.
        """
        images = images.to(self.device, non_blocking=True).float()
        if len(self.offset) == 1:
            red, green, blue = images.split(1, dim=3)
            red_weight, green_weight, blue_weight = LUMA.tolist()
            images = red_weight * red + green_weight * green + blue_weight * blue  # (B, H, W, 1)
        # broadcast over rows of W * C values: broadcasting over C = 3 values is seven times as slow on a CPU
        width = images.shape[2]
        factor, bias = (values.repeat(width) for values in self._affine)
        rows = torch.addcmul(bias, images.flatten(2), factor)  # (B, H, W * C)
        return rows.view(images.shape).permute(0, 3, 1, 2)

    @cached_property
    def _affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return factor and bias of the normalisation, both (C,); cached, because every batch needs them."""
        return (1 / self.scale).flatten(), (-self.offset / self.scale).flatten()

    def to_pixels(self, images: torch.Tensor) -> np.ndarray:
        """Undo `normalise`, for display: float32 (B, C, H, W) -> uint8 (B, H, W, 3) on the host.

        Of four channels the first three are shown.
        """
        images = (images * self.scale + self.offset).round().clamp(0, 255).to(torch.uint8)
        return images[:, :3].expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()


def build_compute(
    device: str,
    precision: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    reconstructs: bool = False,
) -> Compute:
    """Return the Compute of `--device` and `--precision`.

    `mean` and `std` are per channel, on a scale of 0 to 1. `reconstructs` says that an autoencoder's decoder
    is trained. Raise InputError for a device or precision that this machine lacks.
    """
    chosen = choose_device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    else:
        torch.cuda.set_device(chosen)  # calls that name no device, such as those for pinned memory, use it
    offset, scale = (255 * torch.tensor(values, device=chosen).view(-1, 1, 1) for values in (mean, std))
    return Compute(chosen, choose_precision(precision, chosen, reconstructs), offset, scale)


def augments_on_device(
    recipe: Recipe, augmentation: object, pixels: Pixels, count: int, compute: Compute
) -> bool:
    """Return whether `count` training images reside on the device and are augmented there.

    The recipe's `augment_on` decides. `auto` does so on a GPU if the images take no more than the share
    RESIDENT of its total memory; free memory would vary between runs. On a CPU `auto` never does: OpenCV,
    image by image, is faster there than tensor operations (`tests/benchmarks/loader.py`). Raise InputError if
    `device` is impossible.
    """
    if recipe.augment_on == "workers":
        return False
    streamed = isinstance(pixels, StreamedPixels)
    if recipe.augment_on == "device":
        refuse_on_device(augmentation, streamed)
        return True
    if not compute.on_gpu or streamed or not isinstance(augmentation, Augmentation):
        return False
    memory = torch.cuda.get_device_properties(compute.device).total_memory
    return count * int(np.prod(pixels.shape[1:])) <= RESIDENT * memory


def refuse_on_device(augmentation: object, streamed: bool) -> None:
    """Raise InputError if images cannot be augmented on the device: pixels of files, or by a pipeline."""
    if streamed:
        raise InputError(
            "augment_on=device needs the cached pixels: --set cache=on, or --set augment_on=auto."
        )
    if not isinstance(augmentation, Augmentation):
        raise InputError(
            "augment_on=device needs a row of AUGMENTATIONS, and an albumentations pipeline runs on the CPU: "
            "--set augment_on=auto."
        )


def set_determinism(enabled: bool) -> None:
    """Make a GPU give the same bytes every time, at some cost in speed. A CPU does so anyway."""
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    # torch imports its compiler for this call, which takes a second
    if torch.are_deterministic_algorithms_enabled() != enabled:
        torch.use_deterministic_algorithms(enabled)


def choose_device(word: str) -> torch.device:
    """Return the first device of `--device`; auto is CUDA if available, else the CPU.

    Raise InputError if this machine lacks it.
    """
    return choose_devices(word)[0]


def choose_devices(words: str) -> list[torch.device]:
    """Return the devices of `--device`, over which folds are spread; auto takes all CUDA devices.

    Raise InputError if this machine lacks one of them.
    """
    if words == "auto" and torch.cuda.device_count() > 1:
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [_choose_device(word.strip()) for word in words.split(",")]


def _choose_device(word: str) -> torch.device:
    if word == "auto":
        word = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(word)
    except RuntimeError:
        raise InputError(f"--device {word}: use auto, cpu, cuda, cuda:N, or several with commas.") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {word}: use auto, cpu, cuda, cuda:N, or several with commas.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {word}: this machine has {torch.cuda.device_count()} CUDA GPUs; use another device."
        )
    # always with an index: torch makes only a device with an index the current one
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def choose_precision(word: str, device: torch.device, reconstructs: bool = False) -> str:
    """Return the precision of `--precision`.

    auto is bf16 if the hardware has it, else fp16 on a GPU and fp32 on a CPU. On a CPU a decoder is trained
    in fp32, which is faster there (`tests/benchmarks/precision.py`). The choice depends on hardware and
    network, never on a timing, so that two runs on one machine give the same bytes. Raise InputError for fp16
    on a CPU.
    """
    if word != "auto":
        if word == "fp16" and device.type == "cpu":
            raise InputError("--precision fp16 needs a GPU; on a CPU use bf16 or fp32.")
        return word
    if device.type == "cuda":
        return "bf16" if has_bf16(device) else "fp16"
    return "bf16" if has_bf16(device) and not reconstructs else "fp32"


def bf16_slowdown() -> float:
    """Return the time of a convolution in bfloat16 over that in float32, measured on this CPU."""
    convolution = torch.nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    images = torch.zeros(8, 64, 32, 32).to(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode():
        for enabled in (False, True):
            times = []
            for _ in range(4):  # the first one chooses a kernel
                begun = time.perf_counter()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                    convolution(images)
                times.append(time.perf_counter() - begun)
            seconds.append(min(times))
    return seconds[1] / seconds[0]


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware; one that does not may emulate it, slowly."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return has_fast_bf16()
