"""The number of threads of a run on a CPU: chosen when it first trains, recorded, and taken by all stages.

Weights and predictions depend on it in their last bits.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import torch

from foldsmith.inference.compute import choose_device
from foldsmith.process.files import load_json, save_json
from foldsmith.process.locks import wait_for_lock
from foldsmith.process.machine import processor, usable_cores
from foldsmith.process.terminal import say
from foldsmith.process.threads import busy_cores, cgroup_quota, free_cores, typed_threads
from foldsmith.run.paths import RunPaths


@dataclass(frozen=True)
class Threads:
    """The `threads` of a process that computes alone, and the `cores` that several processes share.

    `cores` is 0 where OMP_NUM_THREADS was typed: then every process takes that many threads.
    """

    threads: int
    cores: int

    def per_process(self, processes: int) -> int:
        """Return how many threads each of several processes takes."""
        if processes == 1 or not self.cores:
            return self.threads
        return max(1, self.cores // processes)


@cache
def threads_of_torch() -> int:
    """Return how many threads torch chose when it was imported: OMP_NUM_THREADS, or a physical core each."""
    return torch.get_num_threads()


def settle_threads(run: RunPaths, devices: Sequence[torch.device], again: bool) -> int:
    """Compute on the run's threads from now on; return how many each of the devices' processes takes.

    The number is OMP_NUM_THREADS if it is typed, else the one recorded, else that of the free cores, which is
    recorded. A run that has weights or a checkpoint and no record was begun before there were records: unless
    `again` starts it over, it goes on with the threads that torch chooses. Print a line if other programs
    compute. Without a CPU among the devices nothing is chosen.
    """
    count = len(devices)
    if all(device.type != "cpu" for device in devices):
        return max(1, usable_cores() // count)
    torch_threads = threads_of_torch()
    if typed_threads():
        _record_typed(run, torch_threads, again)
        return torch_threads
    cores, busy = usable_cores(), busy_cores()
    # two processes that begin to train folds of a new run take the same number
    with wait_for_lock(run.threads.with_name(".threads.lock"), "counts the free cores"):
        threads = load_threads(run)
        if threads is None and is_begun(run) and not again:
            threads = Threads(torch_threads, cores)
        elif threads is None:
            free = free_cores(cores, cgroup_quota(), busy)
            threads = Threads(min(torch_threads, free), free)
            _save(run, threads)
    _compute_on(threads.threads)
    if round(busy):
        each = threads.per_process(count)
        several = f" in each of {count} processes" if count > 1 else ""
        say(
            f"other programs keep {round(busy)} of {cores} cores busy; this run computes on {each} "
            f"thread{'s' if each > 1 else ''}{several}, now and whenever it resumes; "
            "OMP_NUM_THREADS=N before the command chooses another number"
        )
    return threads.per_process(count)


def take_threads(run: RunPaths, device: str) -> None:
    """Compute on the threads of a trained run from now on, if `--device` is a CPU and none are typed."""
    if typed_threads() or choose_device(device).type != "cpu":
        return
    torch_threads, recorded = threads_of_torch(), load_threads(run)
    _compute_on(recorded.threads if recorded else torch_threads)


def load_threads(run: RunPaths) -> Threads | None:
    """Return the recorded threads of a run; None without a record, or if it is of another processor."""
    held = load_json(run.threads) if run.threads.is_file() else {}
    return Threads(held["threads"], held["cores"]) if held.get("processor") == processor() else None


def is_begun(run: RunPaths) -> bool:
    """Return whether a run has weights or a checkpoint."""
    return any(next(run.root.rglob(name), None) for name in ("*.safetensors", "checkpoint.pt*"))


def _record_typed(run: RunPaths, typed: int, again: bool) -> None:
    """Record typed threads, and print what follows if the run has others; leave a run without a record so."""
    held = load_threads(run)
    if held is None and (again or not is_begun(run)):
        _save(run, Threads(typed, 0))
    if held is not None and held.threads != typed:
        say(
            f"OMP_NUM_THREADS={typed} replaces the run's number of threads, {held.threads}: networks are "
            f"trained with {typed} from now on; an interrupted one begins anew, its checkpoint set aside"
        )
        _save(run, Threads(typed, 0))


def _save(run: RunPaths, threads: Threads) -> None:
    save_json(run.threads, {**asdict(threads), "processor": processor()})


def _compute_on(threads: int) -> None:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
