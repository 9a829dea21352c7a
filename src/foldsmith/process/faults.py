"""Faults of the machine, told in one sentence: a full disk, no memory, a process that was killed."""

import re

GPU_FAILED = (
    "a computation on the GPU failed, as one may where many processes share it; if it does so again, see "
    "what the system logs of it (dmesg, NVRM)"
)
# what libraries say in words of their own -> what it means, and what to do
MEANINGS = (
    (
        r"out of memory|can't allocate memory|cannot allocate memory|Insufficient memory",
        "memory ran out; use a smaller --batch-size, --image-size or micro_batch, or a machine with more",
    ),
    (
        r"shared memory|Bus error",
        "the shared memory of worker processes, /dev/shm, is full or not there; free it, or use --workers 0",
    ),
    (
        r"gloo.*connection (closed|reset) by peer",
        "another process that trains this network has ended, and says why",
    ),
    (
        r"DataLoader worker .*(killed by signal|exited unexpectedly)",
        "a process that prepares batches was killed, most likely because memory ran out; use fewer --workers",
    ),
    (
        r"CUDA error: (unspecified launch failure|an illegal|misaligned|uncorrectable ECC|unknown error)|"
        r"CU(BLAS|DNN)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)",
        GPU_FAILED,
    ),
)


class MachineError(Exception):
    """The machine is at fault; the message is one sentence with what and the remedy, without a full stop.

    A stage ends with it as exit status 1, never with a traceback, and goes on once the cause is gone.
    """


def machine_fault(error: BaseException) -> str | None:
    """What is wrong with the machine, in one sentence without a full stop; None if the error is no such."""
    if isinstance(error, MachineError):
        return str(error)
    text = " ".join(str(error).split())
    lines = str(error).strip().splitlines() or ["no memory"]
    for pattern, meaning in MEANINGS:
        if isinstance(error, (RuntimeError, OSError)) and re.search(pattern, text, re.IGNORECASE):
            told = [line for line in lines if re.search(pattern, line, re.IGNORECASE)]
            return f"{meaning} ({[*lines, *told][-1][:200]})"
    if isinstance(error, MemoryError):
        return f"{MEANINGS[0][1]} ({lines[-1][:200]})"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return None
