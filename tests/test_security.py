"""Input is never executed, paths stay inside their folder, and nothing uses the internet."""

import ast
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming

import examine
import infer
import prepare
import report
import score
import split
import submit
import train
import validate
from foldsmith.data.cache import build_cache, open_cache
from foldsmith.errors import InputError
from foldsmith.process.files import load_npz
from foldsmith.run.tables import load_classes

SRC = Path(__file__).parents[1] / "src"
STAGES = (prepare, split, train, validate, infer, submit, examine, report, score)
SMALL = ["--recipe", "quick", "--image-size", "16", "--epochs", "1", "--batch-size", "8", "--folds", "2"]
SMALL += ["--precision", "fp32", "--device", "cpu", "--name", "run"]


def calls_of(path: Path) -> list[tuple[str, ast.Call]]:
    """Return the source text of every call in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


# --- pickles, which run code when they are read


def is_unsafe(name: str, call: ast.Call) -> bool:
    """Return whether a call reads a pickle, executes text, or starts a shell."""
    words = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if name in ("np.load", "numpy.load"):
        return words.get("allow_pickle") != "False"
    if name == "torch.load":
        return words.get("weights_only") != "True"
    forbidden = {"pickle.load", "pickle.loads", "pd.read_pickle", "eval", "os.system", "joblib.load"}
    return "shell" in words or name in forbidden


def test_nothing_in_the_source_reads_a_pickle_or_a_shell() -> None:
    calls = [(path, *found) for path in SRC.rglob("*.py") for found in calls_of(path)]
    assert len(calls) > 1000
    assert [f"{path}:{call.lineno}" for path, name, call in calls if is_unsafe(name, call)] == []
    for unsafe in ("np.load(x)", "torch.load(x, weights_only=False)", "eval(x)", "run(x, shell=True)"):
        call = ast.parse(unsafe).body[0].value
        assert is_unsafe(ast.unparse(call.func), call), unsafe


class Bomb:
    """An object that creates a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_pickles_instead_of_arrays_are_refused_and_not_executed(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    bomb = np.array([Bomb(tmp_path / "ran")], dtype=object)
    np.savez(tmp_path / "heldout.npz", path=bomb)
    with pytest.raises(ValueError, match="allow_pickle"):
        load_npz(tmp_path / "heldout.npz")
    (tmp_path / "oof.npz").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(ValueError, match="allow_pickle|pickled"):
        load_npz(tmp_path / "oof.npz")
    folder = make_competition()
    cache = build_cache(tmp_path / "cache", folder, ["train/0.png"], 8)
    np.save(cache.path / "pixels.npy", bomb, allow_pickle=True)
    with pytest.raises(InputError, match="pixels.npy"):
        open_cache(cache.path, folder, 8)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(FileNotFoundError):  # the bomb works when it is unpickled
        pickle.loads(pickle.dumps(Bomb(tmp_path / "no" / "parent")))


# --- names


def test_names_that_are_markup_or_formulas_are_never_executed(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(num_classes=3, sample="names")
    names = ["<script>alert(1)</script>", "=HYPERLINK(0)", "@SUM(1)\n<img src=x onerror=alert(2)>"]
    for name in ("answer.json", "sample_submission.csv"):
        text = (folder / name).read_text()
        for label, evil in enumerate(names):
            written = json.dumps(evil)[1:-1] if name == "answer.json" else f'"{evil}"'
            text = text.replace(f"kind {label}", written)
        (folder / name).write_text(text)
    (folder / "train" / "<script>alert(3)<.png").write_bytes(b"no image")
    for stage in STAGES[:-1]:  # the truth file has the harmless names
        assert stage.main([str(folder), *SMALL, "--workers", "0", "--output", str(tmp_path)]) == 0
    run = tmp_path / "tiny" / "run"
    page = (run / "report.html").read_text()
    assert "<script>alert" not in page and "<img src=x" not in page and "&lt;script&gt;alert(1)" in page
    assert list(load_classes(run / "classes.csv")["class_name"]) == names
    for table in ("samples.csv", "classes.csv", "problems.csv", "folds.csv", "oof.csv", "label_issues.csv"):
        cells = pd.read_csv(run / table, dtype=str, keep_default_na=False).to_numpy().ravel()
        assert not [cell for cell in cells if re.match("[=@\t\r]", cell)], table
    # a submission must use the competition's labels unchanged
    assert set(pd.read_csv(run / "submission.csv")["label"]) <= set(names)


@pytest.mark.parametrize(
    "way_out", ["../secret.png", "train/../../secret.png", "{}/secret.png", "..\\secret.png"]
)
@pytest.mark.parametrize("labels", ["answer", "coco", "csv"])
def test_no_label_file_can_name_files_outside_the_folder(
    make_competition: MakeCompetition, tmp_path: Path, way_out: str, labels: str
) -> None:
    folder = make_competition(labels=labels)
    (folder.parent / "secret.png").write_bytes((folder / "train" / "0.png").read_bytes())
    path = next(
        folder / name for name in ("answer.json", "train.json", "labels.csv") if (folder / name).is_file()
    )
    leaving = way_out.format(folder.parent)
    spelled = json.dumps(leaving)[1:-1] if path.suffix == ".json" else leaving
    path.write_text(path.read_text().replace("17.png", spelled))
    with pytest.raises(InputError, match=naming(path, 1, 18, "train/")):
        prepare.main([str(folder), *SMALL, "--output", str(tmp_path)])
    assert not any(tmp_path.iterdir())


def test_a_sample_submission_cannot_name_files_outside_the_folder(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition()
    sample = folder / "sample_submission.csv"
    sample.write_text(sample.read_text().replace("\n0.png", "\n../../../etc/passwd"))
    with pytest.raises(InputError, match=naming(sample, 1, 6, "etc/passwd")):
        prepare.main([str(folder), *SMALL, "--output", str(tmp_path)])


# --- the internet, hash seeds and the order of files

OFFLINE = """
import json, os, sys
def refuse(event, words):
    # workers use local sockets, whose addresses are strings
    asks = event == "socket.getaddrinfo" or event in ("socket.connect", "socket.sendto") and words[1:] and (
        isinstance(words[1], tuple))
    if asks:
        raise SystemExit(f"the network is asked: {event}")
sys.addaudithook(refuse)
true_walk = os.walk
def walk_backwards(*words, **named):
    for parent, folders, files in true_walk(*words, **named):
        folders.reverse()
        yield parent, folders, files[::-1]
os.walk = walk_backwards
import examine, infer, prepare, report, score, split, submit, train, validate
for stage in (prepare, split, train, validate, infer, submit, examine, report, score):
    assert stage.main(sys.argv[1:]) == 0
print("every stage is done")
import socket
socket.create_connection(("huggingface.co", 443))
"""
RESULTS = ("samples.csv", "folds.csv", "fold0/weights.safetensors", "fold1/weights.safetensors", "oof.npz")
RESULTS += ("cv.json", "test.npz", "submission.csv", "problems.csv", "classes.csv", "oof.csv")


@pytest.mark.slow
def test_no_stage_uses_the_internet_and_no_hash_seed_or_order_of_files_changes_a_byte(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder, shuffled = make_competition(), make_competition()
    answer = json.loads((shuffled / "answer.json").read_text())
    answer = {name: answer[name][::-1] for name in reversed(answer)}
    (shuffled / "answer.json").write_text(json.dumps(answer))
    for stage in STAGES:
        stage.main([str(folder), *SMALL, "--workers", "0", "--output", str(tmp_path / "here")])
    words = [str(shuffled), *SMALL, "--workers", "1", "--output", str(tmp_path / "there")]
    ended = subprocess.run(
        [sys.executable, "-c", OFFLINE, *words],
        env={**os.environ, "PYTHONPATH": str(SRC), "PYTHONHASHSEED": "4321"}, capture_output=True, text=True,
    )  # fmt: skip
    assert "every stage is done" in ended.stdout, ended.stderr
    # the program ends here: connections raise
    assert ended.stderr.strip() == "the network is asked: socket.getaddrinfo"
    for name in RESULTS:
        here, there = (tmp_path / root / "tiny" / "run" / name for root in ("here", "there"))
        assert here.read_bytes() == there.read_bytes(), name
