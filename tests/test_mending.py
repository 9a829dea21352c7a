"""The data by which the page corrects labels: labels, copies and earlier corrections of its pictures."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_report import Page, make_evidence, write_page
from test_task_reports import evidence_of

from foldsmith.data.corrections import LEAVE_OUT
from foldsmith.report.evidence import Evidence
from foldsmith.report.mending import Mendable

COLUMNS = ["path", "digest", "old", "new"]
ODD = ["</script><b>", 'a "quoted", one', "=SUM(A1)", " padded", "o'clock", "plain"]


def mendable_of(evidence: Evidence, applied: pd.DataFrame | None = None) -> Mendable:
    """Return the labels of this evidence; every image has a digest of its own."""
    names, task = evidence.class_names, evidence.task
    table = pd.DataFrame({"path": evidence.paths, "label": task.label_column(evidence.labels)})
    if task.single_label:
        table["class_name"] = [names[label] for label in evidence.labels]
    elif task.predictions_key == "values":
        table["class_name"] = table["label"].astype(str)
    else:
        table["class_name"] = [" ".join(np.array(names)[row > 0]) for row in evidence.labels]
    digests = [f"digest{row}" for row in range(len(table))]
    classes = pd.DataFrame({"label": range(len(names)), "category": names, "class_name": names})
    applied = pd.DataFrame(columns=COLUMNS) if applied is None else applied
    return Mendable("key", table.assign(digest=digests), classes, applied)


def odd_evidence(**changes: object) -> Evidence:
    """Return evidence of classes with names that need quotes in HTML, CSV or a spreadsheet."""
    evidence = replace(make_evidence(60, 6, 2), class_names=ODD)
    return replace(evidence, **{"mendable": mendable_of(evidence), **changes})


def data_of(text: str) -> dict:
    (found,) = re.findall(r'<script type="application/json" id="mending">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_the_page_has_label_and_digest_of_each_picture_whatever_the_names(tmp_path: Path) -> None:
    evidence = odd_evidence()
    text = write_page(tmp_path, evidence)
    assert Page(text).unbalanced == []
    data, samples = data_of(text), evidence.mendable.samples.set_index("path")
    assert data["classes"] == [[name, name] for name in ODD] and data["leave"] == LEAVE_OUT
    assert len(data["images"]) > 3 and data["applied"] == {}
    for path, (digest, label) in data["images"].items():
        assert (digest, label) == (samples.digest[path], samples.class_name[path])
        assert data["copies"][digest] == [[path, label]]
    proposals = [words["data-proposal"] for tag, words in Page(text).tags if "data-proposal" in words]
    assert proposals and set(proposals) <= set(ODD)


def test_a_page_without_pictures_or_samples_has_no_keys(tmp_path: Path) -> None:
    assert "mending" not in re.sub(
        r"<style>.*?</style>", "", write_page(tmp_path, make_evidence()), flags=re.DOTALL
    )


def test_a_corrected_run_offers_its_earlier_corrections_with_the_labels_of_the_competition(
    tmp_path: Path,
) -> None:
    evidence = odd_evidence()
    first = next(iter(data_of(write_page(tmp_path, evidence))["images"]))
    samples = evidence.mendable.samples.set_index("path")
    rows = [
        [first, samples.digest[first], "before", samples.class_name[first]],
        ["train/gone.png", "gone", ODD[5], LEAVE_OUT],
    ]
    applied = pd.DataFrame(rows, columns=COLUMNS)
    data = data_of(write_page(tmp_path, odd_evidence(mendable=mendable_of(evidence, applied))))
    assert data["images"][first] == [samples.digest[first], samples.class_name[first]]
    assert data["copies"][samples.digest[first]] == [[first, "before"]]
    assert data["copies"]["gone"] == [["train/gone.png", ODD[5]]]
    assert data["applied"] == {samples.digest[first]: samples.class_name[first], "gone": LEAVE_OUT}


@pytest.mark.parametrize("name", ["multilabel", "regression"])
def test_sets_and_numbers_say_how_its_labels_are_spelled(tmp_path: Path, name: str) -> None:
    evidence = evidence_of(name)
    text = write_page(tmp_path, replace(evidence, mendable=mendable_of(evidence)))
    data, page = data_of(text), Page(text)
    assert page.unbalanced == [] and data["images"]
    assert data["separator"] == (" " if name == "multilabel" else None)
    assert data["numbers"] == (name == "regression") == (data["classes"] == [])
    assert (("kbd", {}) in page.tags) and page.text.count("leave it out") >= 1
