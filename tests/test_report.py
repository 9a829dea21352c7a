"""The report page: its figures against independent oracles, and its HTML as a browser parses it."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import naming
from sklearn import metrics as sklearn_metrics

from foldsmith.evaluation.calibration import Calibration
from foldsmith.evaluation.chance import FoldSpread
from foldsmith.evaluation.shift import Shift
from foldsmith.report import class_tables
from foldsmith.report.evidence import Evidence
from foldsmith.report.findings import Figures, find_all
from foldsmith.report.page import write_report
from foldsmith.tasks import SingleLabel

VOID = {"meta", "link", "br", "hr", "img", "input"}


def make_evidence(num_images: int = 240, num_classes: int = 6, num_folds: int = 4, seed: int = 0) -> Evidence:
    draws = np.random.default_rng(seed)
    labels = draws.permutation(np.arange(num_images) % num_classes)
    logits = draws.normal(size=(num_images, num_classes))
    logits[np.arange(num_images), labels] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    folds = np.arange(num_images) % num_folds
    correct = probabilities.argmax(axis=1) == labels
    scores = [float(correct[folds == fold].mean()) for fold in range(num_folds)]
    std = float(np.std(scores, ddof=1)) if num_folds > 1 else None
    epochs = np.arange(1, 6)
    log = {"epoch": epochs, "lr": 0.1 / epochs, "seconds": 1.0, "images_per_second": 9.0}
    for column in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        log[column] = draws.random(5)
    return Evidence(
        task=SingleLabel(probabilities.shape[1]),
        competition="demo",
        run="quick",
        cv={
            "competition": "demo",
            "run": "quick",
            "metric": "accuracy",
            "folds": scores,
            "mean": float(np.mean(scores)),
            "std": std,
            "standard_error": (float(correct.mean() * (1 - correct.mean())) / num_images) ** 0.5,
            "standard_error_by": "images",
            "baseline": {"commonest_class": 1 / num_classes, "chance": 1 / num_classes},
            "beats_baseline": True,
            "oof": float(correct.mean()),
            "num_images": num_images,
            "num_classes": num_classes,
            "metrics": {"accuracy": float(correct.mean()), "log_loss": 1.25},
            "metrics_by_fold": {"accuracy": scores, "log_loss": [1.25] * num_folds},
        },
        labels=labels,
        folds=folds,
        probabilities=probabilities.astype(np.float32),
        class_names=[f"class {label}" for label in range(num_classes)],
        class_counts=np.bincount(labels, minlength=num_classes),
        logs={fold: pd.DataFrame(log) for fold in range(num_folds)},
        problems=pd.DataFrame(columns=["path", "problem", "detail", "action"]),
        notes=["A note."],
        facts={"command": "./run.sh input/demo", "seed": "0"},
        paths=np.array([f"train/{row}.png" for row in range(num_images)]),
    )


def write_page(folder: Path, evidence: Evidence) -> str:
    write_report(folder / "report.html", evidence)
    return (folder / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """A parser that collects tags with attributes, text without scripts, and unbalanced tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.words, self.open, self.unbalanced = [], [], [], []
        self.feed(text)
        self.close()
        self.unbalanced += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_classes_equal_those_of_scikit_learn(seed: int) -> None:
    draws = np.random.default_rng(seed)
    labels, predictions = (
        draws.integers(1, 9, 60),
        draws.integers(0, 8, 60),
    )  # 0 has no image, 8 no prediction
    counts = class_tables.count_confusions(labels, predictions, 10)  # class 9 has neither
    assert (counts == sklearn_metrics.confusion_matrix(labels, predictions, labels=np.arange(10))).all()
    table = class_tables.score_classes(counts, [str(label) for label in range(10)])
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=table["label"], zero_division=np.nan
    )
    np.testing.assert_allclose(table["precision"], precision)
    np.testing.assert_allclose(table["recall"], recall)
    np.testing.assert_allclose(table["f1"], f1)
    np.testing.assert_array_equal(table["support"], support)


def test_classes_come_worst_first_with_the_class_they_are_most_often_confused_with() -> None:
    counts = np.array([[8, 0, 2, 0], [3, 0, 4, 0], [0, 0, 5, 0], [0, 0, 0, 0]])
    table = class_tables.score_classes(counts, ["ant", "bee", "cat", "dog"]).set_index("name")
    assert list(table.index) == ["bee", "cat", "ant", "dog"]
    assert table["confused_with"].to_dict() == {"bee": "cat", "cat": "", "ant": "cat", "dog": ""}
    assert table["confusions"].to_dict() == {"bee": 4, "cat": 0, "ant": 2, "dog": 0}


@pytest.mark.parametrize("seed", range(3))
def test_confused_pairs_equal_a_plain_count(seed: int) -> None:
    draws = np.random.default_rng(seed)
    labels, predictions = draws.integers(0, 7, 300), draws.integers(0, 7, 300)
    expected = []
    for true in range(7):
        for predicted in range(7):
            count = sum(pair == (true, predicted) for pair in zip(labels, predictions, strict=True))
            if true != predicted and count:
                expected.append((-count, -count / sum(labels == true), true, predicted))
    expected = [(str(t), str(p), -count, pytest.approx(-share)) for count, share, t, p in sorted(expected)][
        :20
    ]
    counts = class_tables.count_confusions(labels, predictions, 7)
    table = class_tables.list_confused_pairs(counts, [str(label) for label in range(7)], limit=20)
    assert list(table.iloc[:, :4].itertuples(index=False, name=None)) == expected
    assert table["true_label"].astype(str).tolist() == table["true"].tolist()
    assert table["predicted_label"].astype(str).tolist() == table["predicted"].tolist()


def test_confused_classes_are_neighbours() -> None:
    counts = 20 * np.eye(8, dtype=int)
    for a, b in ((0, 5), (3, 6), (1, 7)):
        counts[a, b] = counts[b, a] = 9
    order = class_tables.order_similar_classes(counts).tolist()
    assert sorted(order) == list(range(8))
    assert all(abs(order.index(a) - order.index(b)) == 1 for a, b in ((0, 5), (3, 6), (1, 7)))


def test_an_outlier_is_marked_and_normal_draws_only_at_the_level_of_the_test() -> None:
    assert class_tables.mark_outliers(np.array([0.81, 0.80, 0.82, 0.60, 0.81])).tolist() == [0, 0, 0, 1, 0]
    assert not class_tables.mark_outliers(np.array([0.8, 0.8, 0.8, 0.8, 0.8])).any()
    assert not class_tables.mark_outliers(np.array([0.8, 0.2])).any()
    draws = np.random.default_rng(0).normal(size=(4000, 5))
    share = np.mean([class_tables.mark_outliers(scores).any() for scores in draws])
    assert 0.035 < share < 0.065  # the test's level is 5 %


def test_problems_are_grouped_with_their_counts() -> None:
    rows = [
        ("a", "empty", "left out"),
        ("b", "copy", "kept"),
        ("c", "copy", "left out"),
        ("d", "copy", "kept"),
    ]
    groups = class_tables.group_problems(pd.DataFrame(rows, columns=["path", "problem", "action"]))
    assert groups.to_dict("records") == [
        {"problem": "copy", "count": 3, "action": "kept, left out"},
        {"problem": "empty", "count": 1, "action": "left out"},
    ]


@pytest.mark.parametrize(
    ("num_images", "num_classes", "num_folds"),
    [(240, 6, 4), (60, 2, 2), (90, 6, 1), (4000, 80, 5), (30, 1, 3)],
)
def test_the_page_is_balanced_loads_nothing_and_shows_the_score(
    tmp_path: Path, num_images: int, num_classes: int, num_folds: int
) -> None:
    evidence = make_evidence(num_images, num_classes, num_folds)
    text = write_page(tmp_path, evidence)
    page = Page(text)
    assert page.unbalanced == []
    assert not re.search(r"https?://|url\(|@import", text)
    sources = [attributes["src"] for _, attributes in page.tags if "src" in attributes]
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    links = {attributes["href"] for _, attributes in page.tags if "href" in attributes}
    identifiers = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link.removeprefix("#") for link in links if not link.startswith("data:")} <= identifiers
    assert f"{evidence.cv['mean']:.4f}" in page.text
    assert f"{evidence.cv['standard_error']:.4f}" in page.text
    assert "nan" not in page.text.lower().split()
    assert len(text) < 1_000_000


def test_nonzero_cells_of_the_matrix_are_drawn_once(tmp_path: Path) -> None:
    evidence = make_evidence()
    text = write_page(tmp_path, evidence)
    expected = sklearn_metrics.confusion_matrix(evidence.labels, evidence.probabilities.argmax(axis=1))
    drawn = np.zeros_like(expected)
    cell = r"<title>true class (\d) · predicted class (\d) · (\d+) of 40 · ([\d.]+)%</title>"
    for true, predicted, count, percent in re.findall(cell, text):
        assert drawn[int(true), int(predicted)] == 0
        drawn[int(true), int(predicted)] = int(count)
        assert float(percent) == pytest.approx(100 * int(count) / 40, abs=0.051)
    assert (drawn == expected).all()


def test_the_same_evidence_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write_page(tmp_path, make_evidence()) == write_page(tmp_path, make_evidence())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_names_notes_and_problems_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    evidence = make_evidence(num_classes=40, num_images=400)
    problems = pd.DataFrame({"path": [evil], "problem": [evil], "detail": [evil], "action": [evil]})
    changes = {"competition": evil, "run": evil, "notes": [evil], "facts": {evil: evil}, "problems": problems}
    evil_names = [f"{evil}{label}" for label in range(40)]
    text = write_page(tmp_path, dataclasses.replace(evidence, class_names=evil_names, **changes))
    page = Page(text)
    assert "<script>alert" not in text
    assert page.unbalanced == []
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert f"{evil}39" in page.text


def test_a_class_never_predicted_is_marked(tmp_path: Path) -> None:
    evidence = make_evidence()
    assert "never predicted" not in Page(write_page(tmp_path, evidence)).text
    probabilities = evidence.probabilities.copy()
    probabilities[:, 2] = 0
    page = Page(write_page(tmp_path, dataclasses.replace(evidence, probabilities=probabilities)))
    assert "1 of 6 classes is never predicted." in page.text
    assert "class 2 never predicted" in page.text


def test_epochs_without_validation_leave_no_gap_and_no_nan(tmp_path: Path) -> None:
    evidence = make_evidence(num_folds=2)
    evidence.logs[0].loc[[0, 2], ["val_loss", "val_accuracy"]] = np.nan
    evidence.logs[1][["val_loss", "val_accuracy"]] = np.nan
    text = write_page(tmp_path, evidence)
    held_out = re.findall(r'class="line held">.*?points="([^"]*)"', text, flags=re.DOTALL)
    assert [len(points.split()) for points in held_out] == [3, 3]
    assert "nan" not in text.lower().replace("provenance", "")
    no_logs = write_page(tmp_path, dataclasses.replace(evidence, logs={}))
    assert "Learning curves" in text and "Learning curves" not in no_logs


def test_a_long_list_of_problems_is_cut_and_the_rest_counted(tmp_path: Path) -> None:
    problems = pd.DataFrame(
        {"path": [f"train/{row}.jpg" for row in range(1234)], "problem": "empty", "detail": ""}
    )
    text = write_page(
        tmp_path, dataclasses.replace(make_evidence(), problems=problems.assign(action="left out"))
    )
    assert "train/199.jpg" in text
    assert "train/200.jpg" not in text
    assert "1,034 more are in problems.csv." in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": np.zeros(3, int)}, ["folds"]),
        ({"class_names": ["a", "b"]}, ["labels", "0..1"]),
        ({"class_counts": np.ones(5, int)}, ["class_counts"]),
        ({"probabilities": np.full((240, 6), np.nan, np.float32)}, [240, "probabilities"]),
    ],
)
def test_inconsistent_evidence_is_refused(tmp_path: Path, change: dict, message: list[object]) -> None:
    with pytest.raises(ValueError, match=naming(*message)):
        write_report(tmp_path / "report.html", dataclasses.replace(make_evidence(), **change))
    assert list(tmp_path.iterdir()) == []


def findings_of(folder: Path, evidence: Evidence) -> str:
    """Return the text of the page above its sections."""
    text = write_page(folder, evidence)
    return Page(text[: text.index("<section")]).text


def test_planted_failures_are_findings(tmp_path: Path) -> None:
    evidence = make_evidence(1200, 6, 5)
    assert "never predicted" not in findings_of(tmp_path, evidence)
    broken = evidence.probabilities.copy()
    broken[:, 3] = 0  # class 3 is never predicted
    inside = evidence.folds == 2  # fold 2 has the predictions of other images
    broken[inside] = np.roll(broken[inside], 1, axis=0)
    correct = broken.argmax(axis=1) == evidence.labels
    scores = [float(correct[evidence.folds == fold].mean()) for fold in range(5)]
    cv = {
        **evidence.cv,
        "folds": scores,
        "mean": float(np.mean(scores)),
        "std": float(np.std(scores, ddof=1)),
    }
    cv["metrics_by_fold"] = {"accuracy": scores}
    cv["metrics"] = {"accuracy": float(correct.mean())}
    findings = findings_of(tmp_path, dataclasses.replace(evidence, probabilities=broken, cv=cv))
    assert "1 of 6 classes is never predicted: class 3." in findings
    assert "Fold 2 is an outlier" in findings
    assert "the folds differ by more than chance" in findings


def log_of(train: list[float], held_out: list[float], losses: list[float]) -> dict[int, pd.DataFrame]:
    """Return the log of one fold with these accuracies and held-out losses."""
    rows = {"train_accuracy": train, "val_accuracy": held_out, "val_loss": losses}
    return {0: pd.DataFrame(rows)}


FALLING = [2.0, 1.8, 1.6, 1.4, 1.2, 1.0]
FLAT = [1.0, 0.5, 0.4, 0.4, 0.4, 0.4]
CURVE = [0.2, 0.4, 0.6, 0.7, 0.8, 0.8]
SEVEN = pd.DataFrame(
    {"name": list("abcdefg"), "support": 10, "predicted": 10, "recall": [0.9, 0.8, 0.9, 0.7, 0.8, 0.3, 0.1]}
)
GOOD = Figures(
    metric="accuracy",
    num_images=500,
    accuracy=0.8,
    outliers={2: ["log_loss"]},  # not the run's metric
    spread=FoldSpread(observed=0.02, expected=0.02, p=0.4),
    classes=SEVEN.assign(recall=0.8),
    class_counts=np.full(7, 70),
    shift=Shift(0.52, 0.02, np.zeros(4)),
    calibration=Calibration(1.5, error=0.03, error_after=0.01, log_loss=0.50, log_loss_after=0.52),
    logs=log_of(CURVE, CURVE, FLAT),
)


@pytest.mark.parametrize(
    ("run", "change", "words"),
    [
        ("good", {}, []),
        ("overfitted", {"logs": log_of([*CURVE[:5], 0.8], [0.13] * 6, FALLING)}, ["overfits 80% 13%"]),
        ("underfitted", {"logs": log_of(CURVE, CURVE, FALLING)}, ["more epochs"]),
        (
            "rising",
            {"logs": log_of(CURVE, CURVE, [1.0, 0.5, 0.4, 0.5, 0.6, 0.7])},
            ["fewer epochs"],
        ),
        (
            "chance",
            {"accuracy": 0.14, "baseline_warning": "0.14 is no better"},
            ["0.14 is no better learning rate"],
        ),
        ("shifted", {"shift": Shift(0.8, 0.02, np.zeros(4))}, ["0.80"]),
        (
            "imbalanced",
            {"classes": SEVEN, "class_counts": np.array([90, 80, 70, 60, 50, 9, 8])},
            ["8 to 8 10% 90% logit_adjustment"],
        ),
        ("never", {"classes": SEVEN.assign(recall=0.8, predicted=[*[10] * 6, 0])}, ["1 of 7 never g"]),
        (
            "leaking",
            {"num_over_folds": 3, "num_across": 1, "num_two_labels": 2},
            ["3 different folds", "2 two labels", "1 training and test"],
        ),
        ("known images", {"known_images": "40 of 80 class names"}, ["40 of 80 class names"]),
        ("perfect", {"accuracy": 1.0}, ["500 group_column"]),
        (
            "overconfident",
            {"calibration": Calibration(1.5, 0.05, 0.01, 0.5, 0.4)},
            ["overconfident 1.50 0.050 0.010"],
        ),
        ("unstable", {"spread": FoldSpread(0.1, 0.02, p=0.001)}, ["differ by more than chance"]),
        ("outlier", {"outliers": {2: ["accuracy"]}}, ["Fold 2 outlier"]),
        ("mislabelled", {"num_suspected": 20}, ["20 probably wrong"]),
        ("too many suspects", {"num_suspected": 90}, []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_finding_follows_from_its_figures(run: str, change: dict, words: list[str]) -> None:
    found = [finding.text for finding in find_all(dataclasses.replace(GOOD, **change))]
    assert len(found) == len(words), (run, found)
    for text, keys in zip(found, words, strict=True):
        assert all(key in text for key in keys.split()), (run, text)


def test_a_score_no_better_than_its_baseline_is_said_first() -> None:
    doubtful = dataclasses.replace(
        GOOD, baseline_warning="no better", num_over_folds=1, shift=Shift(0.9, 0.01, np.zeros(4))
    )
    assert find_all(doubtful)[0].text.startswith("no better")


def test_classes_of_one_size_need_no_bars(tmp_path: Path) -> None:
    evidence = make_evidence()
    even = Page(write_page(tmp_path, evidence)).text
    uneven = dataclasses.replace(evidence, class_counts=np.array([40, 40, 40, 40, 40, 20]))
    assert "40 training images in every class" in even and "to 1." not in even
    assert "from 40 to 20, 2.0 to 1." in Page(write_page(tmp_path, uneven)).text


def test_a_weak_network_gives_no_finding_on_labels(tmp_path: Path) -> None:
    evidence = make_evidence()
    names, paths = evidence.class_names, evidence.paths
    wrong = np.flatnonzero(evidence.probabilities.argmax(axis=1) != evidence.labels)
    issues = pd.DataFrame({"path": paths[wrong], "given": names[0], "proposed": names[1]})
    issues = issues.assign(probability_given=0.1, probability_proposed=0.8, suspected=False)
    for suspected, text in (
        (0, "No label is suspected."),
        (9, "9 labels are probably wrong"),
        (60, "the network may be wrong"),
    ):
        issues["suspected"] = np.arange(len(issues)) < suspected
        page = Page(write_page(tmp_path, dataclasses.replace(evidence, issues=issues))).text
        assert text in page
        assert ("labels are probably wrong: see" in page) == (suspected == 9)


class FewSections(SingleLabel):
    report_sections = ("folds", "learning-curves", "data", "problems")


def test_a_page_has_the_sections_that_its_task_lists(tmp_path: Path) -> None:
    evidence = make_evidence()
    whole = Page(write_page(tmp_path, evidence))
    page = Page(write_page(tmp_path, dataclasses.replace(evidence, task=FewSections(6))))
    headings = [[tag for tag, _ in parsed.tags].count("h2") for parsed in (whole, page)]
    assert headings == [len(SingleLabel.report_sections), 4]
    assert page.unbalanced == [] and "Confusion matrix" not in " ".join(page.words)


def test_a_metric_without_a_value_in_a_fold_is_shown_as_a_dash(tmp_path: Path) -> None:
    evidence = make_evidence()
    scores = [None, *evidence.cv["folds"][1:]]
    by_fold = {**evidence.cv["metrics_by_fold"], "accuracy": scores}
    cv = {**evidence.cv, "folds": scores, "metrics_by_fold": by_fold}
    text = write_page(tmp_path, dataclasses.replace(evidence, cv=cv))
    assert not re.search(r"\bnan\b", text, re.IGNORECASE) and "–" in text
    assert f"{np.mean(scores[1:]):.4f}" in text
