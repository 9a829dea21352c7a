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
    for line in warnings_of(task.class_counts(task.targets(folds)), classes, plan):
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
    near = release_large(list(samples["near"]), largest=len(samples) // (2 * plan.num_parts))
    groups = join_groups(list(samples["digest"]), list(samples["group"]), near)
    if plan.holdout is not None:
        folds = assign_holdout(strata, groups, plan.holdout, plan.seed)
    else:
        folds = assign_folds(strata, groups, plan.num_folds, plan.seed)
    held_out = np.bincount(folds[folds != ALWAYS_TRAINED], minlength=len(plan.folds))
    if held_out.min() == 0 or held_out.max() > len(samples) - 2:
        if len(set(samples["digest"])) == 1:
            raise InputError(
                f"all {len(samples)} training images have the same pixels, so that nothing tells "
                "classes apart; look at the image files (black ones, or another image under every name)."
            )
        raise InputError(
            f"{len(samples)} images in {len(set(groups))} groups cannot be split so that every fold trains "
            "on at least 2 images and holds out at least 1; use fewer folds, or more images."
        )
    return build_folds(samples, folds, task)


def warnings_of(class_counts: np.ndarray, classes: pd.DataFrame, plan: FoldPlan) -> list[str]:
    """Return a message about classes with too few images for every fold, or none."""
    rare = rare_classes(class_counts, plan.num_parts)
    if not rare:
        return []
    names = first_of(classes["class_name"].iloc[rare])
    return [
        f"{len(rare)} of {len(classes)} classes have too few images for the split (under {plan.num_parts}), "
        f"so some folds cannot score them: {names}"
    ]


if __name__ == "__main__":
    run_main(main)
