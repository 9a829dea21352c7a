"""Trains every fold: one set of weights and the held-out predictions of each.

.venv/bin/python src/train.py input/tiny80 --recipe resnet64 --fold 2
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.interruption import stop_at_once

    stop_at_once()

import time
from pathlib import Path

from foldsmith.command import Command, read_command, run_main
from foldsmith.errors import InputError
from foldsmith.files import digest_of, digest_of_file, load_json, remove_checkpoints
from foldsmith.machine import versions
from foldsmith.recipes import check_weights_file
from foldsmith.stamps import (
    check_claim,
    is_current,
    refuse_other_machine,
    require,
    require_whole,
    write_stamp,
)
from foldsmith.tables import load_classes, load_folds
from foldsmith.terminal import progress, say


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run = command.run
    check_claim(run, **command.identity)
    require(run.folds, "split")
    inputs = {
        "identity": load_json(run.identity),
        "folds": digest_of_file(run.folds),
        "versions": versions(),
        "weights": digest_of_weights(command.recipe.weights),
        "pretrained": digest_of_pretraining(command),
    }
    wanted = []
    for fold in command.folds_to_train:
        if not command.again and is_current(run.fold_run(fold), {**inputs, "fold": fold}):
            refuse_other_machine(run.fold_run(fold), f"fold {fold}", command.precision, command.device)
            remove_checkpoints(run.checkpoint(fold))  # a process killed at the very end had no time to
            say(f"train: {run.weights(fold)} is up to date")
            continue
        refuse_stale(command, fold)
        wanted.append(fold)
    held_out = load_folds(run.folds)["fold"]
    total = command.recipe.epochs * sum(int((held_out != fold).sum()) for fold in wanted)
    with progress(f"{len(wanted)} folds", total, "images"):  # the bar of every epoch moves it along
        for fold in wanted:
            train(command, fold, {**inputs, "fold": fold})
    return 0


def digest_of_weights(path: str) -> str:
    """Digest of the file a network starts from, or empty. Raises InputError if it is not there."""
    check_weights_file(path)
    return digest_of_file(Path(path)) if path else ""


def digest_of_pretraining(command: Command) -> str:
    """Digest of the pretraining that a recipe starts from, or empty. Raises InputError if it is not done."""
    if command.recipe.pretrain == "none":
        return ""
    require_whole(command.run.pretrain_run, "pretrain")
    outputs = load_json(command.run.pretrain_run)["outputs"]
    return digest_of([outputs[f"{part}.safetensors"] for part in ("encoder", "decoder")])


def refuse_stale(command: Command, fold: int) -> None:
    """Raises InputError if the fold was trained with other folds or versions: results are never mixed."""
    path = command.run.fold_run(fold)
    if command.again or not path.is_file():
        return
    made = load_json(path)
    changed = [name for name, version in versions().items() if made["versions"].get(name) != version]
    if changed:
        told = ", ".join(f"{name} {made['versions'].get(name)}" for name in changed)
        raise InputError(
            f"fold {fold} was trained with other versions ({told}); --again trains it anew, or install those."
        )
    if made["folds"] != digest_of_file(command.run.folds):
        raise InputError(
            f"fold {fold} was trained with other folds than {command.run.folds}; --again trains it anew."
        )


def train(command: Command, fold: int, inputs: dict[str, object]) -> None:
    # importing torch takes seconds, which a stage that is up to date should not pay
    from foldsmith.data.cache import open_cache
    from foldsmith.training.fold import FoldTraining, select_samples

    run = command.run
    folds, classes = load_folds(run.folds), load_classes(run.classes)
    cache = open_cache(command.cache_root / load_json(run.stamp("prepare"))["cache"])
    if command.again:
        remove_checkpoints(run.checkpoint(fold))
    run.fold_run(fold).unlink(missing_ok=True)
    facts = FoldTraining(
        run=run,
        fold=fold,
        recipe=command.recipe,
        num_classes=len(classes),
        cache=cache,
        training=select_samples(folds, folds["fold"] != fold, cache),
        held_out=select_samples(folds, folds["fold"] == fold, cache),
        made_from=digest_of(inputs),
        device=command.device,
        precision=command.precision,
        workers=command.workers,
    ).train()
    outputs = [run.weights(fold), run.heldout(fold), run.log(fold)]
    write_stamp(
        run.fold_run(fold),
        inputs,
        outputs,
        recipe=command.identity["recipe"],
        fold=fold,
        seed=command.recipe.seed,
        folds=inputs["folds"],
        pretrained=inputs["pretrained"],
        command=command.line("train"),
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        versions=inputs["versions"],
        **facts,
    )
    remove_checkpoints(run.checkpoint(fold))
    say(f"train: {run.weights(fold)} ({facts['seconds']:.0f} s)")


if __name__ == "__main__":
    run_main(main)
