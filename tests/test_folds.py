"""The split: golden folds that never change, balance, groups, hold-out shares and `--limit`."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeCompetition, naming
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from foldsmith.competition.folder import read_competition
from foldsmith.competition.labels import read_metadata
from foldsmith.data.folds import (
    ALWAYS_TRAINED,
    assign_folds,
    assign_holdout,
    build_folds,
    choose_limited,
    rare_classes,
)
from foldsmith.errors import InputError
from foldsmith.run.command import FoldPlan
from foldsmith.tasks import SingleLabel
from split import released_of, split, warnings_of

TASK = SingleLabel(13)
# any mix of frequent, rare and absent classes
labels_of_any_set = st.lists(st.integers(0, 12), min_size=12, max_size=150).map(
    lambda classes: np.array(classes, dtype=np.int64)
)
seeds = st.integers(0, 2**31)


def alone(labels: np.ndarray) -> np.ndarray:
    """Return groups of one sample each."""
    return np.arange(len(labels))


def class_spread(labels: np.ndarray, folds: np.ndarray, num_folds: int) -> int:
    """Return the largest difference between two folds in the count of one class."""
    counts = [Counter(labels[folds == fold].tolist()) for fold in range(num_folds)]
    return max(
        max(count[label] for count in counts) - min(count[label] for count in counts)
        for label in set(labels.tolist())
    )


def total_spread(folds: np.ndarray, num_folds: int) -> int:
    totals = [int((folds == fold).sum()) for fold in range(num_folds)]
    return max(totals) - min(totals)


def make_samples(labels: np.ndarray, groups: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": [f"train/{index}.png" for index in range(len(labels))],
            "label": labels,
            "digest": [f"pixels {index}" for index in range(len(labels))],
            "group": groups if groups is not None else [""] * len(labels),
            "near": "",
        }
    )


# Published results depend on these: if they change, earlier runs had other folds.
GOLDEN_LABELS = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
GOLDEN_GROUPS = [0, 0, 2, 3, 4, 5, 6, 6, 6, 9, 10, 11, 12, 13, 13, 15]
GOLDEN_ALONE = [1, 0, 1, 2, 0, 2, 0, 1, 2, 1, 2, 2, 0, 0, 2, 1]
GOLDEN_GROUPED = [1, 1, 0, 0, 2, 2, 2, 2, 2, 0, 1, 1, 1, 0, 0, 2]
GOLDEN_OTHER_SEED = [2, 2, 0, 1, 0, 1, 0, 0, 2, 2, 1, 0, 1, 2, 1, 0]
GOLDEN_DIGEST = "5ca0b7a4a5b281017831daf169753fdc20336ed54882671f57e0d1e632814a49"


def test_folds_never_change_between_versions() -> None:
    labels, groups = np.array(GOLDEN_LABELS), np.array(GOLDEN_GROUPS)
    assert assign_folds(labels, alone(labels), 3, 0).tolist() == GOLDEN_ALONE
    assert assign_folds(labels, groups, 3, 0).tolist() == GOLDEN_GROUPED
    assert assign_folds(labels, alone(labels), 3, 1).tolist() == GOLDEN_OTHER_SEED


def test_a_thousand_folds_never_change_between_versions() -> None:
    labels = np.arange(1000) ** 2 % 17
    folds = assign_folds(labels, alone(labels), 5, 0)
    assert hashlib.sha256(bytes(folds.tolist())).hexdigest() == GOLDEN_DIGEST


@settings(deadline=None, max_examples=60)
@given(labels_of_any_set, st.integers(2, 7), seeds)
def test_without_groups_class_counts_and_totals_differ_by_at_most_one(
    labels: np.ndarray, num_folds: int, seed: int
) -> None:
    folds = assign_folds(labels, alone(labels), num_folds, seed)
    assert set(folds.tolist()) <= set(range(num_folds))
    assert class_spread(labels, folds, num_folds) <= 1
    assert total_spread(folds, num_folds) <= 1


@settings(deadline=None, max_examples=40)
@given(labels_of_any_set, st.integers(2, 5), st.integers(1, 40), seeds)
def test_a_group_is_never_split(labels: np.ndarray, num_folds: int, num_groups: int, seed: int) -> None:
    groups = np.random.default_rng(seed).integers(0, num_groups, len(labels))
    for folds in (
        assign_folds(labels, groups, num_folds, seed),
        assign_holdout(labels, groups, 0.3, seed),
    ):
        assert all(len(set(folds[groups == group].tolist())) == 1 for group in set(groups.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_with_groups_folds_are_balanced_as_well_as_scikit_learn_balances_them(seed: int) -> None:
    draws = np.random.default_rng(seed)
    sizes = draws.integers(1, 6, 120)
    groups = np.repeat(np.arange(120), sizes)
    # groups such as patients and sequences mostly have one class
    labels = np.where(
        draws.random(len(groups)) < 0.9, np.repeat(draws.integers(0, 6, 120), sizes), groups % 6
    )
    theirs = np.empty(len(labels), dtype=int)
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        theirs[held_out] = fold
    ours = assign_folds(labels, groups, 5, seed)
    assert class_spread(labels, ours, 5) <= class_spread(labels, theirs, 5) + 1
    assert total_spread(ours, 5) <= total_spread(theirs, 5) + 1


def test_a_group_that_is_too_large_takes_a_fold_and_the_others_share_the_rest() -> None:
    labels = np.array([0] * 60 + [0] * 20 + [1] * 20)
    groups = np.array([0] * 60 + list(range(60, 100)))
    folds = assign_folds(labels, groups, 3, 0)
    (largest,) = set(folds[:60].tolist())
    rest = [Counter(labels[60:][folds[60:] == fold].tolist()) for fold in range(3) if fold != largest]
    assert [count[0] for count in rest] == [10, 10]


@settings(deadline=None, max_examples=60)
@given(labels_of_any_set, st.sampled_from([0.05, 0.1, 0.25, 0.3, 1 / 3, 0.5, 0.8]), seeds)
def test_the_held_out_share_is_exact_within_rounding(labels: np.ndarray, share: float, seed: int) -> None:
    held_out = assign_holdout(labels, alone(labels), share, seed)
    assert set(held_out.tolist()) <= {0, ALWAYS_TRAINED}
    assert abs((held_out == 0).sum() - share * len(labels)) <= 1
    for label in set(labels.tolist()):
        assert abs((held_out[labels == label] == 0).sum() - share * (labels == label).sum()) < 1


@pytest.mark.parametrize(("per_class", "share"), [(11, 0.3), (7, 0.1), (2, 0.25)])
def test_rounding_favours_no_class_by_its_number(per_class: int, share: float) -> None:
    # an even number of classes; both halves have the same held-out share
    labels = np.repeat(np.arange(80), per_class)
    held_out = labels[assign_holdout(labels, alone(labels), share, 0) == 0]
    assert len(held_out) == pytest.approx(share * len(labels), abs=1)
    assert (held_out < 40).sum() == pytest.approx((held_out >= 40).sum(), abs=2)


@settings(deadline=None, max_examples=60)
@given(labels_of_any_set, st.integers(1, 200), seeds)
def test_a_limited_selection_is_exact_sorted_and_stratified(
    labels: np.ndarray, limit: int, seed: int
) -> None:
    chosen = choose_limited(labels, limit, seed)
    assert len(chosen) == min(limit, len(labels))
    assert (np.diff(chosen) > 0).all()
    share = len(chosen) / len(labels)
    for label in set(labels.tolist()):
        # one for the rounding of the class, one for making the total exact
        assert abs((labels[chosen] == label).sum() - share * (labels == label).sum()) <= 2


def test_a_limit_of_one_image_a_class_keeps_every_class() -> None:
    labels = np.repeat(np.arange(20), 15)
    chosen = choose_limited(labels, 20, 0)
    assert sorted(labels[chosen].tolist()) == list(range(20))


def test_another_seed_gives_other_folds_and_other_choices() -> None:
    labels = np.arange(200) % 4
    groups = alone(labels)
    for draw in (
        lambda seed: assign_folds(labels, groups, 5, seed),
        lambda seed: assign_holdout(labels, groups, 0.3, seed),
        lambda seed: choose_limited(labels, 50, seed),
    ):
        assert np.array_equal(draw(7), draw(7))
        assert not np.array_equal(draw(7), draw(8))


def test_folds_depend_on_no_global_random_state() -> None:
    labels = np.arange(100) % 3
    first = assign_folds(labels, alone(labels), 5, 0)
    np.random.seed(123)
    assert np.array_equal(assign_folds(labels, alone(labels), 5, 0), first)


def test_the_numbering_of_groups_does_not_matter() -> None:
    labels, groups = np.arange(60) % 3, np.arange(60) // 4
    # group numbers change, their order does not
    assert np.array_equal(assign_folds(labels, groups, 4, 0), assign_folds(labels, groups * 10 + 3, 4, 0))


def test_the_order_of_the_label_file_does_not_matter(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(num_classes=4, per_class=9)
    plan = FoldPlan(num_folds=3, holdout=None, seed=0, limit=30)
    tables = []
    for seed in range(3):
        document = json.loads((folder / "answer.json").read_text())
        np.random.default_rng(seed).shuffle(document["annotations"])
        (folder / "answer.json").write_text(json.dumps(document))
        samples = read_metadata(read_competition(folder)).samples
        tables.append(split(samples.assign(digest="", near=""), plan, TASK))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])


@pytest.mark.parametrize(
    ("plan", "folds"),
    [
        (FoldPlan(4, None, 0, None), {0, 1, 2, 3}),
        (FoldPlan(5, 0.25, 0, None), {0, ALWAYS_TRAINED}),
        (FoldPlan(4, None, 0, 24), {0, 1, 2, 3}),
    ],
)
def test_every_sample_has_exactly_one_fold(plan: FoldPlan, folds: set[int]) -> None:
    samples = make_samples(np.arange(40) % 4)
    table = split(samples, plan, TASK)
    assert list(table.columns) == ["path", "label", "fold"]
    assert table["path"].is_unique and len(table) == (plan.limit or len(samples))
    assert set(table["fold"]) == folds
    expected = dict(zip(samples["path"], samples["label"], strict=True))
    assert all(expected[row.path] == row.label for row in table.itertuples())


def test_images_with_the_same_pixels_or_the_same_group_are_held_out_together() -> None:
    samples = make_samples(np.arange(60) % 3, [f"patient {index // 4}" for index in range(60)])
    samples.loc[[3, 17, 41], "digest"] = "the same"  # joins three patients
    folds = split(samples, FoldPlan(5, None, 0, None), TASK).set_index("path")["fold"]
    for patient in samples["group"].unique():
        assert folds[samples.loc[samples["group"] == patient, "path"]].nunique() == 1
    assert folds[samples.loc[[3, 17, 41], "path"]].nunique() == 1


def test_near_duplicates_are_held_out_together_unless_they_fill_half_a_fold() -> None:
    samples = make_samples(np.arange(60) % 3)
    pairs = {first: f"train/{first}.png" for first in range(0, 20, 2)}
    for first, name in pairs.items():
        samples.loc[[first, first + 31], "near"] = name
    folds = split(samples, FoldPlan(5, None, 0, None), TASK)["fold"]
    assert all(folds[first] == folds[first + 31] for first in pairs)
    similar = make_samples(np.arange(60) % 3).assign(near=["train/0.png"] * 40 + [""] * 20)
    counts = split(similar, FoldPlan(5, None, 0, None), TASK)["fold"].value_counts()
    assert counts.tolist() == [12] * 5


@pytest.mark.parametrize(
    ("labels", "groups", "plan"),
    [
        ([0, 1, 0], None, FoldPlan(5, None, 0, None)),
        ([0, 1] * 10, ["one"] * 20, FoldPlan(2, None, 0, None)),
        ([0, 1] * 10, ["one"] * 20, FoldPlan(5, 0.3, 0, None)),
        ([0, 1] * 10, None, FoldPlan(5, None, 0, 3)),
    ],
)
def test_a_split_with_an_empty_fold_or_nothing_to_train_on_is_refused(
    labels: list[int], groups: list[str] | None, plan: FoldPlan
) -> None:
    with pytest.raises(InputError, match=naming("images", "folds")):
        split(make_samples(np.array(labels), groups), plan, TASK)


def test_folds_are_written_with_their_paths_and_labels() -> None:
    samples = make_samples(np.array([2, 0, 1]))
    table = build_folds(samples, [1, 0, 1], TASK)
    assert table.to_dict("list") == {
        "path": ["train/0.png", "train/1.png", "train/2.png"],
        "label": [2, 0, 1],
        "fold": [1, 0, 1],
    }


@given(labels_of_any_set, st.integers(2, 6))
@settings(deadline=None, max_examples=30)
def test_rare_classes_are_those_with_fewer_samples_than_folds(labels: np.ndarray, num_folds: int) -> None:
    counts = Counter(labels.tolist())
    expected = [label for label in range(15) if counts[label] < num_folds]
    assert rare_classes(np.bincount(labels, minlength=15), num_folds) == expected


def samples_of(labels: list[int], groups: list[str], near: list[str]) -> pd.DataFrame:
    paths = [f"train/{index}.png" for index in range(len(labels))]
    frame = {"path": paths, "label": labels, "group": groups, "near": near, "digest": paths}
    return pd.DataFrame({**frame, "class_name": "", "category": ""})


def test_groups_that_no_fold_can_keep_apart_from_scores_are_told() -> None:
    plan, task = FoldPlan(3, None, 0, None), SingleLabel(3)
    classes = pd.DataFrame({"class_name": ["ant", "bee", "cow"]})
    labels = [index % 3 for index in range(60)]
    of_one_patient = ["p" if label == 2 else "" for label in labels]
    for groups, named in (([""] * 60, []), (of_one_patient, ["cow"])):
        samples = samples_of(labels, groups, [""] * 60)
        folds = split(samples, plan, task)
        lines = warnings_of(folds, classes, plan, task)
        assert len(lines) == len(named) and all(name in line for name, line in zip(named, lines, strict=True))
    for size, told in ((10, 0), (11, 1)):  # half of a fold of 20 images
        near = ["train/0.png" if index < size else "" for index in range(60)]
        samples = samples_of(labels, [""] * 60, near)
        folds = split(samples, plan, task)
        apart = folds["fold"][:size].nunique() > 1
        assert apart == bool(told) and len(released_of(samples, folds, plan)) == told
