"""The number of threads on a CPU: free cores, the record of a run, typed numbers; and how threads wait."""

import json
import math
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import MakeCompetition, naming

import infer
import prepare
import split
import train
from foldsmith.inference import threads as record
from foldsmith.inference.threads import Threads, settle_threads, take_threads
from foldsmith.process import threads as process
from foldsmith.process.threads import busy_between, busy_cores, free_cores, lowest_quota
from foldsmith.run.paths import RunPaths
from foldsmith.training import loop

CPU = [torch.device("cpu")]
TYPED = "OMP_NUM_THREADS"


@pytest.mark.parametrize(
    ("usable", "quota", "busy", "free"),
    [
        (8, math.inf, 0.0, 8),
        (8, math.inf, 0.4, 8),  # a program that needs little counts as none
        (8, math.inf, 2.6, 5),
        (2, math.inf, 2.0, 1),
        (64, 4.0, 30.2, 4),  # programs outside of a container do not use its quota
        (64, 1.5, 0.0, 2),
        (64, 8.0, 60.0, 4),
        (4, 0.5, 0.0, 1),
    ],
)
def test_free_cores_are_those_of_affinity_and_quota_less_the_busy_ones(
    usable: int, quota: float, busy: float, free: int
) -> None:
    assert free_cores(usable, quota, busy) == free


def stat(*cores: tuple[int, ...]) -> str:
    """Return a text of /proc/stat with these times of the cores: user nice system idle iowait irq … guest."""
    lines = [f"cpu{number} {' '.join(map(str, times))}" for number, times in enumerate(cores)]
    total = " ".join(str(sum(times)) for times in zip(*cores, strict=True))
    return "\n".join([f"cpu  {total}", *lines, "intr 5 0 1", "ctxt 7", "procs_running 2"])


BEFORE = stat(*[(100, 0, 50, 1000, 10, 0, 0, 0, 0, 0)] * 4)
AFTER = stat(
    (130, 0, 50, 1000, 10, 0, 0, 0, 30, 0),  # a guest's time is user time as well
    (100, 10, 60, 1010, 10, 0, 0, 0, 0, 0),
    (100, 0, 50, 1020, 20, 0, 0, 0, 0, 0),  # waiting for a disk is idle
    (100, 0, 50, 1000, 10, 0, 10, 20, 0, 0),
)


@pytest.mark.parametrize(
    ("cores", "busy"),
    [({0}, 1.0), ({1}, 2 / 3), ({2}, 0.0), ({0, 1, 2, 3}, 8 / 3), ({0, 12}, 1.0), ({}, 0.0)],
)
def test_busy_cores_are_counted_among_those_that_may_be_used(cores: set[int], busy: float) -> None:
    assert busy_between(BEFORE, AFTER, cores) == pytest.approx(busy)
    assert busy_between(BEFORE, BEFORE, cores) == 0.0


def test_without_proc_no_core_is_busy_and_no_quota_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PROC", tmp_path)
    assert (busy_cores(), process.cgroup_quota()) == (0.0, math.inf)


def write(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


V1 = "4:memory:/slurm/job_7\n3:cpu,cpuacct:/slurm/job_7/step_0\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/app\n", {"app/cpu.max": "max 100000"}, math.inf),
        ("0::/pod/app\n", {"pod/cpu.max": "150000 100000", "pod/app/cpu.max": "max 100000"}, 1.5),
        ("0::/pod/app\n", {"pod/cpu.max": "800000 100000", "pod/app/cpu.max": "300000 100000"}, 3.0),
        ("0::/of/the/host\n", {"cpu.max": "200000 100000"}, 2.0),  # as a container sees it
        ("0::/\n", {}, math.inf),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        (
            V1,
            {
                "cpu/slurm/job_7/cpu.cfs_quota_us": "250000",
                "cpu/slurm/job_7/cpu.cfs_period_us": "50000",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            5.0,
        ),
    ],
)
def test_the_quota_is_the_lowest_of_a_group_and_those_above_it(
    groups: str, files: dict[str, str], quota: float, tmp_path: Path
) -> None:
    assert lowest_quota(groups, write(tmp_path, files)) == quota


def test_processes_share_the_cores_unless_threads_were_typed() -> None:
    assert [Threads(4, 8).per_process(count) for count in (1, 2, 3, 16)] == [4, 4, 2, 1]
    assert [Threads(3, 0).per_process(count) for count in (1, 2)] == [3, 3]


class Machine:
    """A machine of two cores of which other programs keep `busy` busy."""

    busy = 0.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Return a machine of two cores, on which torch chooses two threads and none are typed."""
    machine, before = Machine(), torch.get_num_threads()
    monkeypatch.delenv(TYPED, raising=False)
    for name, value in {"threads_of_torch": 2, "usable_cores": 2, "cgroup_quota": math.inf}.items():
        monkeypatch.setattr(record, name, lambda value=value: value)
    monkeypatch.setattr(record, "busy_cores", lambda: machine.busy)
    torch.set_num_threads(2)
    yield machine
    torch.set_num_threads(before)


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    (tmp_path / "run").mkdir()
    return RunPaths(tmp_path / "run")


@pytest.mark.parametrize(("busy", "threads"), [(0.0, 2), (1.1, 1), (2.0, 1)])
def test_a_run_keeps_the_threads_it_began_with(
    busy: float, threads: int, machine: Machine, run: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.busy = busy
    assert settle_threads(run, CPU, again=False) == torch.get_num_threads() == threads
    assert (capsys.readouterr().out == "") == (busy == 0.0)
    for later in (0.0, 2.0):
        machine.busy = later
        torch.set_num_threads(2)
        assert settle_threads(run, CPU, again=False) == torch.get_num_threads() == threads
    torch.set_num_threads(2)
    take_threads(run, "cpu")
    assert torch.get_num_threads() == threads
    assert settle_threads(run, CPU * 2, again=False) == 1


def test_a_crowded_machine_is_named_with_the_cores_the_threads_and_the_remedy(
    machine: Machine, run: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.busy = 0.9
    settle_threads(run, CPU, again=False)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    for words in ("1 of 2 cores", "1 thread,", TYPED):
        assert words in printed


def test_typed_threads_win_and_replace_the_record(
    machine: Machine, run: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settle_threads(run, CPU, again=False)
    monkeypatch.setenv(TYPED, "2")
    settle_threads(run, CPU, again=False)
    monkeypatch.setenv(TYPED, "1")
    monkeypatch.setattr(record, "threads_of_torch", lambda: 1)
    torch.set_num_threads(1)
    machine.busy = 2.0
    take_threads(run, "cpu")
    assert torch.get_num_threads() == 1 and record.load_threads(run) == Threads(2, 2)
    assert capsys.readouterr().out == ""
    for processes in (1, 2):
        assert settle_threads(run, CPU * processes, again=False) == torch.get_num_threads() == 1
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and re.match(naming(f"{TYPED}=1", 2), printed)
    assert record.load_threads(run) == Threads(1, 0)


def test_a_run_of_before_goes_on_with_the_threads_of_torch(machine: Machine, run: RunPaths) -> None:
    machine.busy = 1.0
    (run.root / "fold0").mkdir()
    run.checkpoint(0).touch()
    assert settle_threads(run, CPU, again=False) == 2
    assert not run.threads.exists()
    assert settle_threads(run, CPU, again=True) == 1


def test_another_processor_and_a_gpu_take_no_record(machine: Machine, run: RunPaths) -> None:
    run.threads.write_text(json.dumps({"threads": 1, "cores": 1, "processor": "of another machine"}))
    take_threads(run, "cpu")
    assert torch.get_num_threads() == 2
    machine.busy = 2.0
    assert settle_threads(run, [torch.device("cuda", 0)], again=False) == 2
    assert torch.get_num_threads() == 2


WORDS = ["--recipe", "quick", "--epochs", "2", "--folds", "2", "--fold", "0", "--workers", "0"]
WORDS += ["--device", "cpu", "--image-size", "16"]


def test_killed_while_crowded_and_resumed_while_quiet_a_run_has_the_bytes_of_one_that_was_not(
    make_competition: MakeCompetition,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, log_line = make_competition(), loop.log_line

    def stop(*words: object) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return log_line(*words)

    runs = []
    for name in ("whole", "killed"):
        machine.busy = 1.0
        words = [str(folder), *WORDS, "--output", str(tmp_path / name)]
        for stage in (prepare, split):
            assert stage.main(words) == 0
        if name == "killed":
            monkeypatch.setattr(loop, "log_line", stop)
            with pytest.raises(KeyboardInterrupt):
                train.main(words)
            monkeypatch.setattr(loop, "log_line", log_line)
            machine.busy = 0.0
            torch.set_num_threads(2)
            capsys.readouterr()
        assert train.main(words) == 0
        torch.set_num_threads(2)
        assert infer.main(words) == 0
        assert torch.get_num_threads() == 1
        runs.append(RunPaths(tmp_path / name / folder.name / "quick"))
    assert "resumes after epoch 1" in capsys.readouterr().out
    whole, killed = runs
    for path in (whole.weights(0), whole.heldout(0), whole.test):
        assert path.read_bytes() == (killed.root / path.relative_to(whole.root)).read_bytes()
    assert json.loads(killed.fold_run(0).read_text())["hardware"].endswith("1 thread")
