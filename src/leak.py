"""Trains once more with equal pictures split over the folds, where report_leak asks for it: leak.json.

.venv/bin/python src/leak.py input/tiny80 --recipe resnet64 --set report_leak=true
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import numpy as np
import pandas as pd

from foldsmith.data.duplicates import join_groups
from foldsmith.data.folds import assign_folds, assign_holdout, build_folds
from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of, digest_of_file, load_npz, remove_checkpoints, save_json
from foldsmith.process.machine import versions
from foldsmith.process.terminal import say
from foldsmith.run.command import Command, read_command
from foldsmith.run.stamps import check_claim, digests_of_trained, is_current, require_from, write_stamp
from foldsmith.run.tables import load_classes, load_folds, load_samples


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run = command.run
    if command.is_resolved and not command.recipe.report_leak:
        return 0
    check_claim(run, **command.identity)
    require_from(run.stamp("validate"), "validate", digests_of_trained(run, command.folds_to_use))
    command.refuse_leak_of_a_fold()
    inputs = {"oof": digest_of_file(run.oof), "samples": digest_of_file(run.samples), "versions": versions()}
    if not command.again and is_current(run.stamp("leak"), inputs):
        say(f"leak: {run.leak} is up to date")
        return 0
    leak(command, digest_of(inputs))
    write_stamp(run.stamp("leak"), inputs, [run.leak], oof=inputs["oof"])
    say(f"leak: {run.leak}")
    return 0


def leak(command: Command, made_from: str) -> None:
    """Writes leak.json: accuracy out-of-fold, honest and leaky, of all images and of those with an equal."""
    # importing torch takes seconds, which a stage that is up to date should not pay
    from foldsmith.data.cache import open_run_cache
    from foldsmith.evaluation.leakage import compare_leak
    from foldsmith.evaluation.predictions import scatter_oof
    from foldsmith.training.fold import FoldTraining, select_samples
    from foldsmith.training.pseudo_labels import images_to_label
    from foldsmith.training.rounds import Rounds

    run, leaky, num_classes = command.run, command.run.leaky, len(load_classes(command.run.classes))
    samples, folds = load_samples(run.samples).set_index("path"), load_folds(run.folds)
    samples = samples.loc[folds["path"]].reset_index()
    split_up = split_equal_pictures(command, samples)
    cache = open_run_cache(command.run, command.folder, command.recipe.image_size)
    test_paths = images_to_label(command)
    for fold in command.plan.folds:
        say(f"leak: fold {fold}, with equal pictures split")
        first = FoldTraining(
            run=leaky,
            fold=fold,
            recipe=command.recipe,
            num_classes=num_classes,
            cache=cache,
            training=select_samples(split_up, split_up["fold"] != fold, cache),
            held_out=select_samples(split_up, split_up["fold"] == fold, cache),
            made_from=made_from,
            device=command.device,
            precision=command.precision,
            workers=command.workers,
            pretrained=run,
        )
        rounds = Rounds(first, test_paths)
        if command.again:
            rounds.forget()
        rounds.train()
    held_out = split_up[split_up["fold"] >= 0].reset_index(drop=True)
    predicted = [load_npz(leaky.heldout(fold)) for fold in command.plan.folds]
    right = scatter_oof(held_out, predicted, num_classes).argmax(axis=1) == held_out["label"].to_numpy()
    groups = pd.Series(join_groups(list(samples["near"]), list(samples["digest"])))
    duplicated = set(samples.loc[groups.duplicated(keep=False), "path"])
    oof = load_npz(run.oof)
    honest = pd.Series(oof["probabilities"].argmax(axis=1) == oof["label"], index=oof["path"])
    save_json(run.leak, compare_leak(honest, pd.Series(right, index=held_out["path"]), duplicated))
    # not before: a fold that is done goes on from its last checkpoint when another one was interrupted
    for fold in command.plan.folds:
        remove_checkpoints(leaky.checkpoint(fold))


def split_equal_pictures(command: Command, samples: pd.DataFrame) -> pd.DataFrame:
    """folds.csv as it would be if nobody had looked for equal pictures; declared groups stay together."""
    labels, groups = samples["label"].to_numpy(np.int64), join_groups(list(samples["group"]))
    plan = command.plan
    if plan.holdout is not None:
        return build_folds(samples, assign_holdout(labels, groups, plan.holdout, plan.seed))
    return build_folds(samples, assign_folds(labels, groups, plan.num_folds, plan.seed))


if __name__ == "__main__":
    run_main(main)
