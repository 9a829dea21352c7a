"""Pretrain an autoencoder on images without labels, for recipes that start from one.

.venv/bin/python src/pretrain.py input/flowers102 --recipe autoencoder-lenet-upsampled
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of, digest_of_file, remove_checkpoints
from foldsmith.process.machine import versions
from foldsmith.process.terminal import say
from foldsmith.run.command import Command, read_command
from foldsmith.run.identity import training_identity
from foldsmith.run.stamps import check_claim, is_current, refuse_other_machine, require, write_stamp
from foldsmith.run.tables import load_classes, load_folds, load_samples


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run = command.run
    if command.is_resolved and command.recipe.pretrain == "none":
        return 0
    check_claim(run, **command.identity)
    require(run.folds, "split")
    inputs = {
        "identity": training_identity(run),
        "folds": digest_of_file(run.folds),
        "test": digest_of_file(run.test_samples),
        "versions": versions(),
    }
    if not command.again and is_current(run.pretrain_run, inputs):
        refuse_other_machine(run.pretrain_run, "the pretraining", command.precision, command.device)
        remove_checkpoints(run.pretrain_checkpoint)  # a process killed at the very end had no time to
        say(f"pretrain: {run.pretrained('encoder')} is up to date")
        return 0
    pretrain(command, inputs)
    return 0


def pretrain(command: Command, inputs: dict[str, object]) -> None:
    # importing torch takes seconds, which a stage that is up to date should not pay
    from foldsmith.data.cache import open_run_cache
    from foldsmith.inference.compute import choose_device
    from foldsmith.inference.threads import settle_threads
    from foldsmith.training.pretraining import Pretraining, pretrained_paths
    from foldsmith.training.reconstruction import choose_pictured

    run, recipe = command.run, command.recipe
    cache = open_run_cache(command.run, command.folder, command.recipe.image_size)
    # every fold's images: without labels nothing is learned about a held-out image's class
    training, test = list(load_folds(run.folds)["path"]), list(load_samples(run.test_samples)["path"])
    readable = set(cache.index.loc[cache.index["problem"] == "", "path"])
    test = [path for path in test if path in readable]
    if command.again:
        remove_checkpoints(run.pretrain_checkpoint)
    run.pretrain_run.unlink(missing_ok=True)
    settle_threads(run, [choose_device(command.device)], command.again)
    facts = Pretraining(
        run=run,
        recipe=recipe,
        num_classes=len(load_classes(run.classes)),
        cache=cache,
        rows=cache.rows([*training, *(test if recipe.pretrain_test else [])]),
        pictured=cache.rows(choose_pictured(test or training)),
        provenance_digest=digest_of(inputs),
        device=command.device,
        precision=command.precision,
        workers=command.workers,
    ).train()
    outputs = [*pretrained_paths(run), run.pretrain_log, run.reconstructions]
    write_stamp(
        run.pretrain_run, inputs, outputs, recipe=command.identity["recipe"],
        command=command.line("pretrain"), versions=inputs["versions"], **facts,
    )  # fmt: skip
    remove_checkpoints(run.pretrain_checkpoint)
    say(f"pretrain: {run.pretrained('encoder')} ({facts['epochs']} epochs, {facts['seconds']:.0f} s); "
        f"held-out loss {facts['held_out_loss']:.5f}; see {run.reconstructions}")  # fmt: skip


if __name__ == "__main__":
    run_main(main)
