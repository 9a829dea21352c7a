"""The machine of a run: versions, hardware, cores and memory."""

import ctypes
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

from foldsmith import __version__

# packages that can change a weight or a prediction
PACKAGES = (
    "torch", "torchvision", "timm", "albumentations", "albucore", "opencv-python-headless", "numpy", "pandas",
    "scikit-learn", "scipy", "safetensors", "pillow",
)  # fmt: skip
# oneDNN's names of instruction sets that do not multiply bfloat16
WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
# options of mallopt(3)
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


@cache
def _package_version(package: str) -> str:
    return version(package)


def versions() -> dict[str, str]:
    """Return the versions of foldsmith, Python and PACKAGES, for the provenance of a result."""
    return {"foldsmith": __version__, "python": platform.python_version()} | {
        package: _package_version(package) for package in PACKAGES
    }


def processor() -> str:
    """Return the processor's name."""
    for line in _cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def has_fast_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 in hardware; otherwise bf16 is no faster than fp32.

    It does not where oneDNN, torch's library for it, is told to use fewer instructions.
    """
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BF16:
        return False
    flags = next((line for line in _cpuinfo().splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def default_workers(on_gpu: bool, streamed: bool) -> int:
    """Return how many workers prepare batches: for a GPU all cores but one, at most 8; for a CPU none.

    A CPU's cores are busy with the network, except where images are streamed: decoding them is most of the
    work there.
    """
    if on_gpu or streamed:
        return min(8, max(1, usable_cores() - 1))
    return 0


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the next step of training on the CPU.

    By default glibc returns large blocks to the kernel, which zeroes every page again when the next step
    allocates them. Other C libraries are left alone.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
            library.mallopt(option, value)


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
