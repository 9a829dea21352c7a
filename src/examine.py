"""Predict views of held-out images, and features beside test images, for the report: views.npz, features.npz.

.venv/bin/python src/examine.py input/tiny80 --recipe resnet64
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

from typing import TYPE_CHECKING, Any

import numpy as np

from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of_file, save_npz
from foldsmith.process.terminal import progress, say
from foldsmith.run.command import Command, read_command
from foldsmith.run.stamps import check_claim, digests_of_trained, is_current, require_trained, write_stamp
from foldsmith.run.tables import load_folds, load_samples
from foldsmith.seeding import derive_seed

if TYPE_CHECKING:
    from foldsmith.data.cache import PixelCache
    from foldsmith.inference.memory import BatchLimit

MOST_FEATURES = 3000  # held-out images, and test images; enough to know an AUC to .01


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run = command.run
    check_claim(run, **command.identity)
    trained = require_trained(run, command.folds_to_use)
    inputs = {
        "test": digest_of_file(run.test_samples),
        "trained": digests_of_trained(run, command.folds_to_use),
    }
    if not command.again and is_current(run.stamp("examine"), inputs):
        say(f"examine: {run.views} is up to date")
        return 0
    examine(command, trained)
    write_stamp(run.stamp("examine"), inputs, [run.views, run.features], trained=inputs["trained"])
    say(f"examine: {run.views}, {run.features}")
    return 0


def examine(command: Command, trained: list[dict[str, Any]]) -> None:
    """Write views.npz and features.npz; `trained` are run.json of the folds."""
    # importing torch takes seconds, which a stage that is up to date should not pay
    from foldsmith.data.cache import open_run_cache
    from foldsmith.inference.memory import BatchLimit

    cache = open_run_cache(command.run, command.folder, command.recipe.image_size)
    # one for all, so that a size that fails is not retried
    batch_limit = BatchLimit(command.recipe.predict_batch_size)
    write_views(command, trained, cache, batch_limit)
    write_features(command, trained[0], cache, batch_limit)


def write_views(
    command: Command, trained: list[dict[str, Any]], cache: "PixelCache", batch_limit: "BatchLimit"
) -> None:
    """Write every view's predictions of the held-out images, means over a fold's networks."""
    from foldsmith.inference.weights import task_of

    folds, views = load_folds(command.run.folds), command.recipe.views
    paths, figures = [], []
    for facts in trained:
        held_out = folds[folds["fold"] == facts["fold"]]
        names, task = held_out["path"].to_numpy(dtype=np.str_), task_of(facts)
        by_view = predict_by_view(command, facts, cache, cache.rows(list(names)), batch_limit)
        paths.append(names)
        targets = task.targets(held_out)
        figures.append([task.view_figures(targets, predictions) for predictions in by_view])
    save_npz(
        command.run.views,
        view=np.array(views, dtype=np.str_),
        path=np.concatenate(paths),
        **{
            name: np.concatenate([np.stack([view[name] for view in fold]) for fold in figures], axis=1)
            for name in figures[0][0]
        },
    )


def predict_by_view(
    command: Command, facts: dict[str, Any], cache: "PixelCache", rows: np.ndarray, batch_limit: "BatchLimit"
) -> np.ndarray:
    """Return the predictions of these rows (n,) in each view, means over the fold's networks, (V, n, K)."""
    from foldsmith.inference.images import CachedImages
    from foldsmith.inference.networks import FoldNetworks
    from foldsmith.inference.predict import ViewAverage, predict

    views, images = command.recipe.views, CachedImages.of(cache, rows)
    networks = FoldNetworks.of_run(command.run, facts, command.device, command.precision)
    averages = [ViewAverage(networks.task, (view,)) for view in views]
    total = len(networks) * len(views) * len(rows)
    with progress(f"examine: fold {facts['fold']}", total, "images") as advance:
        by_network = [
            [predict(model, images, average, compute, batch_limit, advance) for average in averages]
            for model, compute in networks.load()
        ]
    return np.mean(by_network, axis=0)


def write_features(
    command: Command, facts: dict[str, Any], cache: "PixelCache", batch_limit: "BatchLimit"
) -> None:
    """Write the features of held-out and test images by the first network of a fold.

    What a network was trained on looks different to it: held-out images stand beside the test's.
    """
    from foldsmith.inference.features import capture_features
    from foldsmith.inference.images import CachedImages
    from foldsmith.inference.predict import ViewAverage, predict
    from foldsmith.inference.weights import load_trained, task_of

    run, folds = command.run, load_folds(command.run.folds)
    held_out = folds.loc[folds["fold"] == facts["fold"], "path"].to_numpy(dtype=np.str_)
    test = np.array(command.limited_test(list(load_samples(run.test_samples)["path"])), dtype=np.str_)
    readable = cache.index["problem"].to_numpy()[cache.rows(list(test))] == ""
    chosen = [choose(paths, command.plan.seed) for paths in (held_out, test[readable])]
    rows = cache.rows([path for paths in chosen for path in paths.tolist()])
    weights = run.of_fold(facts["fold"]).weights
    model, _, compute = load_trained(weights, facts, command.device, command.precision)
    with (
        capture_features(model, facts["num_classes"]) as features,
        progress("examine: features", len(rows), "images") as advance,
    ):
        average = ViewAverage(task_of(facts))
        predict(model, CachedImages.of(cache, rows), average, compute, batch_limit, advance)
    save_npz(
        run.features,
        path=np.concatenate(chosen),
        is_test=np.repeat([False, True], [len(paths) for paths in chosen]),
        features=np.concatenate(features),
    )


def choose(paths: np.ndarray, seed: int) -> np.ndarray:
    """Return at most MOST_FEATURES of the paths, in their order; the same for all runs of the competition."""
    order = np.random.default_rng(derive_seed(seed, "features")).permutation(len(paths))
    return paths[np.sort(order[:MOST_FEATURES])]


if __name__ == "__main__":
    run_main(main)
