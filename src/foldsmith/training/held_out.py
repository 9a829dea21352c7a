"""Held-out predictions of a trained fold, repeated for other views."""

from foldsmith.data.cache import open_run_cache
from foldsmith.evaluation.predictions import mean_of_networks, save_held_out
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.networks import FoldNetworks
from foldsmith.inference.weights import task_of
from foldsmith.process.files import load_json
from foldsmith.process.terminal import progress, say
from foldsmith.run.command import Command
from foldsmith.run.stamps import stamp_predicted
from foldsmith.run.tables import load_folds
from foldsmith.training.samples import select_samples


def predict_again(command: Command, fold: int) -> None:
    """Predict a trained fold's held-out images with the recipe's views, exactly as its training does.

    Write heldout.npz, the mean over the fold's networks, and the files of the networks if there are several.
    """
    run, views, paths = command.run, command.recipe.views, command.run.of_fold(fold)
    facts, folds = load_json(paths.run), load_folds(run.folds)
    task = task_of(facts)
    cache = open_run_cache(run, command.folder, command.recipe.image_size)
    held_out = select_samples(folds, folds["fold"] == fold, cache, task)
    say(f"train: fold {fold} predicts its held-out images again, views {', '.join(views)}")
    networks = FoldNetworks.of_run(run, facts, command.device, command.precision)
    images, batch_limit = (
        CachedImages.of(cache, held_out.rows),
        BatchLimit(command.recipe.predict_batch_size),
    )
    with progress(f"fold {fold}  held out", len(networks) * len(held_out.rows), "images") as advance:
        predicted = networks.predict(images, views, batch_limit, advance)
    if len(networks) > 1:
        for number, predictions in enumerate(predicted):
            save_held_out(paths.seed(number).heldout, held_out, predictions, task)
    save_held_out(paths.heldout, held_out, mean_of_networks(predicted), task)
    stamp_predicted(run, fold, views)
