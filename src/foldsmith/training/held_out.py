"""Held-out predictions of a trained fold, repeated for other views."""

from foldsmith.data.cache import open_run_cache
from foldsmith.evaluation.predictions import mean_of_networks, save_held_out
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import CachedImages, ViewAverage, predict
from foldsmith.inference.weights import load_trained, task_of
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
    networks, batch_limit = paths.all_weights(facts["seeds"]), BatchLimit(command.recipe.predict_batch_size)
    predicted, images = [], CachedImages(cache.pixels, held_out.rows)
    with progress(f"fold {fold}  held out", len(networks) * len(held_out.rows), "images") as advance:
        for number, weights in enumerate(networks):
            model, _, compute = load_trained(weights, facts, command.device, command.precision)
            predicted.append(predict(model, images, ViewAverage(task, views), compute, batch_limit, advance))
            if len(networks) > 1:
                own = paths.seed(number).heldout
                save_held_out(own, held_out, predicted[-1], task)
    save_held_out(paths.heldout, held_out, mean_of_networks(predicted), task)
    stamp_predicted(run, fold, views)
