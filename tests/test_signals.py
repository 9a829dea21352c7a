"""SIGINT and SIGTERM at any moment: one sentence, the right status, and no half-written file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foldsmith.process.exit import run_main
from foldsmith.process.files import atomic_write
from foldsmith.process.signals import SIGNALS, Interrupted, interruptible

SRC = Path(__file__).parents[1] / "src"
ADVICE = "stopped; run the same command again to resume.\n"
STAGES = (
    "demo", "prepare", "split", "pretrain", "train", "validate", "infer", "submit", "score", "look", "run",
)  # fmt: skip

SIGNALLED_IN_IMPORT = """
import builtins, os, runpy, signal, sys
true_import = builtins.__import__
def signalled_import(name, *words, **named):
    if name.partition(".")[0] in ("cv2", "numpy", "pandas"):
        os.kill(os.getpid(), signal.{signal})
    return true_import(name, *words, **named)
builtins.__import__ = signalled_import
sys.argv = ["{stage}.py"]
runpy.run_path(r"{src}/{stage}.py", run_name="__main__")
"""


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_interrupted_during_imports_says_how_to_resume(stage: str, tmp_path: Path) -> None:
    signalled = "SIGINT" if stage < "prepare" else "SIGTERM"
    program = SIGNALLED_IN_IMPORT.format(signal=signalled, stage=stage, src=SRC)
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (128 + getattr(signal, signalled), ADVICE)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_stage_leaves_nothing_half_written(
    number: int, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        with atomic_write(tmp_path / "file") as temporary:
            temporary.write_text("half of i")
            signal.raise_signal(number)
        return 0

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert (ended.value.code, capsys.readouterr().err) == (status, ADVICE)
    assert not any(tmp_path.iterdir())


def test_an_error_caused_by_an_interruption_is_reported_as_an_interruption(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("the library is only half imported") from None
        return 0

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert (ended.value.code, capsys.readouterr().err) == (143, ADVICE)


def test_a_second_signal_of_the_same_ctrl_c_does_not_disturb_cleaning_up() -> None:
    tidied = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)  # what a study sends to its stages
            tidied.append(True)

    with pytest.raises(Interrupted) as caught, interruptible():
        work()
    assert tidied and caught.value.number == signal.SIGINT


def test_a_second_ctrl_c_interrupts_again() -> None:
    heard = []

    def work() -> None:
        for _ in range(2):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                heard.append(True)

    with interruptible():
        work()
    assert len(heard) == 2


def test_signal_handlers_are_restored_afterwards() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
