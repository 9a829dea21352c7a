"""Looks at what the networks make of views and of test images, for the report: views.npz, features.npz.

.venv/bin/python src/examine.py input/tiny80 --recipe resnet64
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
from foldsmith.run.tables import load_folds, load_samples
from foldsmith.seeding import derive_seed

MOST_FEATURES = 3000  # images of a part; enough to know an AUC to .01


def main(argv: list[str] | None = None) -> int:
    command = read_command(argv, __doc__)
    run = command.run
    check_claim(run, **command.identity)
    made = require_trained(run, command.folds_to_use)
    inputs = {
        "test": digest_of_file(run.test_samples),
        "trained": digests_of_trained(run, command.folds_to_use),
    }
    if not command.again and is_current(run.stamp("examine"), inputs):
        say(f"examine: {run.views} is up to date")
        return 0
    examine(command, made)
    write_stamp(run.stamp("examine"), inputs, [run.views, run.features], trained=inputs["trained"])
    say(f"examine: {run.views}, {run.features}")
    return 0


def examine(command: Command, made: list[dict[str, Any]]) -> None:
    """Writes the held-out predictions of every view, means over a fold's networks, and features of images the
    first network of all never saw."""
    # importing torch takes seconds, which a stage that is up to date should not pay
    from foldsmith.data.cache import open_run_cache
    from foldsmith.inference.features import capture_features
    from foldsmith.inference.memory import BatchLimit
    from foldsmith.inference.predict import predict
    from foldsmith.inference.weights import load_trained, task_of

    run, views = command.run, command.recipe.views  # the run's, which may be others than a fold's
    folds, test_paths = load_folds(run.folds), load_samples(run.test_samples)["path"].to_numpy(dtype=np.str_)
    cache = open_run_cache(command.run, command.folder, command.recipe.image_size)
    readable = cache.index["problem"].to_numpy()[cache.rows(list(test_paths))] == ""
    seen = []  # of every fold: path (n,), prediction (V, n), given (V, n)
    batch_limit = None  # what there is room for, found out once
    for place, facts in enumerate(made):
        fold, all_weights = facts["fold"], run.of_fold(facts["fold"]).all_weights(facts["seeds"])
        loaded = [load_trained(each, facts, command.device, command.precision) for each in all_weights]
        model, recipe, compute = loaded[0]
        held_out = folds[folds["fold"] == fold]
        paths, labels = held_out["path"].to_numpy(dtype=np.str_), task_of(facts).targets(held_out)
        total = len(loaded) * len(views) * len(paths)
        with progress(f"examine: fold {fold}", total, "images") as advance:
            rows, size, task = cache.rows(list(paths)), recipe.predict_batch_size, task_of(facts)
            batch_limit = batch_limit or BatchLimit(size)
            by_network = [
                [
                    predict(each, cache.pixels, rows, (view,), size, compute, advance, batch_limit, task=task)
                    for view in views
                ]
                for each, *_ in loaded
            ]
        by_view = np.mean(by_network, axis=0)  # (V, n, K)
        figures = [task.view_figures(labels, predictions) for predictions in by_view]
        seen.append(
            (paths, *(np.stack([view[name] for view in figures]) for name in ("prediction", "given")))
        )
        if place == 0:
            # what a network was trained on looks different to it: held-out images stand beside the test's
            chosen = [choose(each, command.plan.seed) for each in (paths, test_paths[readable])]
            with (
                capture_features(model, facts["num_classes"]) as features,
                progress("examine: features", sum(map(len, chosen)), "images") as advance,
            ):
                rows = cache.rows([path for part in chosen for path in part.tolist()])
                predict(
                    model, cache.pixels, rows, ("identity",), size, compute, advance, batch_limit,
                    task=task,
                )  # fmt: skip
            is_test = np.repeat([False, True], [len(part) for part in chosen])
            save_npz(
                run.features,
                path=np.concatenate(chosen),
                is_test=is_test,
                features=np.concatenate(features),
            )
    save_npz(
        run.views,
        view=np.array(views, dtype=np.str_),
        path=np.concatenate([each[0] for each in seen]),
        prediction=np.concatenate([each[1] for each in seen], axis=1),
        given=np.concatenate([each[2] for each in seen], axis=1),
    )


def choose(paths: np.ndarray, seed: int) -> np.ndarray:
    """At most MOST_FEATURES of the paths, in their order; the same ones for every run of the competition."""
    order = np.random.default_rng(derive_seed(seed, "features")).permutation(len(paths))
    return paths[np.sort(order[:MOST_FEATURES])]


if __name__ == "__main__":
    run_main(main)
