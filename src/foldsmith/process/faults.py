"""Faults of the machine, each reported in one sentence: a full disk, no memory, a killed process."""

import re

GPU_FAILED = (
    "a computation on the GPU failed, which can happen if many processes share it; if it happens again, read "
    "the system's log (dmesg, lines with NVRM)"
)
# pattern of a library's message -> what it means, and what to do
KNOWN_FAULTS = (
    (
        r"out of memory|can't allocate memory|cannot allocate memory|Insufficient memory",
        "memory ran out; use a smaller --batch-size, --image-size or micro_batch, or a larger machine",
    ),
    (
        r"shared memory|Bus error",
        "the shared memory of worker processes, /dev/shm, is full or missing; free it, or use --workers 0",
    ),
    (
        r"gloo.*connection (closed|reset) by peer",
        "another process of this training has ended; its own message says why",
    ),
    (
        r"DataLoader worker .*(killed by signal|exited unexpectedly)",
        "a process that prepares batches was killed, probably because memory ran out; use fewer --workers",
    ),
    (
        r"CUDA error: (unspecified launch failure|an illegal|misaligned|uncorrectable ECC|unknown error)|"
        r"CU(BLAS|DNN)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)",
        GPU_FAILED,
    ),
)


class MachineError(Exception):
    """The machine is at fault. The message is one sentence without a full stop, with the remedy.

    A stage that raises it exits with status 1 and prints no traceback. It resumes once the cause is fixed.
    """


def machine_fault(error: BaseException) -> str | None:
    """Return what is wrong with the machine, in one sentence without a full stop; None for other errors."""
    if isinstance(error, MachineError):
        return str(error)
    text = " ".join(str(error).split())
    lines = str(error).strip().splitlines() or ["no memory"]
    for pattern, meaning in KNOWN_FAULTS:
        if isinstance(error, (RuntimeError, OSError)) and re.search(pattern, text, re.IGNORECASE):
            matching = [line for line in lines if re.search(pattern, line, re.IGNORECASE)]
            return f"{meaning} ({[*lines, *matching][-1][:200]})"
    if isinstance(error, MemoryError):
        return f"{KNOWN_FAULTS[0][1]} ({lines[-1][:200]})"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return None
