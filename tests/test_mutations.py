"""Mutated files of every kind are read correctly or refused in one sentence, and leave nothing behind."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import MakeCompetition, naming
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import READ, REFUSED, Case, document_of, json_cases
from mutations import KINDS, WrongOutcome, main, try_case
from plain_readers import true_labels_of_json

import prepare
from foldsmith.competition.folder import Competition
from foldsmith.competition.labels import read_metadata
from foldsmith.competition.settings import Settings
from foldsmith.errors import InputError
from foldsmith.process.exit import run_main


@pytest.mark.parametrize("kind", KINDS)
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
    if case.name in ("competition.toml", "sample_submission.csv"):
        (competition / "answer.json").write_text(json.dumps(document_of("answer")))
    (competition / case.name).write_bytes(case.content)
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
        for name in {case.name, "answer.json"}:
            (competition / name).unlink(missing_ok=True)
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
