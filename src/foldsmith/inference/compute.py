"""Where and in which precision the network computes."""

import os
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
RESIDENT = 0.1  # of a GPU's memory, that training images may take: several folds may be trained on it at once


@dataclass(frozen=True)
class Compute:
    """A device, a precision, and the normalisation of images: `(image - offset) / scale`, both (C, 1, 1)
    and on a scale of 0 to 255.

    C is 3, or 1 for the brightness of the images alone.
    """

    device: torch.device
    precision: str
    offset: torch.Tensor
    scale: torch.Tensor

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def hardware(self) -> str:
        if self.on_gpu:
            return torch.cuda.get_device_name(self.device)
        threads = torch.get_num_threads()
        return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"

    def autocast(self) -> AbstractContextManager:
        dtype = DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3), 0 to 255 -> float32 (B, C, H, W) on the device, in channels-last memory."""
        images = images.to(self.device, non_blocking=True).float()
        if len(self.offset) == 1:
            red, green, blue = images.split(1, dim=3)
            of_red, of_green, of_blue = LUMA.tolist()
            images = of_red * red + of_green * green + of_blue * blue  # (B, H, W, 1)
        # whole lines of pixels, channels and all: three numbers at a time are seven times as slow on a CPU
        width = images.shape[2]
        factor, bias = (each.repeat(width) for each in self._line)
        lines = torch.addcmul(bias, images.flatten(2), factor)  # (B, H, W * C)
        return lines.view(images.shape).permute(0, 3, 1, 2)

    @cached_property
    def _line(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Factor and bias of a pixel, both (C,): the same for every batch."""
        return (1 / self.scale).flatten(), (-self.offset / self.scale).flatten()

    def to_pixels(self, images: torch.Tensor) -> np.ndarray:
        """The way back, for looking at: float32 (B, C, H, W) -> uint8 (B, H, W, 3) on the host."""
        images = (images * self.scale + self.offset).round().clamp(0, 255).to(torch.uint8)
        return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()


def build_compute(
    device: str,
    precision: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    reconstructs: bool = False,
) -> Compute:
    """Reads `--device` and `--precision`; mean and std, one for each channel, are on a scale of 0 to 1.

    `reconstructs` says that an autoencoder's decoder is trained. Raises InputError.
    """
    place = choose_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    else:
        torch.cuda.set_device(place)  # what asks for no device, such as pinned memory, means this one
    offset, scale = (255 * torch.tensor(values, device=place).view(-1, 1, 1) for values in (mean, std))
    return Compute(place, choose_precision(precision, place, reconstructs), offset, scale)


def augments_on_device(
    recipe: Recipe, augmentation: object, pixels: Pixels, count: int, compute: Compute
) -> bool:
    """Whether `count` training images lie on the device and are augmented there, as `augment_on` says.

    auto: on a GPU, if they take no more than RESIDENT of all its memory, whatever happens to be free; on a
    CPU never, for OpenCV is faster there, image by image, than tensor operations
    (`tests/benchmarks/loader.py`).
    Raises InputError if `device` is asked for, and is not possible.
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


def set_determinism(wanted: bool) -> None:
    """On a GPU: the same bytes every time, at some speed. A CPU gives them anyway."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    torch.use_deterministic_algorithms(wanted)


def choose_device(word: str) -> torch.device:
    """The device for `--device`: auto takes CUDA where there is one; of several the first.

    Raises InputError if it is not there.
    """
    return choose_devices(word)[0]


def choose_devices(words: str) -> list[torch.device]:
    """The devices for `--device`, over which folds are spread: `auto` takes all CUDA devices.

    Raises InputError if one is not there.
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
        raise InputError(f"--device {word}: write auto, cpu, cuda, cuda:N, or several with commas.") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {word}: write auto, cpu, cuda, cuda:N, or several with commas.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {word}: this machine has {torch.cuda.device_count()} CUDA GPUs.")
    # torch makes only a numbered GPU the current one
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def choose_precision(word: str, device: torch.device, reconstructs: bool = False) -> str:
    """The precision for `--precision`: auto is bf16 where the hardware has it, else fp16 on a GPU, fp32 on a
    CPU.

    On a CPU a decoder is trained in fp32, which is faster there (`tests/benchmarks/precision.py`). All of it
    follows from the hardware and the network, never from a timing, so that two runs on one machine give the
    same bytes.
    """
    if word != "auto":
        if word == "fp16" and device.type == "cpu":
            raise InputError("--precision fp16 needs a GPU; on a CPU write bf16 or fp32.")
        return word
    if device.type == "cuda":
        return "bf16" if has_bf16(device) else "fp16"
    return "bf16" if has_bf16(device) and not reconstructs else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware; one that does not may emulate it, slowly."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return has_fast_bf16()
