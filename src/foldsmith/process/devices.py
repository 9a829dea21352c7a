"""Work spread over devices, a process each; and whether torchrun started this process. Imports no torch."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from foldsmith.process.exit import run_main
from foldsmith.process.faults import MachineError
from foldsmith.process.machine import usable_cores
from foldsmith.process.signals import SIGNALS
from foldsmith.process.terminal import hide_bars

PR_SET_PDEATHSIG = 1  # of prctl(2): Linux ends a process with the one that started it


def started_by_torchrun() -> bool:
    """Whether this process is one of several that train one network together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def spread(work: Callable[[str, int], Any], items: Sequence[int], devices: Sequence[str]) -> int:
    """Does `work(device, item)` for all items, dealt to the devices in turn, each in a process of its own.

    Returns 0, or the exit status of the first process that failed, when the others have been stopped. Asked
    to stop, it passes that on and waits until they have saved. `work` is a function of a module, or a partial
    of one. Processes that compute on the CPU share its cores evenly.
    """
    context = get_context("spawn")  # CUDA cannot be used in a fork
    cores = max(1, usable_cores() // len(devices))
    given = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = given or str(cores)
    processes = [
        context.Process(target=_do, args=(work, device, items[place :: len(devices)]))
        for place, device in enumerate(devices[: len(items)])
    ]
    try:
        # a signal that comes while they import would end them in a traceback; they hear it when they work
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            for process in processes:
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return wait_for(processes)
    finally:
        if given is None:
            del os.environ["OMP_NUM_THREADS"]
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()


def wait_for(processes: Sequence[BaseProcess]) -> int:
    """Waits for all, or for the first that fails; its status. Raises MachineError if one was killed."""
    while True:
        codes = [process.exitcode for process in processes]
        failed = next((code for code in codes if code), 0)
        if failed == -signal.SIGKILL:
            raise MachineError(
                f"a process that trains was killed (signal {-failed}), most likely because memory ran out; "
                "use fewer devices, or a smaller --batch-size"
            )
        if failed < 0:
            raise MachineError(f"a process that trains crashed (signal {-failed}); what it said stands above")
        if failed or None not in codes:
            return failed
        # those that ran when asked above, not now: of none that is left, a wait would never end
        wait([process.sentinel for process, code in zip(processes, codes, strict=True) if code is None])


def _do(work: Callable[[str, int], Any], device: str, items: Sequence[int]) -> None:
    """The whole of a process: its exit status is a stage's."""
    hide_bars()  # a terminal shows one set
    # the lock of the run is the parent's: were it killed, another command could train the same folds
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_process().pid:
        sys.exit(1)

    def main() -> int:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for item in items:
            work(device, item)
        return 0

    run_main(main, stopped="")  # the process that started this one tells how to go on
