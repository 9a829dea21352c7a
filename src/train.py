"""Train every fold: its networks, and the held-out predictions of each fold.

Several GPUs train folds at once; started by torchrun, they train each fold together.

.venv/bin/python src/train.py input/tiny80 --recipe resnet64 --fold 2
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldsmith.errors import InputError
from foldsmith.process.devices import spread, started_by_torchrun
from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of, remove_checkpoints
from foldsmith.process.terminal import progress, say
from foldsmith.run.command import Command, read_command
from foldsmith.run.stamps import stamp_predicted, write_stamp
from foldsmith.run.tables import load_folds
from foldsmith.run.tracking import Tracker
from foldsmith.training.plan import Plan, count_images, describe_duration, make_plan, share_plan

if TYPE_CHECKING:
    from foldsmith.training.processes import Processes
    from foldsmith.training.rounds import Rounds

LONG = 2e8  # pixels of all training images of all epochs; fewer are trained on within minutes on any machine


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    if started_by_torchrun():
        return train_together(command)
    plan = make_plan(command)
    status = train_folds(command, plan)
    if status == 0:
        predict_again(command, plan)
    return status


def train_folds(command: Command, plan: Plan) -> int:
    """Train the folds of the plan on one device or spread over several; return the exit status."""
    if not plan.folds:
        return 0
    # importing torch takes seconds, which a stage that is up to date should not pay
    from foldsmith.inference.compute import choose_devices
    from foldsmith.inference.threads import settle_threads

    chosen = choose_devices(command.device)
    devices, threads = [str(device) for device in chosen], settle_threads(command.run, chosen, command.again)
    rehearse(replace(command, device=devices[0]), plan, len(devices))
    if len(devices) > 1:  # also for a single fold, whose result must not depend on how many are left
        say(f"train: folds {', '.join(map(str, plan.folds))} on {', '.join(devices)}")
        return spread(partial(train_on, command, plan), plan.folds, devices, threads)
    # each epoch advances the overall bar
    with progress(f"{len(plan.folds)} folds", count_images(command, plan), "images"):
        for fold in plan.folds:
            train(command, plan, fold)
    return 0


def rehearse(command: Command, plan: Plan, num_devices: int) -> None:
    """Try one step of a long training before it starts, and print how long all of it takes."""
    from foldsmith.inference.compute import bf16_slowdown, choose_device, has_bf16

    device = choose_device(command.device)
    if command.precision == "bf16" and not has_bf16(device):
        slower = f", {bf16_slowdown():.0f} times as slow as fp32" if device.type == "cpu" else ""
        say(f"train: --precision bf16 is emulated on this {device.type}{slower}; leave --precision out")
    if count_images(command, plan) * command.recipe.image_size**2 < LONG:
        return
    speeds = rounds_of(command, plan, plan.folds[0]).rehearse()
    say(f"train: {describe_duration(command, plan, speeds, num_devices)}")


def predict_again(command: Command, plan: Plan) -> None:
    """Predict the held-out images of trained folds whose predictions are of other views, or missing."""
    if plan.to_predict:
        # importing torch takes seconds, which a stage that is up to date should not pay
        from foldsmith.training import held_out

        for fold in plan.to_predict:
            held_out.predict_again(command, fold)


def train_on(command: Command, plan: Plan, device: str, fold: int) -> None:
    train(replace(command, device=device), plan, fold)


def train_together(command: Command) -> int:
    """Train every fold as one of several processes; the first one decides which, and writes."""
    from foldsmith.training.processes import meeting

    try:
        with meeting(command.device) as (processes, device):
            plan = share_plan(command, processes)
            for fold in plan.folds:
                train(replace(command, device=device), plan, fold, processes)
            if processes.is_first:
                predict_again(replace(command, device=device), plan)
    except InputError:  # every process raises it, and the first one prints it
        if os.environ["RANK"] == "0":
            raise
        return 2
    return 0


def rounds_of(
    command: Command,
    plan: Plan,
    fold: int,
    processes: "Processes | None" = None,
    after_epoch: Callable[[Path], None] = lambda log: None,
) -> "Rounds":
    """Return all networks of a fold, ready to train."""
    from foldsmith.data.cache import open_run_cache
    from foldsmith.training.machine import Machine
    from foldsmith.training.processes import ALONE
    from foldsmith.training.rounds import Rounds
    from foldsmith.training.samples import select_fold

    cache = open_run_cache(command.run, command.folder, command.recipe.image_size)
    return Rounds(
        fold=select_fold(command.run, fold, load_folds(command.run.folds), cache, command.recipe.loss),
        recipe=command.recipe,
        provenance_digest=digest_of(plan.inputs_of(fold)),
        machine=Machine(command.device, command.precision, command.workers, processes or ALONE, after_epoch),
        test_paths=plan.to_label,
    )


def initial_weights(command: Command, digest: object) -> dict[str, Any]:
    """Return the facts of the initial weights; none for random ones.

    Raise InputError if they are others than those of src/prepare.py, whose `digest` the fold is stamped with.
    """
    from foldsmith.models.weight_sources import describe_weights

    weights = describe_weights(command.recipe)
    if digest and weights["digest"] != digest:
        raise InputError(
            f"{weights['file']} has the digest {weights['digest'][:12]}, and the weights of src/prepare.py "
            f"had {str(digest)[:12]}; use those again, or train from the new ones: --again, from "
            "src/prepare.py on."
        )
    return weights


def train(command: Command, plan: Plan, fold: int, processes: "Processes | None" = None) -> None:
    """Train all networks of a fold, and stamp it in its run.json."""
    from foldsmith.training.processes import ALONE

    run, processes, inputs = command.run, processes or ALONE, plan.inputs_of(fold)
    weights = initial_weights(command, inputs["weights"])
    with Tracker.of(command) as tracker:
        rounds = rounds_of(command, plan, fold, processes, tracker.mirror_log)
        images, least = len(rounds.fold.training.labels), 2 * processes.count
        if images < least and command.recipe.epochs:  # batch norm needs two in each batch and process
            raise InputError(
                f"fold {fold} has {images} training images, and {processes.count} processes need at least "
                f"{least}; use fewer processes or more images."
            )
        if processes.is_first:
            if command.again:
                rounds.forget()
            run.fold_run(fold).unlink(missing_ok=True)
        processes.share(None)  # no process looks for a checkpoint before the first one is ready
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
        weights=weights,
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
