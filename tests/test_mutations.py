"""Mutated files of every kind are read correctly or refused in one sentence, and leave nothing behind."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import MakeCompetition, naming
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import READ, REFUSED, Case, document_of, json_cases
from mutations import CONTESTS, FILES, KINDS, WrongOutcome, main, try_case
from plain_readers import true_labels_of_json

import prepare
from foldsmith.competition.folder import Competition
from foldsmith.competition.labels import Metadata, read_metadata
from foldsmith.competition.settings import Settings
from foldsmith.competition.submission import SubmissionForm, read_submission_form
from foldsmith.competition.target import read_target
from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.tasks import build_task


@pytest.mark.parametrize("kind", FILES)
def test_a_mutated_file_is_read_correctly_or_refused(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, outcomes = tmp_path_factory.mktemp("mutated"), []

    @settings(max_examples=80)
    @given(KINDS[kind][0])
    def try_all(case: Case) -> None:
        outcomes.append(try_case(folder, kind, case))

    try_all()
    assert min(outcomes.count(READ), outcomes.count(REFUSED)) >= 5  # both outcomes occur
    assert not any(folder.iterdir())


def test_a_mutated_contest_of_any_form_is_read_correctly_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, outcomes = tmp_path_factory.mktemp("mutated"), []

    @settings(max_examples=60)
    @given(kind=st.sampled_from(list(CONTESTS)), data=st.data())
    def try_all(kind: str, data: st.DataObject) -> None:
        outcomes.append(try_case(folder, kind, data.draw(CONTESTS[kind][0])))

    try_all()
    assert min(outcomes.count(READ), outcomes.count(REFUSED)) >= 10
    assert not any(folder.iterdir())


@settings(max_examples=60)
@given(json_cases("answer") | json_cases("coco"))
def test_the_plain_reader_agrees_with_the_verdict_of_each_mutation(case: Case) -> None:
    true = true_labels_of_json(case.content)
    assert case.verdict not in (READ, REFUSED) or (true is None) == (case.verdict == REFUSED)


@pytest.mark.parametrize(("verdict", "content"), [(READ, b"{"), (REFUSED, b'{"annotations": []}')])
def test_a_wrong_outcome_is_noticed(tmp_path: Path, verdict: str, content: bytes) -> None:
    key = "another word" if verdict == REFUSED else ""
    with pytest.raises(WrongOutcome):
        try_case(tmp_path, "answer.json", Case("answer.json", content, verdict, key))


def test_the_command_prints_a_row_for_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cases", "3"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(KINDS)
    assert all(row.endswith("| 0 |") for row in rows)


@pytest.fixture(scope="module")
def competition(make_competition: MakeCompetition) -> Path:
    """Return a folder without labels, with the images and classes that the mutated files name."""
    folder = make_competition(per_class=4, test_per_class=4, sample=None)
    (folder / "answer.json").unlink()
    return folder


@settings(max_examples=40)
@given(data=st.data())
def test_prepare_ends_with_2_and_one_sentence_and_leaves_no_output(
    competition: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    case = data.draw(st.one_of(*(cases for cases, _ in KINDS.values())))
    output = tmp_path_factory.mktemp("output")
    words = [str(competition), "--recipe", "quick", "--image-size", "16", "--output", str(output)]
    files = dict(case.files)
    if len(files) == 1 and case.name in ("competition.toml", "sample_submission.csv"):
        files["answer.json"] = json.dumps(document_of("answer")).encode()
    for name, content in files.items():
        (competition / name).write_bytes(content)
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            lines: list[str] = []
            patch.setattr(
                "foldsmith.process.exit.print",
                lambda *words, **named: lines.append(words[0]),
                raising=False,
            )
            patch.setattr("foldsmith.process.terminal.print", lambda *words, **named: None, raising=False)
            run_main(lambda: prepare.main(words))
    finally:
        for name in files:
            (competition / name).unlink()
    written = sorted(path.name for path in output.rglob("*") if path.is_file())
    if ended.value.code == 0:
        assert case.verdict != REFUSED and {"samples.csv", "prepare.json", "identity.json"} <= set(written)
    else:
        assert (ended.value.code, len(lines), written) == (2, 1, [])
        assert case.verdict != READ and lines[0].startswith("error: ") and lines[0].isprintable()
    shutil.rmtree(output)


# --- bugs that mutations found


@pytest.mark.parametrize(("where", "twice"), [("document", "annotations"), ("annotation", "category")])
def test_a_duplicate_key_is_refused(tmp_path: Path, where: str, twice: str) -> None:
    entries = '{"file_name": "0.png", "category": 0}, {"file_name": "1.png", "category": 1}'
    text = {
        "document": f'{{"annotations": [{entries}], "annotations": [{entries}]}}',
        "annotation": f'{{"annotations": [{entries}, {{"category": 1, "category": 0}}]}}',
    }[where]
    (tmp_path / "answer.json").write_text(text)
    images = [f"train/{index}.png" for index in range(3)]
    with pytest.raises(
        InputError,
        match=naming("answer.json", f"'{twice}'"),
    ):
        read_metadata(Competition(tmp_path, Settings(), images, ["test/0.png"]))


@pytest.mark.parametrize("name", ["./0.png", "train\\0.png", ".\\0.png", "train//0.png"])
def test_a_first_row_that_spells_an_image_name_is_no_header(tmp_path: Path, name: str) -> None:
    (tmp_path / "labels.csv").write_text(f"{name},cat\n1.png,dog\n2.png,cat\n")
    images = [f"train/{index}.png" for index in range(3)]
    with pytest.raises(InputError, match=naming("labels.csv", "header")):
        read_metadata(Competition(tmp_path, Settings(), images, ["test/0.png"]))


TRAIN = [f"train/{index}.png" for index in range(12)]
TEST = [f"test/{index}.png" for index in range(12)]
CLASSES = ["cat", "dog", "eel"] * 4


def table(header: str, *columns: list[object]) -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in zip(*columns, strict=True))]) + "\n"


def labelled(words: list[object], header: str = "image,label", ending: str = ".png") -> str:
    return table(header, [f"{index}{ending}" for index in range(12)], words)


def read_contest(folder: Path, labels: str, sample: str, **tables: str) -> tuple[Metadata, SubmissionForm]:
    """Return what is read from a contest of these tables."""
    for name, text in {"train": labels, "sample_submission": sample, **tables}.items():
        (folder / f"{name}.csv").write_text(text)
    competition = Competition(folder, Settings(), TRAIN, TEST)
    metadata = read_metadata(competition)
    task = build_task(metadata.task, len(metadata.classes))
    return metadata, read_submission_form(competition, metadata.classes, task, metadata.target.cell_form)


NUMBERED = [(7 * index + 2) % 12 for index in range(12)]  # row numbers, which are other images' names too
LISTED = table("id,image", NUMBERED, [f"{index}.png" for index in range(12)])


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (LISTED.replace("7.png", "99.png"), "image"),  # of 12 rows one has no image
        (LISTED.replace("7.png", "x").replace(".png", ".PNG"), "image"),
        ("".join(LISTED.splitlines(keepends=True)[:5]), "image"),  # a download that broke off
        (LISTED.replace("7.png", "7.png,more"), "line"),
        ("", "empty"),
        ("id,image\n", "no rows"),
    ],
)
def test_numbers_that_a_damaged_test_list_has_are_not_read_as_file_names(
    tmp_path: Path, listed: str, said: str
) -> None:
    sample = table("id,label", range(12), CLASSES)
    _, form = read_contest(tmp_path, labelled(CLASSES), sample, test=LISTED)
    assert form.images == [(f"test/{NUMBERED.index(index)}.png",) for index in range(12)]
    with pytest.raises(InputError, match=naming("test.csv", "sample_submission.csv", said)):
        read_contest(tmp_path, labelled(CLASSES), sample, test=listed)


def test_row_numbers_of_the_label_table_are_no_test_images(tmp_path: Path) -> None:
    labels = table("id,image,label", NUMBERED, [f"{index}.png" for index in range(12)], CLASSES)
    _, form = read_contest(tmp_path, labels, table("id,label", range(12), CLASSES))
    assert form.images == [(image,) for image in TEST]


@pytest.mark.parametrize("listed", [{}, {"test": table("id,image", [f"r{n}" for n in range(12)], TEST)}])
def test_a_sample_whose_header_is_lost_is_refused_in_any_spelling(
    tmp_path: Path, listed: dict[str, str]
) -> None:
    ids = [f"r{index}" if listed else f"{index}.PNG" for index in range(12)]
    sample = table(f"{ids[0]},cat", ids[1:], CLASSES[1:])
    with pytest.raises(InputError, match=naming("sample_submission.csv", "header", ids[0])):
        read_contest(tmp_path, labelled(CLASSES), sample, **listed)


@pytest.mark.parametrize("ending", [".PNG", ".jpg"])
def test_ids_in_another_spelling_are_told_from_labels_that_name_images(tmp_path: Path, ending: str) -> None:
    grades = [index % 5 for index in range(12)]
    labels = labelled(grades, "key,diagnosis", ending)
    metadata, _ = read_contest(tmp_path, labels, labelled([0] * 12, "key,diagnosis", ending))
    assert (metadata.task, list(metadata.samples["label"])) == ("ordinal", grades)


def test_columns_of_classes_may_be_called_like_images(tmp_path: Path) -> None:
    hot = [[int(index % 3 == label) for index in range(12)] for label in range(3)]
    labels = table("0,image,1,2", hot[0], [f"{index}.png" for index in range(12)], *hot[1:])
    metadata, _ = read_contest(tmp_path, labels, table("id,0,1,2", range(12), *[[0.3] * 12] * 3))
    assert list(metadata.samples["label"]) == [index % 3 for index in range(12)]


def test_numbers_are_classes_where_the_sample_has_a_column_for_each(tmp_path: Path) -> None:
    sample = table("id,class_1,class_0,class_2", range(12), *[[0.3333] * 12] * 3)
    metadata, form = read_contest(tmp_path, labelled([index % 3 for index in range(12)]), sample)
    assert (metadata.task, form.cells.labels) == ("multiclass", [1, 0, 2])


@pytest.mark.parametrize(
    ("header", "words", "odd", "sample"),
    [
        ("age", [index + 0.5 for index in range(12)], "abc", 0),  # 11 numbers would become classes
        ("age", [index + 0.5 for index in range(12)], "nan", 0),
        ("severity", [index % 4 for index in range(12)], "inf", 1),
        ("grade", [index % 4 for index in range(12)], "1|x", 1),  # the grades would become sets
        ("has_cactus", [index % 2 for index in range(12)], "a b", 0),
        ("has_cactus", [index % 2 for index in range(12)], "2", 0.375),  # the answers would become numbers
        ("tags", ["['cat', 'dog']", "['eel']", "['cat']"] * 4, "cat", "cat"),  # brackets would be labels
    ],
)
def test_one_odd_label_does_not_change_the_task(
    tmp_path: Path, header: str, words: list[object], odd: str, sample: object
) -> None:
    rows = [f'{index}.png,"{word}"' for index, word in enumerate([*words[:7], odd, *words[8:]])]
    labels = "\n".join([f"id,{header}", *rows]) + "\n"
    with pytest.raises(InputError, match=naming("train.csv", header, "task =")):
        read_contest(tmp_path, labels, labelled([sample] * 12, f"id,{header}"))


def test_a_list_with_a_lost_quote_is_named(tmp_path: Path) -> None:
    for odd in ("['sea lion', lar bear']", "['sea lion', 'eel'x']"):
        sets = ["['sea lion', 'polar bear']", "['eel']", odd] * 4
        labels = labelled([f'"{words}"' for words in sets], "id,tags")
        with pytest.raises(InputError, match=naming("train.csv", "tags", "line 4")):
            read_contest(tmp_path, labels, labelled(["eel"] * 12, "id,tags"))


def test_one_fraction_in_the_sample_does_not_make_grades_numbers(tmp_path: Path) -> None:
    labels = labelled([index % 5 for index in range(12)], "id,grade")
    with pytest.raises(InputError, match=naming("1.5", "task =", "ordinal", "regression")):
        read_contest(tmp_path, labels, labelled(["1.0"] * 11 + ["1.5"], "id,grade"))


@pytest.mark.parametrize("odd", ["2", "0.5", "-1", "01", "1"])  # 1 is an answer, but not beside yes and no
def test_one_odd_cell_does_not_make_columns_of_answers_numbers(tmp_path: Path, odd: str) -> None:
    no, yes = ("no", "yes") if odd == "1" else ("0", "1")
    flags = [[yes if index % step else no for index in range(12)] for step in (2, 3, 4)]
    flags[1][5] = odd
    labels = table("id,a,b,c", [f"{index}.png" for index in range(12)], *flags)
    with pytest.raises(InputError, match=naming("train.csv", f"'{odd}'", "b")):
        read_contest(tmp_path, labels, table("id,a,b,c", range(12), *[[0.5] * 12] * 3))


@pytest.mark.parametrize("count", [12, 240])
def test_one_row_of_two_classes_among_hundreds_of_one_is_refused(tmp_path: Path, count: int) -> None:
    flags = {name: [str(int(row % 3 == label)) for row in range(count)] for label, name in enumerate("abc")}
    flags["b"][0] = "1"
    if count > 100:
        with pytest.raises(InputError, match=naming(1, count, "multilabel")):
            read_target(pd.DataFrame(flags), {}, None, Settings())
    else:  # of a dozen rows one is not rare
        assert read_target(pd.DataFrame(flags), {}, None, Settings()).task == "multilabel"


def test_one_odd_cell_in_a_sample_of_labels_does_not_ask_for_probabilities(tmp_path: Path) -> None:
    flags = [[index % step // (step - 1) for index in range(12)] for step in (2, 3, 4)]
    labels = table("id,a,b,c", [f"{index}.png" for index in range(12)], *flags)
    sample = table("id,a,b,c", range(12), *flags)
    assert read_contest(tmp_path, labels, sample)[0].target.submission == "labels"
    with pytest.raises(InputError, match=naming("'0X'", "submission =")):
        read_contest(tmp_path, labels, sample.replace("5,1,1,0", "5,1,1,0X"))


def test_lists_of_labels_may_be_empty(tmp_path: Path) -> None:
    sets = ["cat", "dog", "cat dog", "cat eel", "dog eel", ""] * 2
    words = [f'"{own.split()}"' if own else "" for own in sets]  # as Python writes lists
    metadata, _ = read_contest(tmp_path, labelled(words, "id,tags"), labelled(["cat"] * 12, "id,tags"))
    assert (metadata.task, list(metadata.classes["category"])) == ("multilabel", ["cat", "dog", "eel"])
    assert list(metadata.samples["category"]) == sets


def test_labels_are_divided_as_in_a_sample_that_has_one_unknown_label(tmp_path: Path) -> None:
    words = ["cat dog", "eel", "cat", "dog eel", "dog", "cat eel"] * 2
    sample = labelled(["cat|dog|yak"] * 12, "id,tags")
    _, form = read_contest(tmp_path, labelled(words, "id,tags"), sample)
    assert form.cells.separator == "|"


def test_two_sets_of_one_image_contradict_each_other(tmp_path: Path) -> None:
    words = ["cat|dog", "eel", "cat"] * 4
    rows = [f"{index}.png,{word}" for index, word in enumerate(words)]
    (tmp_path / "train.csv").write_text("\n".join(["id,tags", *rows, "0.png,eel|cat"]) + "\n")
    with pytest.raises(InputError, match=naming("train.csv", "train/0.png")):
        read_metadata(Competition(tmp_path, Settings(task="multilabel"), TRAIN, TEST))


def test_an_id_in_a_damaged_folder_is_no_test_image(tmp_path: Path) -> None:
    rows = [f"train/{index}.png,{index % 4}" for index in range(12)]
    labels = "\n".join(["id,grade", *rows[:-1], "t?n/11.png,3"]) + "\n"
    with pytest.raises(InputError, match=naming("train.csv", "t?n/11.png")):
        read_contest(tmp_path, labels, labelled([1] * 12, "id,grade"))
