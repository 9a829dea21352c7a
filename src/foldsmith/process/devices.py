"""One process a device, and whether torchrun started this process. Imports no torch."""

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
from foldsmith.process.signals import SIGNALS
from foldsmith.process.terminal import hide_bars

PR_SET_PDEATHSIG = 1  # of prctl(2): Linux ends a process with the one that started it


def started_by_torchrun() -> bool:
    """Return whether this process is one of several that train one network together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def spread(
    function: Callable[[str, int], Any], items: Sequence[int], devices: Sequence[str], threads: int
) -> int:
    """Call `function(device, item)` for all items, dealt to the devices in turn, each in its own process.

    Return 0, or the exit status of the first process that failed, after stopping the others. Pass a signal on
    to all of them and wait until they have saved. `function` is a function of a module, or a partial of one.
    Every process computes on this number of threads, unless OMP_NUM_THREADS is typed.

    `torch.multiprocessing.spawn` does less: it passes no signal on, and kills a process 30 seconds after
    asking it to stop, whether it has saved or not.
    """
    context = get_context("spawn")  # CUDA cannot be used in a fork
    typed = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = typed or str(threads)
    processes = [
        context.Process(target=_run_process, args=(function, device, items[index :: len(devices)]))
        for index, device in enumerate(devices[: len(items)])
    ]
    try:
        # a signal while they import would end them in a traceback; they receive it when they start to work
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            for process in processes:
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return wait_for(processes)
    finally:
        if typed is None:
            del os.environ["OMP_NUM_THREADS"]
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()


def wait_for(processes: Sequence[BaseProcess]) -> int:
    """Wait for all, or for the first that fails; return its status. Raise MachineError if one was killed."""
    while True:
        codes = [process.exitcode for process in processes]
        failed = next((code for code in codes if code), 0)
        if failed == -signal.SIGKILL:
            raise MachineError(
                f"a process that trains was killed (signal {-failed}), most likely because memory ran out; "
                "use fewer devices, or a smaller --batch-size"
            )
        if failed < 0:
            raise MachineError(
                f"a process that trains crashed (signal {-failed}); its own messages stand above"
            )
        if failed or None not in codes:
            return failed
        # those that ran when their codes were read: if all have ended since, a wait for none would not return
        wait([process.sentinel for process, code in zip(processes, codes, strict=True) if code is None])


def _run_process(function: Callable[[str, int], Any], device: str, items: Sequence[int]) -> None:
    """Run one process from start to end, with the exit status of a stage."""
    hide_bars()  # the terminal shows one set of bars
    # the parent holds the lock of the run: if it were killed, another command could train the same folds
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_process().pid:
        sys.exit(1)

    def main() -> int:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for item in items:
            function(device, item)
        return 0

    run_main(main, stopped="")  # the parent says how to go on
