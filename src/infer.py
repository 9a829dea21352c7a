"""Predict the test images with every fold's networks and every view: test.npz.

.venv/bin/python src/infer.py input/tiny80 --recipe resnet64
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from typing import Any

import numpy as np

from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of_file, save_npz
from foldsmith.process.terminal import progress, say
from foldsmith.run.command import Command, read_command
from foldsmith.run.stamps import check_claim, digests_of_trained, is_current, require_trained, write_stamp
from foldsmith.run.tables import load_folds, load_samples, load_task


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run = command.run
    check_claim(run, **command.identity)
    trained = require_trained(run, command.folds_to_use)
    inputs = {
        "test": digest_of_file(run.test_samples),
        "trained": digests_of_trained(run, command.folds_to_use),
    }
    paths = list(load_samples(run.test_samples)["path"])
    limited = command.limited_test(paths)
    fewer = {**inputs, "limit_test": len(limited)} if len(limited) < len(paths) else inputs
    # a prediction of all test images also serves a first look at some of them
    if not command.again and any(is_current(run.stamp("infer"), found) for found in (inputs, fewer)):
        say(f"infer: {run.test} is up to date")
        return 0
    infer(command, trained, limited)
    write_stamp(run.stamp("infer"), fewer, [run.test], trained=inputs["trained"])
    say(f"infer: {run.test}")
    return 0


def infer(command: Command, trained: list[dict[str, Any]], paths: list[str]) -> None:
    """Write test.npz of these images; `trained` holds run.json of each fold that predicts."""
    # imported here: torch takes seconds, which a stage that is up to date should not pay
    from foldsmith.data.cache import open_run_cache
    from foldsmith.evaluation.predictions import average_predictions
    from foldsmith.inference.images import CachedImages
    from foldsmith.inference.memory import BatchLimit
    from foldsmith.inference.networks import FoldNetworks

    run, views = command.run, command.recipe.views  # the run's, which may be others than a fold's
    cache = open_run_cache(command.run, command.folder, command.recipe.image_size)
    rows = cache.rows(paths)
    images = CachedImages.of(cache, rows)
    predictions, batch_limit = [], BatchLimit(command.recipe.predict_batch_size)
    for provenance in trained:
        fold = provenance["fold"]
        networks = FoldNetworks.of_run(run, provenance, command.device, command.precision)
        with progress(f"infer: fold {fold}", len(networks) * len(rows), "images") as advance:
            predictions += networks.predict(images, views, batch_limit, advance)
        several = f"{len(networks)} networks, " if len(networks) > 1 else ""
        say(f"infer: fold {fold}, {several}{len(rows):,} images, views {', '.join(views)}")
    task = load_task(run)
    averaged = average_predictions(predictions, task)
    unreadable = cache.index["problem"].to_numpy()[rows] != ""
    # an unreadable image has blank pixels, so its prediction is replaced by the class prior
    averaged[unreadable] = task.prior(task.targets(load_folds(run.folds)))
    if unreadable.any():
        say(f"infer: {unreadable.sum()} unreadable test images get the class prior")
    save_npz(run.test, path=np.array(paths, dtype=np.str_), **{task.predictions_key: averaged})


if __name__ == "__main__":
    run_main(main)
