"""What a result was made with: versions, hardware, and how many processes to use."""

import ctypes
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

from foldsmith import __version__

# what can change a weight or a prediction
PACKAGES = (
    "torch", "torchvision", "timm", "albumentations", "albucore", "opencv-python-headless", "numpy", "pandas",
    "scikit-learn", "scipy", "safetensors", "pillow",
)  # fmt: skip

# of mallopt(3)
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


@cache
def _package_version(package: str) -> str:
    return version(package)


def versions() -> dict[str, str]:
    """Every installed version that matters."""
    return {"foldsmith": __version__, "python": platform.python_version()} | {
        package: _package_version(package) for package in PACKAGES
    }


def processor() -> str:
    """The processor's name."""
    for line in _cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def has_fast_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware, which is where it pays."""
    flags = next((line for line in _cpuinfo().splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def default_workers(on_gpu: bool, streamed: bool) -> int:
    """Worker processes: for a GPU all cores but one, at most 8; on a CPU none, for its cores are busy.

    Where images are decoded anew each time, that is most of the work, and the cores share it.
    """
    if on_gpu or streamed:
        return min(8, max(1, usable_cores() - 1))
    return 0


def keep_freed_memory() -> None:
    """From here on the C library keeps what is freed, for the next step of a training on the CPU.

    By default glibc gives large blocks back to the kernel, which clears every page of them anew when the next
    step asks for them. Other C libraries are left alone.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
            library.mallopt(option, value)


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
