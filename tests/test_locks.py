"""Two processes never work on one run; a lock is released when its process ends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import MakeCompetition, naming

import split
from foldsmith.errors import InputError
from foldsmith.process.locks import is_locked, lock_until_exit, wait_for_lock
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import check_claim, check_claim_of_fold, claim_run

SRC = Path(__file__).parents[1] / "src"
HOLD = """
import sys
from pathlib import Path
from foldsmith.process.locks import {take}
{hold}
"""
KEEP = 'lock_until_exit(Path(sys.argv[1]), "it"); print("held", flush=True); sys.stdin.read()'
SHARE = KEEP.replace('"it"', '"it", shared=True')
TURN = 'with wait_for_lock(Path(sys.argv[1]), "decodes"): print("held", flush=True); sys.stdin.read()'


@contextmanager
def another_process(program: str, path: Path) -> Iterator[subprocess.Popen]:
    """Start a process that holds a lock until its standard input ends or it is killed."""
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD.format(take="lock_until_exit, wait_for_lock", hold=program), str(path)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_with_the_id_of_the_one_that_holds_the_run(tmp_path: Path) -> None:
    with another_process(KEEP, tmp_path / ".lock") as other:
        with pytest.raises(InputError, match=naming(other.pid, "the run")):
            lock_until_exit(tmp_path / ".lock", "the run")
        other.kill()
        other.wait()
        lock_until_exit(tmp_path / ".lock", "the run")  # released when the process was killed


def test_a_stage_is_refused_while_another_process_works_on_the_run(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    run = RunPaths(tmp_path / "tiny" / "run")
    run.root.mkdir(parents=True)
    with another_process(KEEP, run.lock), pytest.raises(InputError, match="tiny/run"):
        split.main([str(make_competition()), "--output", str(tmp_path), "--name", "run"])
    assert [path.name for path in run.root.iterdir()] == [".lock"]


def test_a_process_can_take_its_own_lock_again(tmp_path: Path) -> None:
    lock_until_exit(tmp_path / ".lock", "the run")
    before = (tmp_path / ".lock").stat().st_mtime_ns
    lock_until_exit(tmp_path / ".lock", "the run")
    assert (tmp_path / ".lock").read_text() == f"process {os.getpid()}"
    assert (tmp_path / ".lock").stat().st_mtime_ns == before


def test_a_shared_lock_is_shared_and_excludes_others(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with another_process(SHARE, path) as other:
        lock_until_exit(path, "the run", shared=True)
        with pytest.raises(InputError, match="the run"):  # and keeps its share
            lock_until_exit(path, "the run")
        other.kill()
        other.wait()
        lock_until_exit(path, "the run")
    with pytest.raises(AssertionError), another_process(SHARE, path):
        pass


def test_two_processes_train_two_folds_of_a_run_and_never_the_same(tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    run.root.mkdir()
    for fold in (0, 1):
        run.of_fold(fold).root.mkdir()
    half_written = run.of_fold(1).root / ".log.csv.7.part"
    half_written.touch()
    with another_process(SHARE, run.lock), another_process(KEEP, run.of_fold(1).lock):
        check_claim_of_fold(run, 0)
        assert is_locked(run.of_fold(1).lock) and not is_locked(run.of_fold(0).lock)
        assert half_written.exists()  # the other process is writing it
        with pytest.raises(InputError, match="fold1"):
            check_claim_of_fold(run, 1)
        with pytest.raises(InputError, match="run"):
            check_claim(run)
    assert not is_locked(run.of_fold(1).lock)


def test_a_run_that_is_replaced_stays_locked_throughout(tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    claim_run(run, again=False, recipe={"epochs": 1})
    (run.root / "fold0").mkdir()
    (run.root / "fold0" / "weights").touch()
    lock = run.lock.stat().st_ino
    claim_run(run, again=True, recipe={"epochs": 2})
    assert run.lock.stat().st_ino == lock and not (run.root / "fold0").exists()


def test_a_run_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    check_claim(RunPaths(tmp_path / "run"), recipe={})
    assert not any(tmp_path.iterdir())


def test_half_written_files_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    claim_run(run, again=False, recipe={})
    left, written = (run.fold(0) / f".weights.safetensors.{pid}.part" for pid in (999999999, os.getppid()))
    left.parent.mkdir()
    left.touch()
    written.touch()  # by a process that is alive
    run.weights(0).touch()
    check_claim(run, recipe={})
    assert not left.exists() and written.exists() and run.weights(0).exists()


def test_a_waiting_process_prints_it_and_gets_the_lock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cache" / ".lock"
    with another_process(TURN, path) as other:
        # the other process continues as soon as this one prints that it waits
        lines = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "foldsmith.process.locks.say", lambda line: (lines.append(line), other.stdin.close())
            )
            with wait_for_lock(path, "decodes these images"):
                assert other.wait() == 0
        assert len(lines) == 1 and "decodes these images" in lines[0]
    with wait_for_lock(path, "decodes these images"):
        assert capsys.readouterr().out == ""
