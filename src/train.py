"""Trains every fold: its networks, and the held-out predictions of each fold.

Several GPUs train folds at once; started by torchrun, they train each fold together.

.venv/bin/python src/train.py input/tiny80 --recipe resnet64 --fold 2
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import os
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from foldsmith.errors import InputError
from foldsmith.process.devices import spread, started_by_torchrun
from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of, remove_checkpoints
from foldsmith.process.terminal import progress, say
from foldsmith.run.command import Command, read_command
from foldsmith.run.fold_inputs import inputs_of, refuse_stale
from foldsmith.run.stamps import (
    check_claim,
    is_current,
    is_predicted,
    refuse_other_machine,
    require,
    stamp_predicted,
    write_stamp,
)
from foldsmith.run.tables import load_classes, load_folds, load_samples
from foldsmith.training.pseudo_labels import images_to_label

if TYPE_CHECKING:
    from foldsmith.training.processes import Processes


@dataclass(frozen=True)
class Plan:
    """The folds that are to be trained, what all depend on, and the test images that may get a label.

    `to_predict` are folds that are trained, and are to predict their held-out images with other views.
    """

    wanted: list[int]
    to_predict: list[int]
    inputs: dict[str, object]
    to_label: list[str]


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    if started_by_torchrun():
        return train_together(command)
    plan = make_plan(command)
    status = train_wanted(command, plan)
    if status == 0:
        predict_again(command, plan)
    return status


def train_wanted(command: Command, plan: Plan) -> int:
    """Train the folds that are to be trained, on one device or spread over several; the exit status."""
    wanted = plan.wanted
    devices = choose_devices(command) if wanted else []
    if len(devices) > 1:  # for one fold too: it is to be the same, whatever was done before
        say(f"train: folds {', '.join(map(str, wanted))} on {', '.join(devices)}")
        return spread(partial(train_on, command, plan), wanted, devices)
    # the bar of every epoch moves it along
    with progress(f"{len(wanted)} folds", count_images(command, plan), "images"):
        for fold in wanted:
            train(command, plan, fold)
    return 0


def predict_again(command: Command, plan: Plan) -> None:
    """Predict the held-out images of trained folds whose predictions are of other views, or gone."""
    if plan.to_predict:
        # importing torch takes seconds, which a stage that is up to date should not pay
        from foldsmith.training import held_out

        for fold in plan.to_predict:
            held_out.predict_again(command, fold)


def make_plan(command: Command) -> Plan:
    """Raises InputError for stale folds, and where there is nothing to train them on."""
    run = command.run
    check_claim(run, **command.identity)
    require(run.folds, "split")
    to_label = images_to_label(command)  # sooner than after a round
    inputs = inputs_of(command, to_label)
    finished = finished_folds(command, inputs)
    to_predict = [fold for fold in finished if not is_predicted(run, fold, command.recipe.views)]
    wanted = []
    for fold in command.folds_to_train:
        if fold in finished:
            refuse_other_machine(run.fold_run(fold), f"fold {fold}", command.precision, command.device)
            remove_checkpoints(run.checkpoint(fold))  # a process killed at the very end had no time to
            if fold not in to_predict:
                say(f"train: {run.weights(fold)} is up to date")
            continue
        refuse_stale(command, fold)
        wanted.append(fold)
    if command.again:  # also where it is stopped before their turn comes, none of them is taken for done
        for fold in wanted:
            run.fold_run(fold).unlink(missing_ok=True)
    if wanted and to_label:
        num_test = len(load_samples(run.test_samples))
        if len(to_label) < num_test:
            say(f"train: {num_test - len(to_label):,} of {num_test:,} test images get no label: they cannot "
                "be read or show training pictures")  # fmt: skip
    return Plan(wanted, to_predict, inputs, to_label)


def finished_folds(command: Command, inputs: dict[str, object]) -> list[int]:
    """Return the folds that are trained from these inputs; with `--fold` those trained before as well.

    Later stages use them all.
    """
    forgotten = command.folds_to_train if command.again else []
    return [
        fold
        for fold in command.folds_to_use
        if fold not in forgotten and is_current(command.run.fold_run(fold), {**inputs, "fold": fold})
    ]


def count_images(command: Command, plan: Plan) -> int:
    """How many images, one by one, the training goes through."""
    recipe, held_out = command.recipe, load_folds(command.run.folds)["fold"]
    labelled = sum(int((held_out != fold).sum()) for fold in plan.wanted)
    pseudo_labelled = len(plan.wanted) * round(recipe.pseudo_share * len(plan.to_label))
    return recipe.epochs * recipe.seeds * (recipe.rounds * labelled + (recipe.rounds - 1) * pseudo_labelled)


def choose_devices(command: Command) -> list[str]:
    # importing torch takes seconds, which a stage that is up to date should not pay
    from foldsmith.inference import compute

    return [str(device) for device in compute.choose_devices(command.device)]


def train_on(command: Command, plan: Plan, device: str, fold: int) -> None:
    train(replace(command, device=device), plan, fold)


def train_together(command: Command) -> int:
    """Trains every fold as one of several processes; the first one decides which, and writes."""
    from foldsmith.training.processes import AgreedFault, meeting

    try:
        with meeting(command.device) as (processes, device):
            plan = shared_plan(command, processes)
            for fold in plan.wanted:
                train(replace(command, device=device), plan, fold, processes)
            if processes.is_first:
                predict_again(replace(command, device=device), plan)
    except (InputError, AgreedFault) as error:
        if os.environ["RANK"] == "0":
            raise
        return 2 if isinstance(error, InputError) else 1  # the first one says it
    return 0


def shared_plan(command: Command, processes: "Processes") -> Plan:
    """The first process's plan, on every one; or its InputError, which then every one raises."""
    planned: Plan | InputError | None = None
    if processes.is_first:
        try:
            planned = make_plan(command)
        except InputError as error:
            planned = error
    planned = processes.share(planned)
    if isinstance(planned, InputError):
        raise planned
    return planned


def train(command: Command, plan: Plan, fold: int, processes: "Processes | None" = None) -> None:
    # importing torch takes seconds, which a stage that is up to date should not pay
    from foldsmith.data.cache import open_run_cache
    from foldsmith.training.fold import FoldTraining, select_samples
    from foldsmith.training.processes import ALONE
    from foldsmith.training.rounds import Rounds

    run, processes, inputs = command.run, processes or ALONE, {**plan.inputs, "fold": fold}
    folds, classes = load_folds(run.folds), load_classes(run.classes)
    cache = open_run_cache(command.run, command.folder, command.recipe.image_size)
    first = FoldTraining(
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
        processes=processes,
    )
    rounds = Rounds(first, plan.to_label)
    if processes.is_first:
        if command.again:
            rounds.forget()
        run.fold_run(fold).unlink(missing_ok=True)
    processes.share(None)  # none looks for a checkpoint before the first one is ready
    facts = rounds.train()
    if not processes.is_first:
        return
    write_stamp(
        run.fold_run(fold),
        inputs,
        rounds.outputs,
        recipe=command.identity["recipe"],
        fold=fold,
        seed=command.recipe.seed,
        folds=inputs["folds"],
        pretrained=inputs["pretrained"],
        made_from=digest_of(plan.inputs),  # the same for all folds
        command=command.line("train"),
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        versions=inputs["versions"],
        **facts,
    )
    stamp_predicted(run, fold, command.recipe.views)
    remove_checkpoints(run.checkpoint(fold))
    say(f"train: {run.weights(fold)} ({facts['seconds']:.0f} s)")


if __name__ == "__main__":
    run_main(main)
