"""SIGKILL at any moment of any stage, then the same command: it ends with the same files and bytes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeCompetition, naming
from crash import (
    RECIPES,
    STAGES,
    Case,
    Kill,
    Outcome,
    Trace,
    WrongOutcome,
    can_train_after_a_fork,
    main,
    refuse_other,
)

pytestmark = pytest.mark.slow

Reference = tuple[Case, Path, dict[str, Trace]]


@pytest.fixture(scope="module", autouse=True)
def forks_that_train() -> None:
    if not can_train_after_a_fork():
        pytest.skip(
            "beside a GPU no process can be forked that trains after one that did: run this file alone"
        )


@pytest.fixture(scope="module")
def reference(
    make_competition: MakeCompetition, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Reference]:
    """Return, for a recipe, a case, the output of its uninterrupted run, and the traces of that run."""
    references: dict[str, Reference] = {}
    folder, root = make_competition(name="crash", per_class=8), tmp_path_factory.mktemp("crash")

    def make(recipe: str) -> Reference:
        if recipe not in references:
            case = Case(folder, [*RECIPES[recipe], "--workers", "0"], root / f"{recipe}.log")
            references[recipe] = case, root / recipe, case.trace(root / recipe, calls=recipe == "autoencoder")
        return references[recipe]

    return make


def test_a_run_killed_repeatedly_at_any_function_call_ends_with_the_same_bytes(
    reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    case, expected, traces = reference("autoencoder")
    draws = np.random.default_rng(0)
    kills = [Kill(stage, "calls", int(draws.integers(1, traces[stage].calls))) for stage in STAGES]
    # a resumed stage makes fewer calls: two earlier kills, the second of them after resuming
    kills += [Kill("train", "calls", int(traces["train"].calls * share)) for share in (0.3, 0.15)]
    outcome = Outcome()
    case.run(tmp_path, kills, outcome)
    assert len(outcome.hits) >= 7
    refuse_other(tmp_path, expected, f"after {outcome.hits}")


def test_a_run_with_worker_processes_killed_before_operations_on_files_ends_with_the_same_bytes(
    reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    case, expected, traces = reference("quick")
    draws = np.random.default_rng(0)
    counts = {stage: len(trace.operations) for stage, trace in traces.items() if trace.operations}
    kills = [Kill(stage, ".", int(draws.integers(1, count + 1))) for stage, count in counts.items()]
    kills += [Kill("train", ".", at) for at in (20, 5)]
    outcome = Outcome()
    Case(case.folder, [*RECIPES["quick"], "--workers", "1"], case.log).run(tmp_path, kills, outcome)
    assert len(outcome.hits) >= 6
    refuse_other(tmp_path, expected, f"after {outcome.hits}")


MOMENTS = [
    # before the rename of the cache, of an output, of a stamp
    Kill("prepare", r"rename \S+\.part crash/cache/[^.]\S+$", 1),
    Kill("prepare", r"rename \S+ crash/run/classes\.csv", 1),
    Kill("prepare", r"rename \S+ crash/run/stamps/prepare\.json", 1),
    Kill("split", r"rename \S+ crash/run/folds\.csv", 1),
    Kill("split", r"open crash/run/stamps", 1),
    # between the two renames of a checkpoint, when no file has its name
    Kill("pretrain", r"rename \S+ \S+/checkpoint\.pt$", 3),
    Kill("pretrain", r"rename \S+ \S+/decoder\.safetensors", 1),
    Kill("pretrain", r"rename \S+ \S+/pretrain/run\.json", 1),
    # a finished pretraining or fold whose checkpoints, or one of them, still exist
    Kill("pretrain", r"remove \S+/checkpoint\.pt$", 1),
    Kill("train", r"rename \S+ \S+/checkpoint\.pt$", 2),
    Kill("train", r"rename \S+ \S+/checkpoint\.pt\.previous", 1),
    Kill("train", r"rename \S+ \S+/fold0/weights\.safetensors", 1),
    Kill("train", r"rename \S+ \S+/fold0/run\.json", 1),
    Kill("train", r"remove \S+/fold0/checkpoint\.pt\S*$", 2),
    Kill("train", r"remove \S+/fold1/checkpoint\.pt\S*$", 1),
    Kill("validate", r"rename \S+ crash/run/oof\.npz", 1),
    Kill("validate", r"rename \S+ crash/run/cv\.json", 1),
    Kill("infer", r"rename \S+ crash/run/test\.npz", 1),
    Kill("submit", r"rename \S+ crash/run/submission\.csv", 1),
    Kill("submit", r"rename \S+ crash/run/stamps/submit\.json", 1),
    Kill("examine", r"rename \S+ crash/run/features\.npz", 1),
    Kill("report", r"rename \S+ crash/run/report\.html", 1),
]


def test_a_run_killed_before_any_file_is_renamed_ends_with_the_same_bytes(
    reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    case, expected, _ = reference("autoencoder")
    outcome = Outcome()
    case.run(tmp_path, MOMENTS, outcome)
    assert outcome.hits == MOMENTS
    refuse_other(tmp_path, expected, "after these kills")


# between the files of networks and rounds, their stamps, and the files computed from them
ROUND_MOMENTS = [
    Kill("train", r"rename \S+ \S+/fold0/round1/seed0/heldout\.npz", 1),
    Kill("train", r"rename \S+ \S+/fold0/round1/seed0/run\.json", 1),
    Kill("train", r"remove \S+/fold0/round1/checkpoint\.pt$", 1),
    Kill("train", r"rename \S+ \S+/round1/seed1/checkpoint\.pt$", 2),
    Kill("train", r"rename \S+ \S+/fold0/round1/seed1/run\.json", 1),
    Kill("train", r"rename \S+ \S+/fold0/round1/heldout\.npz", 1),
    Kill("train", r"rename \S+ \S+/fold0/pseudo_labels\.csv", 1),
    Kill("train", r"rename \S+ \S+/fold0/pseudo_labels\.json", 1),
    Kill("train", r"rename \S+ \S+/fold0/weights\.safetensors", 1),
    Kill("train", r"rename \S+ \S+/fold0/seed0/run\.json", 1),
    Kill("train", r"rename \S+ \S+/fold0/seed1/weights\.safetensors", 1),
    Kill("train", r"remove \S+/fold0/seed1/checkpoint\.pt\S*$", 2),
    Kill("train", r"rename \S+ \S+/fold0/heldout\.npz", 1),
    Kill("train", r"rename \S+ \S+/fold0/run\.json", 1),
]


def test_networks_and_rounds_killed_before_any_file_is_renamed_end_with_the_same_bytes(
    reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    case, expected, _ = reference("rounds")
    outcome = Outcome()
    case.run(tmp_path, ROUND_MOMENTS, outcome)
    assert outcome.hits == ROUND_MOMENTS
    refuse_other(tmp_path, expected, "after these kills")


@pytest.mark.parametrize(
    ("name", "key"),
    [("run/oof.npz", "differ"), ("run/.oof.npz.1.part", "left"), ("run/fold0/checkpoint.pt", "left")],
)
def test_a_wrong_outcome_is_noticed(
    name: str, key: str, reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    _, expected, _ = reference("quick")
    shutil.copytree(expected, tmp_path, dirs_exist_ok=True)
    refuse_other(tmp_path, expected, "")
    with (tmp_path / "crash" / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(WrongOutcome, match=naming(name, key)):
        refuse_other(tmp_path, expected, "")


def test_a_stage_that_fails_after_a_kill_is_noticed(
    reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    case, _, _ = reference("quick")
    (tmp_path / "crash" / "run").mkdir(parents=True)
    (tmp_path / "crash" / "run" / "identity.json").write_text("{")
    with pytest.raises(WrongOutcome, match=naming("prepare", 1, "identity.json")):
        case.run(tmp_path, [], Outcome())


def test_the_command_prints_a_row_for_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    # a seed whose first run has two kills that hit: one in training after some time, one before an operation
    assert main(["--kills", "2", "--seed", "3062"]) == 0
    rows = [row.strip("| ").split(" | ") for row in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows[:-1]] == list(STAGES)
    assert rows[-1][1:3] == ["2", "2"] and all(row[1] == row[2] for row in rows)


def test_the_command_counts_kills_that_were_not_survived_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def give_up(case: Case, output: Path, kills: list[Kill], outcome: Outcome) -> None:
        outcome.hits += kills
        raise WrongOutcome("it never came back")

    monkeypatch.setattr(Case, "run", give_up)
    monkeypatch.setattr(Case, "trace", lambda *words: {"split": Trace([], 0, 1.0)})
    assert main(["--kills", "4"]) == 1
    printed = capsys.readouterr()
    assert "| split | 4 | 0 | 0 |" in printed.out and "it never came back" in printed.err
