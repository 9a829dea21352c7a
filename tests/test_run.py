"""All stages in one process: order, statuses, signals, and no influence on the files of later stages."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from conftest import MakeCompetition

import run as runner
from foldsmith.errors import InputError
from foldsmith.process.signals import SIGNALS

SRC = Path(__file__).parents[1] / "src"
WORDS = ["--recipe", "quick", "--image-size", "16", "--epochs", "1", "--batch-size", "8", "--folds", "2"]
WORDS += ["--precision", "fp32", "--workers", "0", "--device", "cpu", "--name", "run"]


def command_of(script: str, words: list[str]) -> list[str]:
    return [sys.executable, str(SRC / f"{script}.py"), *words]


# Run every stage in a process of its own, which starts with imported modules and no earlier stage; they share
# one import, which defines and does nothing else.
APART = """
import importlib, os, sys
sys.path.insert(0, sys.argv[1])
import torch._dynamo, foldsmith.inference.features, foldsmith.report.page
import foldsmith.evaluation.label_issues, foldsmith.evaluation.shift
for name in sys.argv[2].split():
    stage, process = importlib.import_module(name), os.fork()
    if process == 0:
        os._exit(stage.main(sys.argv[3:]))
    assert os.waitpid(process, 0)[1] == 0, name
"""


@pytest.mark.parametrize("failing", [None, "split", "score"])
def test_stages_run_in_order_with_the_same_arguments_until_one_fails(
    failing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, handlers = [], [signal.getsignal(number) for number in SIGNALS]

    def import_module(name: str) -> SimpleNamespace:
        assert [signal.getsignal(number) for number in SIGNALS] != handlers

        def main(words: list[str]) -> int:
            assert [signal.getsignal(number) for number in SIGNALS] == handlers
            ran.append((name, words))
            return 7 if name == failing else 0

        return SimpleNamespace(main=main)

    monkeypatch.setattr(runner, "import_module", import_module)
    words = ["input/birds", "--recipe", "quick"]
    assert runner.main(words) == (7 if failing else 0)
    expected = runner.STAGES[: runner.STAGES.index(failing) + 1] if failing else runner.STAGES
    assert ran == [(name, words) for name in expected]


def test_the_stages_are_scripts_in_the_order_of_their_files() -> None:
    assert all((SRC / f"{name}.py").is_file() for name in runner.STAGES)
    order = ["prepare", "split", "pretrain", "train", "validate", "infer", "submit", "report", "score"]
    assert [name for name in runner.STAGES if name in order] == order


def test_wrong_arguments_are_refused_before_a_stage_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    with pytest.raises(InputError, match="did you mean '--epochs'"):
        runner.main(["input/birds", "--epoch", "3"])
    with pytest.raises(SystemExit) as ended:
        runner.main(["--help"])
    assert ended.value.code == 0


def test_wrong_input_ends_it_with_status_2_and_one_sentence(tmp_path: Path) -> None:
    ended = subprocess.run(command_of("run", [str(tmp_path / "nothing")]), capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1


def test_a_stage_alone_writes_what_it_writes_after_the_others(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(per_class=8, size=20)
    words = [str(folder), *WORDS, "--set", "deterministic=true"]
    together, apart = tmp_path / "together", tmp_path / "apart"
    threads = cv2.getNumThreads()
    assert runner.main([*words, "--output", str(together)]) == 0
    torch.use_deterministic_algorithms(False)
    cv2.setNumThreads(threads)
    shutil.copytree(together, apart)
    names = ("test.npz", "views.npz", "features.npz", "label_issues.csv", "report.html", "oof.npz")
    for name in (*names, *(f"stamps/{stage}.json" for stage in ("validate", "infer", "examine", "report"))):
        (apart / folder.name / "run" / name).unlink()
    program = [sys.executable, "-c", APART, str(SRC), "validate infer examine report"]
    subprocess.run([*program, *words, "--output", str(apart)], check=True)
    for name in names:
        files = [output / folder.name / "run" / name for output in (together, apart)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_interrupted_it_ends_with_the_running_stage_and_resumes_there(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    words = [str(make_competition()), *WORDS, "--output", str(tmp_path)]
    endless = ["--epochs", "1000000", "--set", "schedule=constant"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command_of("run", [*words, *endless]),
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as stages:  # fmt: skip
        while "fold 0  epoch" not in stages.stdout.readline():
            assert stages.poll() is None
        stages.send_signal(signal.SIGTERM)
        error = stages.communicate()[1]
    assert stages.returncode == 143
    assert error.startswith("stopped; ") and error.count("\n") == 1, error
    run = tmp_path / "tiny" / "run"
    assert (run / "fold0" / "checkpoint.pt").is_file() and not (run / "cv.json").exists()
