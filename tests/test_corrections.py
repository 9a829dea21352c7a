"""Corrected labels: applied by digest, copies included; stale lines refused; part of what a run is."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from conftest import MakeCompetition, naming, write_rows

import prepare
import split
from foldsmith.data.corrections import (
    COLUMNS,
    LEAVE_OUT,
    Labelled,
    apply_corrections,
    digest_of_corrections,
    read_corrections,
    spelling_of,
)
from foldsmith.errors import InputError
from foldsmith.process.files import load_json
from foldsmith.run.command import read_command
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_corrections, load_samples, save_table
from foldsmith.tasks import TASKS, build_task

NAMES = ["ant", "bee", "cat"]
DIGESTS = list("aabccdef")  # 0 and 1 are copies; 3 and 4 are copies with two labels


def labelled(
    categories: Sequence[object],
    names: Sequence[str] = (),
    task: str = "multiclass",
    near: Sequence[str] = (),
) -> Labelled:
    paths = [f"train/{row}.png" for row in range(len(categories))]
    rows = pd.DataFrame({"path": paths, "category": list(categories), "group": ""})
    encoded = TASKS[task].encode(rows, dict(zip(names, names, strict=True)), Path("labels.csv"))
    index = pd.DataFrame({"path": paths, "digest": DIGESTS, "near": list(near) or [""] * len(paths)})
    return Labelled(encoded.samples, encoded.classes, index, build_task(task, len(encoded.classes)))


@pytest.fixture
def animals() -> Labelled:
    return labelled(["ant", "ant", "bee", "bee", "cat", "cat", "ant", "bee"])


def lines_of(tmp_path: Path, *rows: tuple[str, str, str]) -> tuple[Path, pd.DataFrame]:
    """Write a file of (digest, old, new), and return its path and what is read from it."""
    path = tmp_path / "corrections.csv"
    write_rows(path, list(COLUMNS), [["train/x.png", *row] for row in rows])
    return path, read_corrections(path)


def test_every_image_of_a_digest_gets_the_new_label_or_is_left_out(animals: Labelled, tmp_path: Path) -> None:
    path, lines = lines_of(
        tmp_path, ("a", "ant", "cat"), ("b", "bee", LEAVE_OUT), ("c", "bee", "cat"), ("c", "cat", "cat")
    )
    corrected = apply_corrections(path, lines, animals)
    expected = dict(zip(animals.samples["path"], animals.samples["class_name"], strict=True))
    expected |= {f"train/{row}.png": "cat" for row in (0, 1, 3, 4)}
    del expected["train/2.png"]
    samples = corrected.samples
    assert dict(zip(samples["path"], samples["class_name"], strict=True)) == expected
    names = corrected.classes["class_name"].to_numpy()
    assert (names[samples["label"]] == samples["class_name"]).all()
    assert (samples["category"] == samples["class_name"]).all() and samples["label"].dtype.kind == "i"
    assert corrected.applied.to_numpy().tolist() == [
        ["train/0.png", "a", "ant", "cat"],
        ["train/1.png", "a", "ant", "cat"],
        ["train/2.png", "b", "bee", LEAVE_OUT],
        ["train/3.png", "c", "bee", "cat"],
        ["train/4.png", "c", "cat", "cat"],
    ]
    assert "train/2.png" not in set(corrected.index["path"])
    assert digest_of_corrections(corrected.applied) == digest_of_corrections(lines)


def test_kept_labels_change_nothing(animals: Labelled, tmp_path: Path) -> None:
    path, lines = lines_of(tmp_path, ("a", "ant", "ant"), ("d", "cat", "cat"))
    corrected = apply_corrections(path, lines, animals)
    pd.testing.assert_frame_equal(corrected.samples, animals.samples)
    pd.testing.assert_frame_equal(corrected.index, animals.index)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("d", "cat", "cat"), ("nowhere", "ant", "bee")], ["line 3", "train/x.png"]),
        ([("d", "cat", "cat"), ("a", "bee", "cat")], ["line 3", "train/0.png", "'ant'", "'bee'"]),
        ([("a", "ant", "cat"), ("a", "ant", "bee")], ["line 3", "'bee'", "line 2", "'cat'"]),
        ([("a", "ant", "camel")], ["line 2", "'camel'", "'cat'"]),
        ([("a", "ant", "")], ["line 2", LEAVE_OUT]),
        ([("d", "cat", "bee"), ("c", "bee", "cat")], ["line 3", "train/4.png", "'cat'"]),
        ([(digest, old, "ant") for digest, old in [("b", "bee"), ("c", "bee"), ("c", "cat"), ("d", "cat"),
                                                   ("f", "bee")]], ["corrections.csv"]),
    ],
    ids=["digest", "old label", "two answers", "no class", "empty", "copy with another label", "one class"],
)  # fmt: skip
def test_a_line_that_does_not_fit_is_named_and_refused(
    animals: Labelled, tmp_path: Path, rows: list[tuple[str, str, str]], words: list[str]
) -> None:
    path, lines = lines_of(tmp_path, *rows)
    with pytest.raises(InputError, match=naming(path, *words)):
        apply_corrections(path, lines, animals)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    with pytest.raises(InputError, match=naming(path)):
        read_corrections(path)
    write_rows(path, ["path", "digest", "given"], [["a", "b", "c"]])
    with pytest.raises(InputError, match=naming(path, "given", "old", "new")):
        read_corrections(path)
    write_rows(path, list(COLUMNS), [])
    with pytest.raises(InputError, match=naming(path)):
        read_corrections(path)


def test_class_names_of_any_text_survive_the_table_of_a_run(tmp_path: Path) -> None:
    names = [
        'a "quoted", one',
        "<b>",
        "=SUM(A1)",
        "-",
        "'=x",
        " padded",
        "007",
        "7",
        "two\nlines",
        LEAVE_OUT[1:],
    ]
    table = pd.DataFrame({"path": "train/x.png", "digest": "a", "old": names, "new": names[::-1]})
    save_table(tmp_path / "corrections.csv", table)
    assert read_corrections(tmp_path / "corrections.csv").to_numpy().tolist() == table.to_numpy().tolist()
    pd.testing.assert_frame_equal(load_corrections(tmp_path / "corrections.csv"), table)


def classes(names: list[str], categories: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"label": range(len(names)), "category": categories, "class_name": names})


@pytest.mark.parametrize(
    ("names", "categories", "task", "column"),
    [
        (NAMES, ["1", "2", "3"], "multiclass", "class_name"),
        (["ant", "ant", "cat"], ["1", "2", "3"], "multiclass", "category"),
        (["ant", LEAVE_OUT, "cat"], ["1", "2", "3"], "multiclass", "category"),
        (["ant", "", "cat"], ["1", LEAVE_OUT, "3"], "multiclass", "label"),
        (["ant, red", "bee", "a cat"], ["1", "2", "3"], "multilabel", "category"),
    ],
)
def test_a_label_is_spelled_by_the_first_column_that_is_never_ambiguous(
    names: list[str], categories: list[str], task: str, column: str
) -> None:
    table = classes(names, categories)
    spelling = spelling_of(table, build_task(task, 3))
    assert spelling.column == column
    assert [spelling.labels_of(word) for word in spelling.words] == [[0], [1], [2]]
    assert spelling.labels_of(LEAVE_OUT) is None


def test_sets_are_corrected_as_a_whole(tmp_path: Path) -> None:
    sets = [("ant", "bee"), ("ant", "bee"), ("cat",), (), (), ("ant",), ("bee",), ("cat", "ant")]
    before = labelled(sets, NAMES, "multilabel")
    path, lines = lines_of(tmp_path, ("a", "ant bee", "cat ant"), ("b", "cat", ""), ("c", "", LEAVE_OUT))
    after = apply_corrections(path, lines, before).samples.set_index("path")
    edited = [("ant", "cat"), ("ant", "cat"), (), ("ant",), ("bee",), ("cat", "ant")]
    rows = pd.DataFrame({"path": list(after.index), "category": edited, "group": ""})
    expected = TASKS["multilabel"].encode(rows, dict(zip(NAMES, NAMES, strict=True)), Path("labels.csv"))
    pd.testing.assert_frame_equal(after.reset_index(), expected.samples)


def test_numbers_are_left_out_as_if_the_label_file_lacked_them_and_never_changed(tmp_path: Path) -> None:
    numbers = [(1.5,), (1.5,), (2.0,), (0.1,), (0.1,), (-3e-7,), (900.0,), (4.25,)]
    before = labelled(numbers, ["age"], "regression")
    path, lines = lines_of(tmp_path, ("e", "900.0", LEAVE_OUT), ("d", "-3e-07", "-3e-07"))
    after = apply_corrections(path, lines, before)
    rows = pd.DataFrame({"path": list(after.samples["path"]), "group": ""})
    rows["category"] = [number for number in numbers if number != (900.0,)]
    expected = TASKS["regression"].encode(rows, {"age": "age"}, Path("labels.csv"))
    pd.testing.assert_frame_equal(after.samples, expected.samples)
    pd.testing.assert_frame_equal(after.classes, expected.classes)
    path, lines = lines_of(tmp_path, ("e", "900.0", "9.0"))
    with pytest.raises(InputError, match=naming(path, "line 2", LEAVE_OUT)):
        apply_corrections(path, lines, before)


def test_near_duplicates_of_an_image_that_is_left_out_stay_a_group(tmp_path: Path) -> None:
    near = [f"train/{row}.png" if row >= 0 else "" for row in (2, 2, 2, -1, -1, 5, 5, -1)]
    before = labelled(["ant", "ant", "bee", "bee", "cat", "cat", "ant", "bee"], near=near)
    path, lines = lines_of(tmp_path, ("b", "bee", LEAVE_OUT), ("d", "cat", LEAVE_OUT))
    after = apply_corrections(path, lines, before).index.set_index("path")["near"]
    assert after["train/0.png"] == after["train/1.png"] == "train/0.png"
    assert after["train/6.png"] == ""  # its only partner is left out


# --- the stage

WORDS = ["--recipe", "quick", "--image-size", "16", "--folds", "2", "--workers", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    """Write three classes of six images; train/0 and 3, of class 0, are copies."""
    folder = make_competition(num_classes=3)
    shutil.copy(folder / "train" / "0.png", folder / "train" / "3.png")
    return folder


@pytest.fixture(scope="module")
def plain(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    output = tmp_path_factory.mktemp("output")
    for stage in (prepare, split):
        assert stage.main([str(folder), *WORDS, "--output", str(output)]) == 0
    return RunPaths(output / folder.name / "quick")


def write_corrections(path: Path, run: RunPaths, new: dict[str, str]) -> Path:
    """Write the corrections of these images of a run, each by its path."""
    samples = load_samples(run.samples).set_index("path")
    rows = [[image, samples.digest[image], samples.class_name[image], label] for image, label in new.items()]
    write_rows(path, list(COLUMNS), rows)
    return path


@pytest.fixture(scope="module")
def file(plain: RunPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corrections") / "corrections.csv"
    return write_corrections(path, plain, {"train/0.png": "kind 1", "train/5.png": LEAVE_OUT})


@pytest.fixture(scope="module")
def corrected(plain: RunPaths, file: Path) -> RunPaths:
    words = [str(plain.root), "--corrections", str(file)]
    for stage in (prepare, split):
        assert stage.main(words) == 0
    return RunPaths(plain.root.with_name("quick-corrected"))


def test_a_run_of_a_run_with_corrections_has_its_recipe_and_another_name(
    plain: RunPaths, corrected: RunPaths
) -> None:
    assert {key: load_json(corrected.identity)[key] for key in ("recipe", "folds")} == {
        key: load_json(plain.identity)[key] for key in ("recipe", "folds")
    }
    before, after = load_samples(plain.samples), load_samples(corrected.samples)
    merged = before.merge(after, on="path", how="left", suffixes=("", "_after")).set_index("path")
    changed = merged.index[merged["class_name"] != merged["class_name_after"]]
    assert list(changed) == ["train/0.png", "train/3.png", "train/5.png"]
    assert list(after["path"]) == [path for path in before["path"] if path != "train/5.png"]
    folds = pd.read_csv(corrected.folds).set_index("path")
    assert folds.loc["train/3.png", "label"] == 1 and "train/5.png" not in folds.index
    applied = load_corrections(corrected.corrections)
    assert list(applied["path"]) == list(changed)
    assert not (plain.root / "corrections.csv").exists()


def test_a_corrected_run_is_current_by_its_name_by_its_file_and_by_its_own_table(
    plain: RunPaths, corrected: RunPaths, file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(plain.root.parents[1])
    named = [str(folder), *WORDS, "--output", output]
    for words in (
        [str(corrected.root)],
        [str(plain.root), "--corrections", str(file)],
        [*named, "--corrections", str(file)],
        [*named, "--corrections", str(corrected.corrections)],
        [str(folder), "--name", "quick-corrected", "--output", output],
    ):
        assert prepare.main(words) == 0
        assert "up to date" in capsys.readouterr().out


def test_other_corrections_under_the_same_name_are_refused_with_a_free_one(
    plain: RunPaths, corrected: RunPaths, file: Path, folder: Path, tmp_path: Path
) -> None:
    output = ["--output", str(plain.root.parents[1])]
    with pytest.raises(InputError, match=naming(plain.root, file, "quick-corrected")):
        prepare.main([str(folder), *WORDS, *output, "--name", "quick", "--corrections", str(file)])
    other = write_corrections(tmp_path / "other.csv", plain, {"train/1.png": "kind 2"})
    with pytest.raises(InputError, match=naming("tiny/quick-corrected", other, "quick-corrected-2")):
        prepare.main([str(plain.root), "--corrections", str(other)])
    with pytest.raises(InputError, match=naming("--corrections", "quick-corrected/corrections.csv")):
        prepare.main([str(folder), *WORDS, *output, "--name", "quick-corrected"])
    command = read_command([str(plain.root), "--corrections", str(other), "--name", "third"], "")
    assert command.run.root.name == "third" and command.recipe.image_size == 16


def test_a_stale_file_leaves_no_run_behind(plain: RunPaths, folder: Path, tmp_path: Path) -> None:
    path = write_corrections(tmp_path / "stale.csv", plain, {"train/1.png": "kind 2"})
    path.write_text(path.read_text().replace("kind 1", "kind 0"))
    words = [str(plain.root), "--name", "stale", "--corrections", str(path)]
    with pytest.raises(InputError, match=naming(path, "line 2", "train/1.png", "kind 1")):
        prepare.main(words)
    assert not (plain.root.parent / "stale").exists()
