"""Threads of a process on a CPU: how many, by the cores that are free. Imports no torch."""

import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
MOMENT = 0.3  # seconds over which other programs are measured
# fields of a line of /proc/stat (proc(5)): user nice system idle iowait irq softirq steal; guests are in user
TIMES, IDLE, IOWAIT = 8, 3, 4


def typed_threads() -> str:
    """Return OMP_NUM_THREADS as the user typed it; empty if it is not set."""
    return os.environ.get("OMP_NUM_THREADS", "")


def free_cores(usable: int, quota: float, busy: float) -> int:
    """Return how many cores a process has for itself, at least 1.

    `usable` are the cores it may run on, of which other programs keep `busy` busy, a sum of shares that is
    rounded. `quota` is the processor time a second that its control groups allow, rounded up; infinity for no
    limit. It counts apart from busy cores, on which programs outside of the groups run as well.
    """
    allowed = usable if math.isinf(quota) else math.ceil(quota)
    return max(1, min(usable - round(busy), allowed))


def busy_between(before: str, after: str, cores: Iterable[int]) -> float:
    """Return how many of these cores were busy between two texts of /proc/stat, a sum of shares.

    A core without a line in either of them counts as idle.
    """
    first, last = _times_of(before), _times_of(after)
    shares = []
    for core in cores:
        if core in first and core in last:
            taken = [max(0, end - start) for start, end in zip(first[core], last[core], strict=True)]
            idle = taken[IDLE] + taken[IOWAIT]
            shares.append((sum(taken) - idle) / max(1, sum(taken)))
    return sum(shares)


def busy_cores() -> float:
    """Return how many of the usable cores other programs keep busy now; 0 where there is no /proc/stat.

    This process sleeps meanwhile. Cores that are busy are looked at twice, and the lower figure counts: a
    moment's work, such as that of a program which ends, must not decide on a training of hours.
    """
    path, cores = PROC / "stat", os.sched_getaffinity(0)
    if not path.is_file():
        return 0.0
    busy = math.inf
    for _ in range(2):
        before = path.read_text()
        time.sleep(MOMENT)
        busy = min(busy, busy_between(before, path.read_text(), cores))
        if not round(busy):
            break
    return busy


def cgroup_quota() -> float:
    """Return the processor time a second that control groups allow this process; infinity for no limit."""
    path = PROC / "self" / "cgroup"
    return lowest_quota(path.read_text(), CGROUPS) if path.is_file() else math.inf


def lowest_quota(groups: str, root: Path) -> float:
    """Return the lowest quota of the groups in a text of /proc/self/cgroup, and of the groups above them.

    `root` is where control groups are mounted. In a container the group's path is that of the host, of which
    only the last folders may exist; the mount itself is then the container's group.
    """
    quotas = [math.inf]
    for line in groups.splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # version 2 has no controllers in its line; "cpu" is a link to "cpu,cpuacct" where they are joined
        mount = root / "cpu" if controllers else root
        relative = Path(group.lstrip("/"))
        quotas += [_quota_of(mount / folder) for folder in (relative, *relative.parents)]
    return min(quotas)


def _quota_of(folder: Path) -> float:
    """Return the quota of one group, of version 2 or 1; infinity if it has none."""
    path = folder / "cpu.max"
    if path.is_file():
        quota, period = path.read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    paths = [folder / f"cpu.cfs_{name}_us" for name in ("quota", "period")]
    if not all(path.is_file() for path in paths):
        return math.inf
    quota, period = (int(path.read_text()) for path in paths)
    return math.inf if quota < 0 else quota / period


def _times_of(text: str) -> dict[int, list[int]]:
    """Return the times of every core in a text of /proc/stat, in ticks."""
    lines = [line.split() for line in text.splitlines() if line.startswith("cpu") and line[3:4].isdigit()]
    return {int(name[3:]): list(map(int, times[:TIMES])) for name, *times in lines}
