"""Read mutated label files, sample submissions and settings: correctly, or refused with one sentence.

PYTHONPATH=src .venv/bin/python tests/benchmarks/mutations.py --cases 1000

Prints one row for every kind of file: cases tried, read, refused, and wrong outcomes. The test suite tries
a few hundred such cases.
"""

import argparse
import csv
import io
import signal
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from contest_mutants import FORMS, ContestCase, contest_cases
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from mutants import (
    LABELS,
    NAMES,
    READ,
    REFUSED,
    Case,
    csv_cases,
    json_cases,
    lines_cases,
    sample_cases,
    settings_cases,
)
from plain_readers import (
    REST,
    Truth,
    fault_of_cells,
    form_of,
    image_of,
    lines_of,
    plain_word,
    possible_labels_of_csv,
    possible_labels_of_lines,
    possible_truths,
    rows_of_sample,
    true_labels_of_json,
    true_settings,
)

from foldsmith.competition.folder import Competition
from foldsmith.competition.labels import Metadata, read_metadata
from foldsmith.competition.settings import Settings, read_settings
from foldsmith.competition.submission import (
    SubmissionForm,
    check_submission,
    fill_submission,
    read_submission_form,
    write_submission,
)
from foldsmith.errors import InputError
from foldsmith.tasks import SingleLabel, build_task
from foldsmith.tasks.metrics import METRICS

TRAIN = [f"train/{index}.png" for index in range(12)]
TEST = [f"test/{index}.png" for index in range(12)]
CLASSES = pd.DataFrame({"label": range(3), "category": ["0", "1", "2"], "class_name": NAMES})
SECONDS = 60  # a case that takes longer counts as hanging


class WrongOutcome(AssertionError):
    """A file was read wrongly, or it was accepted or refused where the contract says the opposite."""


def refuse_unless(correct: bool, case: Case, message: str) -> None:
    if not correct:
        raise WrongOutcome(f"{case.name} ({case.verdict}): {message}: {show(case)}")


def show(case: Case) -> str:
    return "; ".join(f"{name} {content[:2000]!r}" for name, content in case.files.items())


def try_labels(folder: Path, case: Case) -> str:
    """Read the labels; return READ or REFUSED, or raise WrongOutcome."""
    try:
        metadata = read_metadata(Competition(folder, Settings(), TRAIN, TEST))
    except InputError as error:
        if case.name.endswith(".json"):
            true = true_labels_of_json(case.content)
            refuse_unless(true is None, case, f"refused, though it says {true} ({error})")
        return refused(folder, case, error)
    read = dict(zip(metadata.samples["path"], metadata.samples["class_name"], strict=True))
    if case.name.endswith(".json"):
        refuse_unless(read == true_labels_of_json(case.content), case, f"read as {read}")
    else:
        plain = possible_labels_of_lines if case.name.endswith(".jsonl") else possible_labels_of_csv
        refuse_unless(read in plain(case.content), case, f"read as {read}")
    if case.verdict == READ:
        truth = {image: NAMES[label] for image, label in zip(TRAIN, LABELS, strict=True)}
        refuse_unless(read == truth, case, f"read as {read}")
    refuse_unless(case.verdict != REFUSED, case, f"read as {read}")
    return READ


def refused(folder: Path, case: Case, error: InputError) -> str:
    """Return REFUSED if the refusal is right and names file and entry; raise WrongOutcome otherwise."""
    refuse_unless(case.verdict != READ, case, f"refused: {error}")
    message = str(error)
    refuse_unless(
        str(folder / case.name) in message and case.key in message, case, f"refused without a name: {message}"
    )
    return REFUSED


def try_sample(folder: Path, case: Case) -> str:
    """Read the sample, write a submission and read it back; return READ or REFUSED, or raise WrongOutcome."""
    competition = Competition(folder, Settings(), TRAIN, TEST)
    try:
        form = read_submission_form(competition, CLASSES, SingleLabel(3))
    except InputError as error:
        return refused(folder, case, error)
    rows = lines_of(case.content)
    refuse_unless(case.verdict != REFUSED and bool(rows), case, "read")
    ids = [row[0].strip() for row in rows[1:]]
    images = image_of(ids, "test")
    right = [(image,) for image in images or []]
    refuse_unless((form.columns, form.ids, form.images) == (rows[0], ids, right), case, f"read as {form}")
    # the predictions: image i is an eel, a dog or a cat, in turn
    chances = np.full((12, 3), 0.01, np.float32)
    chances[range(12), [2 - index % 3 for index in range(12)]] = 0.98
    table = fill_submission(form, dict(zip(TEST, chances, strict=True)), np.full(3, 1 / 3))
    written = folder / "submission.part"
    write_submission(written, table)
    check_submission(written, form, competition)
    header, *lines = csv.reader(io.StringIO(written.read_text(encoding="utf-8"), newline=""))
    written.unlink()
    refuse_unless(header == rows[0] and [line[0] for line in lines] == ids, case, "written in another form")
    for image, line in zip(images, lines, strict=True):
        true = 2 - int(image.removeprefix("test/").removesuffix(".png")) % 3
        word = line[1] if len(line) == 2 else header[1 + int(np.argmax([float(cell) for cell in line[1:]]))]
        refuse_unless(word.strip() in (str(true), NAMES[true]), case, f"{image} written as {line}")
    return READ


def try_settings(folder: Path, case: Case) -> str:
    true = true_settings(case.content, METRICS)
    try:
        read = read_settings(folder)
    except InputError as error:
        refuse_unless(true is None, case, f"refused: {error}")
        return refused(folder, case, error)
    refuse_unless(vars(read) == true, case, f"read as {read}")
    return READ


def try_contest(folder: Path, case: ContestCase) -> str:
    """Read a contest, write a submission and read it back; return READ or REFUSED, or raise WrongOutcome."""
    try:
        competition = Competition(folder, read_settings(folder), TRAIN, TEST)
        metadata = read_metadata(competition)
        task = build_task(metadata.task, len(metadata.classes))
        form = read_submission_form(competition, metadata.classes, task, metadata.target.cell_form)
    except InputError as error:
        refuse_unless(case.verdict != READ, case, f"refused: {error}")
        named = str(folder) in str(error) and case.key in str(error)
        refuse_unless(named, case, f"refused without a name: {error}")
        return REFUSED
    read = f"read as {metadata.task}"
    if case.verdict != READ:
        case = replace(case, form=form_of(case.form, case.files))
    refuse_unless(case.verdict != REFUSED and metadata.task == case.form.task, case, read)
    truths, read = truths_of(metadata), f"{read}: {truths_of(metadata)}"
    table, columns = case.files["train.csv"], metadata.target.label_columns
    right = truths in possible_truths(table, case.form, columns)
    if not right and metadata.task == "binary" and case.verdict != READ:  # one class against all others
        right = any(
            {image: kept if word == kept else REST for image, word in truths.items()}
            in possible_truths(table, case.form, columns, kept)
            for kept in set(truths.values())
        )
    refuse_unless(right, case, read)
    compare_submission(competition, case, metadata, form)
    return READ


def truths_of(metadata: Metadata) -> dict[str, Truth]:
    """Return what every image's label was read as."""
    categories, truths = list(map(plain_word, metadata.classes["category"])), {}
    for path, label in zip(metadata.samples["path"], metadata.samples["label"], strict=True):
        if metadata.task == "multilabel":
            truths[path] = frozenset(categories[int(index)] for index in label.split())
        elif metadata.task == "regression":
            names = categories if len(categories) > 1 else [""]
            truths[path] = tuple(sorted(zip(names, map(float, str(label).split()), strict=True)))
        else:
            truths[path] = categories[label]
    return truths


def chances_of(image: str, metadata: Metadata) -> list[float]:
    """Return a prediction for each class that depends on image and class alone."""
    chances = []
    for category in metadata.classes["category"]:
        chance = (zlib.crc32(f"{image} {category}".encode()) % 997 + 1) / 1000
        chances.append(chance + 0.001 if abs(chance - 0.5) < 0.001 else chance)
    total = 1 if metadata.task in ("multilabel", "regression") else sum(chances)
    return [chance / total for chance in chances]


def compare_submission(
    competition: Competition, case: ContestCase, metadata: Metadata, form: SubmissionForm
) -> None:
    """Write a submission and raise WrongOutcome unless its rows are those of the sample, as it wants them."""
    predictions = {image: np.array(chances_of(image, metadata), np.float32) for image in TEST}
    table = fill_submission(form, predictions, np.full(len(metadata.classes), 0.5))
    path = competition.folder / "submission.part"
    write_submission(path, table)
    check_submission(path, form, competition)
    header, *lines = csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
    path.unlink()
    shown, rows = lines_of(case.files["sample_submission.csv"]), rows_of_sample(case.files)
    refuse_unless(rows is not None, case, f"the sample is read as {form}")
    shown = [shown[0], *(cells for cells, _ in rows)]
    refuse_unless(header == shown[0], case, f"the header is written as {header}")
    refuse_unless([line[0] for line in lines] == [cells[0] for cells in shown[1:]], case, "other ids")
    categories = list(metadata.classes["category"])
    for line, (_, images) in zip(lines, rows, strict=True):
        chances = np.mean([chances_of(image, metadata) for image in images], axis=0).tolist()
        fault = fault_of_cells(case.form, shown, line[1:], chances, categories)
        refuse_unless(not fault, case, f"{images} is written as {line}: {fault}")


Kinds = dict[str, tuple[st.SearchStrategy, Callable[[Path, Case], str]]]
FILES: Kinds = {
    "answer.json": (json_cases("answer"), try_labels),
    "COCO-style JSON": (json_cases("coco"), try_labels),
    "label CSV": (csv_cases(), try_labels),
    "JSON Lines": (lines_cases(), try_labels),
    "sample submission": (sample_cases(), try_sample),
    "competition.toml": (settings_cases(), try_settings),
}
CONTESTS: Kinds = {name: (contest_cases(build), try_contest) for name, build in FORMS.items()}
KINDS = FILES | CONTESTS


def try_case(folder: Path, kind: str, case: Case) -> str:
    """Write the case's files into the folder, try it and remove them; return READ or REFUSED."""
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    try:
        return KINDS[kind][1](folder, case)
    finally:
        for name in case.files:
            (folder / name).unlink()


def run(kind: str, cases: int, folder: Path, number: int = 0) -> tuple[Counter, list[str]]:
    """Try that many cases, drawn with this seed; return the counts of outcomes and wrong ones' messages."""
    outcomes, wrong = Counter(), []

    @seed(number)
    @settings(max_examples=cases, deadline=None, database=None, derandomize=False,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(KINDS[kind][0])
    def try_all(case: Case) -> None:
        signal.alarm(SECONDS)
        try:
            outcomes[try_case(folder, kind, case)] += 1
        except Exception as error:  # an unexpected exception is a wrong outcome
            outcomes["wrong"] += 1
            wrong.append(f"{type(error).__name__}: {error}")
        finally:
            signal.alarm(0)

    try_all()
    return outcomes, wrong


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000, help="cases for every kind of file (1000)")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (0)")
    arguments, failed = parser.parse_args(argv), False
    cases = arguments.cases
    print("| file | cases | read | refused | wrong |\n| --- | --- | --- | --- | --- |")
    for kind in arguments.kind or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            outcomes, wrong = run(kind, cases, Path(folder), arguments.seed)
        failed |= bool(wrong)
        counts = [outcomes.total(), outcomes[READ], outcomes[REFUSED], outcomes["wrong"]]
        print(f"| {kind} | {' | '.join(map(str, counts))} |", flush=True)
        for line in wrong[:5]:
            print(line, file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
