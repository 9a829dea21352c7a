"""The leaderboard: figures against the files of the runs, and verdicts only where they are significant."""

import json
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import naming
from scipy import stats

import compare
from foldsmith.comparison.leaderboard import (
    SIGNIFICANCE,
    compare_runs,
    find_runs,
    gains_of_corrections,
    rank_runs,
)
from foldsmith.errors import InputError
from foldsmith.process.files import load_npz
from foldsmith.run.kaggle_scores import COMPLETE, PENDING, Submission, save_submissions
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, stamp_predicted

COUNT = 400


def write_run(
    root: Path, name: str, correct: np.ndarray, paths: list[str] | None = None, **recipe: object
) -> None:
    """Write a validated run that predicts image i correctly if correct[i]."""
    run, paths = root / name, paths or [f"train/{row}.png" for row in range(len(correct))]
    run.mkdir(parents=True)
    labels = np.array([int(Path(path).stem) % 4 for path in paths])
    predicted = np.where(correct, labels, (labels + 1) % 4)
    np.savez(run / "oof.npz", path=np.array(paths), label=labels, fold=labels % 2,
             probabilities=np.eye(4, dtype=np.float32)[predicted])  # fmt: skip
    scores = [float(correct[labels % 2 == fold].mean()) for fold in (0, 1)]
    error = float(np.std(scores, ddof=1) / 2**0.5)
    cv = {"metric": "accuracy", "mean": float(np.mean(scores)), "standard_error": error, "folds": scores}
    (run / "cv.json").write_text(json.dumps(cv))
    identity = {"recipe": {"name": name, "lr": 0.1, "views": ["identity"], **recipe}}
    (run / "identity.json").write_text(json.dumps(identity))
    (run / "classes.csv").write_text("label,category,class_name\n0,a,a\n1,b,b\n2,c,c\n3,d,d\n")
    for fold in (0, 1):
        (run / f"fold{fold}").mkdir()
        (run / f"fold{fold}" / "run.json").write_text(json.dumps({"training_seconds": 10.5}))
        (run / f"fold{fold}" / "heldout.npz").touch()
        stamp_predicted(RunPaths(run), fold, ["identity"])
    (run / "stamps").mkdir()
    trained = digests_of_trained(RunPaths(run), (0, 1))
    (run / "stamps" / "validate.json").write_text(json.dumps({"trained": trained}))


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    draws = np.random.default_rng(0)
    base = draws.random(COUNT) < 0.6
    write_run(tmp_path / "birds", "base", base)
    swapped = np.concatenate([np.flatnonzero(base)[:6], np.flatnonzero(~base)[:5]])
    same = base.copy()
    same[swapped] = ~base[swapped]  # equal counts except for one image
    write_run(tmp_path / "birds", "same", same, lr=0.2)
    write_run(tmp_path / "birds", "better", base | (draws.random(COUNT) < 0.3), epochs=60)
    (tmp_path / "birds" / "cache").mkdir()
    return tmp_path / "birds"


def test_runs_are_ranked_by_score_with_cost_and_differing_fields(competition: Path) -> None:
    ranked = rank_runs(find_runs(competition)).set_index("run")
    assert ranked.index[0] == "better" and ranked["score"].is_monotonic_decreasing
    for name, row in ranked.iterrows():
        cv = json.loads((competition / name / "cv.json").read_text())
        assert (row["score"], row["standard_error"]) == (cv["mean"], cv["standard_error"])
        assert (row["seconds"], row["images"], row["folds"]) == (21.0, COUNT, 2)
    assert ranked["differs"].to_dict() == {
        "base": "lr=0.1, epochs=None",
        "same": "lr=0.2, epochs=None",
        "better": "lr=0.1, epochs=60",
    }


def test_pairs_are_compared_on_the_same_images_and_better_is_significant(competition: Path) -> None:
    pairs = compare_runs(find_runs(competition)).set_index(["a", "b"])
    oof = {path.parent.name: load_npz(path) for path in competition.glob("*/oof.npz")}
    correct = {name: run["probabilities"].argmax(axis=1) == run["label"] for name, run in oof.items()}
    for (a, b), row in pairs.iterrows():
        assert row["difference"] == pytest.approx(correct[b].mean() - correct[a].mean())
        assert row["standard_error"] == pytest.approx(stats.sem(correct[b].astype(float) - correct[a]))
        only_a, only_b = (correct[a] & ~correct[b]).sum(), (correct[b] & ~correct[a]).sum()
        assert row["p"] == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)
        assert (row["verdict"] == "no sure difference") == (row["p_adjusted"] >= SIGNIFICANCE)
    assert set(pairs["verdict"]) == {"better is better", "no sure difference"}
    assert pairs.loc[("base", "same"), "verdict"] == "no sure difference"


def test_images_are_matched_by_path_and_others_left_out(tmp_path: Path) -> None:
    correct = np.arange(10) < 6
    names = [f"train/{row}.png" for row in range(12)]
    write_run(tmp_path, "one", correct, names[:10])
    write_run(tmp_path, "other", correct[::-1], names[2:][::-1])
    (pair,) = compare_runs(find_runs(tmp_path)).to_dict("records")
    one, other = (
        dict(zip(names[:10], correct, strict=True)),
        dict(zip(names[2:][::-1], correct[::-1], strict=True)),
    )
    both = names[2:10]
    assert pair["images"] == 8
    assert pair["only_a"] == sum(one[path] and not other[path] for path in both)
    assert pair["only_b"] == sum(other[path] and not one[path] for path in both)


def test_images_with_another_label_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    correct = np.ones(40, bool)
    write_run(tmp_path, "before", correct)
    write_run(tmp_path, "after", correct)
    # ten images are of class e instead of a; e is the first class of this run
    path = tmp_path / "after" / "oof.npz"
    oof = load_npz(path)
    classes = ["e", "a", "b", "c", "d"]
    oof["label"] = oof["label"] + 1
    oof["label"][:40:4] = 0
    oof["probabilities"] = np.eye(5, dtype=np.float32)[np.full(40, 4)]  # d
    np.savez(path, **oof)
    rows = "".join(f"{label},{name},{name}\n" for label, name in enumerate(classes))
    (tmp_path / "after" / "classes.csv").write_text(f"label,category,class_name\n{rows}")
    (pair,) = compare_runs(find_runs(tmp_path)).to_dict("records")
    assert (pair["a"], pair["images"]) == ("after", 30)
    assert (pair["only_a"], pair["only_b"]) == (0, 20)
    assert compare.main([str(tmp_path)]) == 0
    note = re.compile(r"\bafter\b.*\bbefore\b.*\b10 images")
    assert note.search(capsys.readouterr().out)
    assert note.search((tmp_path / "leaderboard.html").read_text())


def test_a_run_trained_after_its_validation_is_left_out(
    competition: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (competition / "same" / "fold1" / "run.json").write_text(json.dumps({"training_seconds": 99}))
    (competition / "base" / "fold2").mkdir()  # a fold that is not in the score
    (competition / "base" / "fold2" / "run.json").write_text(json.dumps({"training_seconds": 99}))
    assert compare.main([str(competition)]) == 0
    assert re.search(r"\bsame\b.*\bstale\b", capsys.readouterr().out)
    board = pd.read_csv(competition / "leaderboard.csv").set_index("run")["seconds"]
    assert board.to_dict() == {"better": 21.0, "base": 21.0}
    for name in ("base", "better"):
        (competition / name / "stamps" / "validate.json").unlink()
    with pytest.raises(InputError, match=naming("base", "better", "same")):
        find_runs(competition)


def test_a_run_whose_views_changed_since_it_was_validated_is_left_out(competition: Path) -> None:
    identity = competition / "same" / "identity.json"
    held = json.loads(identity.read_text())
    held["recipe"]["views"] = ["identity", "hflip"]
    identity.write_text(json.dumps(held))
    assert [run.name for run in find_runs(competition)] == ["base", "better"]


def test_runs_without_a_common_label_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("names", "numbers"):
        write_run(tmp_path, name, np.arange(12) < 7)
    (tmp_path / "numbers" / "classes.csv").write_text(
        "label,category,class_name\n0,1,1\n1,2,2\n2,3,3\n3,4,4\n"
    )
    assert compare.main([str(tmp_path)]) == 0
    assert re.search(naming("names", "numbers", 12), capsys.readouterr().out)
    assert pd.read_csv(tmp_path / "pairs.csv").empty


def test_the_stage_prints_and_writes_both_files(
    competition: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([str(competition)]) == 0
    printed = capsys.readouterr().out
    assert "better is better" in printed and "no sure difference" not in printed
    assert re.search(r"pairs.*\b1\b.*--all-pairs", printed) and f"{COUNT:,}" in printed
    board = pd.read_csv(competition / "leaderboard.csv")
    assert board["run"].tolist()[0] == "better" and len(pd.read_csv(competition / "pairs.csv")) == 3
    page = (competition / "leaderboard.html").read_text()
    assert "better is better" in page and "://" not in page
    before = (competition / "leaderboard.html").read_bytes()
    assert compare.main([str(competition)]) == 0
    assert (competition / "leaderboard.html").read_bytes() == before
    capsys.readouterr()
    assert compare.main([str(competition), "--all-pairs"]) == 0
    printed = capsys.readouterr().out
    assert "no sure difference" in printed and "--all-pairs" not in printed
    assert "no sure difference" in (competition / "leaderboard.html").read_text()


def test_one_run_is_a_leaderboard_and_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="nowhere"):
        compare.main([str(tmp_path / "nowhere")])
    write_run(tmp_path / "birds", "only", np.arange(8) < 5, lr=0.3)
    path = tmp_path / "birds" / "only" / "cv.json"  # one fold: no standard error
    path.write_text(json.dumps({**json.loads(path.read_text()), "standard_error": None}))
    assert compare.main([str(tmp_path / "birds")]) == 0
    printed = capsys.readouterr().out
    assert "only" in printed and "nan" not in printed
    with pytest.raises(InputError, match="'--nmae'"):
        compare.main([str(tmp_path), "--nmae", "x"])


def test_runs_of_different_metrics_are_refused(competition: Path) -> None:
    cv = json.loads((competition / "base" / "cv.json").read_text())
    (competition / "base" / "cv.json").write_text(json.dumps({**cv, "metric": "log_loss"}))
    with pytest.raises(InputError, match=naming("accuracy", "log_loss")):
        rank_runs(find_runs(competition))


def test_what_corrections_gain_is_said_of_the_images_whose_labels_were_not_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draws = np.random.default_rng(1)
    before, after = draws.random(COUNT) < 0.6, draws.random(COUNT) < 0.7
    write_run(tmp_path, "base", before)
    write_run(tmp_path, "other", before, lr=0.3)
    write_run(tmp_path, "base-corrected", after)
    rows = "".join(f"train/{row}.png,{row},{'abcd'[row % 4]},{'bcda'[row % 4]}\n" for row in range(30))
    kept = "train/40.png,40,a,a\n"
    (tmp_path / "base-corrected" / "corrections.csv").write_text(f"path,digest,old,new\n{rows}{kept}")
    oof = load_npz(tmp_path / "base-corrected" / "oof.npz")
    oof["label"][:30] = (oof["label"][:30] + 1) % 4
    np.savez(tmp_path / "base-corrected" / "oof.npz", **oof)

    gain = after[30:].astype(float) - before[30:]
    (first, second) = gains_of_corrections(find_runs(tmp_path))
    figures = f"{gain.mean():+.4f} ± {gain.std(ddof=1) / np.sqrt(len(gain)):.4f}"
    assert re.match(naming("base-corrected against base,", figures, COUNT - 30, 30), first)
    assert re.match(naming("base-corrected", "30 labels changed"), second)
    assert compare.main([str(tmp_path)]) == 0
    assert figures in capsys.readouterr().out and figures in (tmp_path / "leaderboard.html").read_text()


def test_the_public_score_of_this_submission_stands_beside_the_cross_validation(
    competition: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "public_score" not in rank_runs(find_runs(competition))
    for name, submitted, public in (("base", "now", 0.61), ("better", "before", 0.99)):
        run = RunPaths(competition / name)
        run.submission.write_text("now")
        sent = Submission(
            "2026-11-30T00:00:00Z", "birds", "a text", digest=sha256(submitted.encode()).hexdigest()
        )
        scored = replace(sent, status=COMPLETE, reference=7, public=public)
        save_submissions(run, [scored, replace(scored, reference=8, status=PENDING, public=None)])
    assert compare.main([str(competition)]) == 0
    board = pd.read_csv(competition / "leaderboard.csv").set_index("run")
    assert board["public_score"].dropna().to_dict() == {"base": 0.61}
    assert board.loc["base", "public_minus_score"] == pytest.approx(0.61 - board.loc["base", "score"])
    assert "private_score" not in board
    printed = capsys.readouterr().out
    assert "0.6100" in printed and "0.9900" not in printed
    assert any("better" in line and "earlier submission.csv" in line for line in printed.splitlines())
    assert "0.6100" in (competition / "leaderboard.html").read_text(encoding="utf-8")
