"""Split the samples into folds: folds.csv, from which all later stages read them.

.venv/bin/python src/split.py input/tiny80 --recipe resnet64 --folds 5
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from dataclasses import asdict

import numpy as np
import pandas as pd

from foldsmith.data.duplicates import join_groups, release_large
from foldsmith.data.folds import (
    ALWAYS_TRAINED,
    assign_folds,
    assign_holdout,
    build_folds,
    choose_limited,
    rare_classes,
)
from foldsmith.errors import InputError, first_of
from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of_file, save_csv
from foldsmith.process.terminal import say
from foldsmith.run.command import FoldPlan, read_command
from foldsmith.run.stamps import check_claim, is_current, require, write_stamp
from foldsmith.run.tables import load_classes, load_samples, load_task
from foldsmith.tasks import Task


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run, plan = command.run, command.plan
    check_claim(run, **command.identity)
    require(run.samples, "prepare")
    inputs = {"samples": digest_of_file(run.samples), "plan": asdict(plan)}
    if not command.again and is_current(run.stamp("split"), inputs):
        say(f"split: {run.folds} is up to date")
        return 0

    samples, classes = load_samples(run.samples), load_classes(run.classes)
    task = load_task(run)
    folds = split(samples, plan, task)
    for line in [*released_of(samples, folds, plan), *warnings_of(folds, classes, plan, task)]:
        say(f"split: {line}")
    save_csv(run.folds, folds)
    write_stamp(run.stamp("split"), inputs, [run.folds])
    counts = ", ".join(
        f"{count:,}"
        for count in folds.loc[folds["fold"] != ALWAYS_TRAINED, "fold"].value_counts(sort=False).sort_index()
    )
    say(f"split: {run.folds} ({len(folds):,} images; held out: {counts})")
    return 0


def split(samples: pd.DataFrame, plan: FoldPlan, task: Task) -> pd.DataFrame:
    """Return the table of folds.csv for a plan.

    Raise InputError if a fold would hold out no image, or would train on fewer than two.
    """
    if plan.limit is not None:
        chosen = choose_limited(task.strata(task.targets(samples)), plan.limit, plan.seed)
        samples = samples.iloc[chosen].reset_index(drop=True)
    strata = task.strata(task.targets(samples))
    near = release_large(list(samples["near"]), largest_near_group(len(samples), plan))
    groups = join_groups(list(samples["digest"]), list(samples["group"]), near)
    if plan.holdout is not None:
        folds = assign_holdout(strata, groups, plan.holdout, plan.seed)
    else:
        folds = assign_folds(strata, groups, plan.num_folds, plan.seed)
    held_out = np.bincount(folds[folds != ALWAYS_TRAINED], minlength=len(plan.folds))
    if held_out.min() == 0 or held_out.max() > len(samples) - 2:
        if len(samples) > 1 and len(set(samples["digest"])) == 1:
            raise InputError(
                f"all {len(samples)} training images have the same pixels, so that nothing tells "
                "classes apart; look at the image files (black ones, or another image under every name)."
            )
        raise InputError(
            f"{len(samples)} images in {len(set(groups))} groups cannot be split so that every fold trains "
            "on at least 2 images and holds out at least 1; use fewer folds, or more images (--limit)."
        )
    return build_folds(samples, folds, task)


def largest_near_group(num_images: int, plan: FoldPlan) -> int:
    """Return the size of a group of near-duplicates up to which it stays in one fold: half of a fold."""
    return num_images // (2 * plan.num_parts)


def released_of(samples: pd.DataFrame, folds: pd.DataFrame, plan: FoldPlan) -> list[str]:
    """Return a message about groups of near-duplicates that are spread over folds for their size, or none."""
    near = samples.loc[samples["path"].isin(folds["path"]), "near"]
    sizes = near[near != ""].value_counts()
    largest = largest_near_group(len(folds), plan)
    large = sizes[sizes > largest]
    if large.empty:
        return []
    return [
        f"{large.sum():,} images in groups of more than {largest:,} near-duplicates, half of a fold, are "
        f"spread over the folds (first: {large.index[0]}), and scores may be too good; use fewer --folds, or "
        "keep images together by group_column in competition.toml"
    ]


def warnings_of(folds: pd.DataFrame, classes: pd.DataFrame, plan: FoldPlan, task: Task) -> list[str]:
    """Return messages about classes that a fold cannot score, or does not learn."""
    lines, names = [], classes["class_name"]
    counts = task.class_counts(task.targets(folds))
    rare = rare_classes(counts, plan.num_parts)
    if rare:
        lines.append(
            f"{len(rare)} of {len(classes)} classes have too few images for the split (under "
            f"{plan.num_parts}), so some folds cannot score them: {first_of(names.iloc[rare])}"
        )
    held_out = [task.class_counts(task.targets(folds[folds["fold"] == fold])) for fold in plan.folds]
    whole = [(held == counts) & (counts > 0) for held in held_out]
    alone = [label for label in np.flatnonzero(np.any(whole, axis=0)) if label not in rare]
    if alone:
        lines.append(
            f"{len(alone)} of {len(classes)} classes are held out as a whole by one fold, which trains on "
            f"none of their images, as groups keep them together: {first_of(names.iloc[alone])}"
        )
    return lines


if __name__ == "__main__":
    run_main(main)
