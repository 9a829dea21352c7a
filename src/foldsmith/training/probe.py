"""Choose and fit the head of a probed network on stored features, within a fold's training images."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from foldsmith.augment.rows import Augmentation, build_augmentation
from foldsmith.data.folds import assign_holdout, choose_limited
from foldsmith.evaluation.predictions import related_images
from foldsmith.inference.compute import Compute
from foldsmith.inference.frozen import digests_of, frozen_features
from foldsmith.inference.images import CachedImages
from foldsmith.models.probe import ALL, LAST, STAGES, Extractor, ProbeHead
from foldsmith.recipes import Recipe
from foldsmith.run.tables import load_folds
from foldsmith.seeding import derive_seed
from foldsmith.training.head_fitting import Choice, ProbeData, fit_head, one_thread, predict_head
from foldsmith.training.samples import Fold

# sets of features and kinds of head that are compared first, at the penalty FIRST. On Flowers-102 the cosine
# classifier on the stages won by 1.3 points over the linear one, on 10,000 images of CIFAR-10 the MLP by 2
CANDIDATES = ((STAGES, "linear"), (STAGES, "cosine"), (ALL, "linear"), (ALL, "cosine"), (LAST, "cosine"))
FIRST = 3.0
# L2 penalties that are tried then, as a multiple of 1 / images trained on
PENALTIES = (100.0, 30.0, 10.0, FIRST, 1.0, 0.3, 0.1)
LEAST_MLP = 2_000  # images that the comparison fits; fewer overfit half a million weights
INNER_SHARE = 0.25  # of the training images, held out to choose
LEAST_JUDGED = 20  # images; by fewer a choice is luck, and UNTRIED is taken
UNTRIED = (0.0, Choice(STAGES, "cosine", 1.0))
MOST_INNER = 8_000  # training images that a choice is made on


@dataclass(frozen=True)
class FittedProbe:
    """A fitted head, and the facts of its choice for run.json."""

    head: ProbeHead
    facts: dict[str, Any]


def fit_probe(extractor: Extractor, fold: Fold, recipe: Recipe, compute: Compute) -> FittedProbe:
    """Return the head fitted on a fold's training images.

    Form and penalty have the lowest loss on a quarter of the training images, which shares no group with the
    rest; the fold's held-out images are not looked at. An image and its mirror image are trained on if the
    recipe's augmentation flips. The solvers run on one thread in a fixed order, so that the head's bytes
    depend on the features alone.
    """
    begun = time.monotonic()
    training, num_images = fold.training, len(fold.training.rows)
    views = ("identity", "hflip") if _flips(recipe) else ("identity",)
    # with the held-out images, so that one pass computes all
    rows = np.concatenate([training.rows, fold.held_out.rows])
    stored = frozen_features(extractor, CachedImages.of(fold.cache, rows), views, compute)
    computed = time.monotonic()
    features = np.stack([stored[view][:num_images] for view in views])
    data = ProbeData(features, training.labels, fold.task, recipe)
    with one_thread():
        fitted, judged = inner_split(fold, recipe.seed)
        judged = of_known_classes(data, fitted, judged)
        enough = len(judged) >= LEAST_JUDGED
        tried = list(try_heads(extractor, data[fitted], data[judged])) if enough else [UNTRIED]
        loss, choice = min(tried, key=lambda entry: entry[0])
        head = fit_head(extractor, data, choice)
        training_loss, accuracy = fold.task.loss_and_credit(predict_head(head, data), data.labels)
    facts = {
        "form": asdict(head.form),
        **asdict(choice),
        "inner_loss": loss,
        "tried": [{**asdict(entry), "inner_loss": loss} for loss, entry in tried],
        "views": list(views),
        "extractors": digests_of(extractor),
        "training_loss": training_loss,
        "training_accuracy": accuracy,
        "feature_seconds": computed - begun,
        "fit_seconds": time.monotonic() - computed,
    }
    return FittedProbe(head.to(compute.device), facts)


def inner_split(fold: Fold, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training samples that a choice is fitted on, and those it is judged on; indices.

    Related images stay together. Of many images a stratified part is used, of pseudo-labelled ones none.
    """
    table = load_folds(fold.run.folds)
    table = table[table["fold"] != fold.number].reset_index(drop=True)
    strata = fold.task.strata(fold.training.labels[: len(table)])
    used = choose_limited(strata, MOST_INNER, derive_seed(seed, "probe", fold.number))
    groups = related_images(fold.run, table.iloc[used].reset_index(drop=True))
    parts = assign_holdout(strata[used], groups, INNER_SHARE, derive_seed(seed, "probe split"))
    if len(set(parts)) < 2:  # all images are related, so that none can be held out apart from the others
        parts = np.arange(len(used)) % 4
    return used[parts != 0], used[parts == 0]


def of_known_classes(data: ProbeData, fitted: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Return those of the judged samples whose class is among the fitted ones; sets and numbers all are."""
    if not data.task.single_label:
        return judged
    return judged[np.isin(data.labels[judged], data.labels[fitted])]


def try_heads(extractor: Extractor, fitted: ProbeData, judged: ProbeData) -> Iterator[tuple[float, Choice]]:
    """Yield the inner loss of each head tried: the candidates, then penalties of the best linear one."""

    def attempt(choice: Choice, start: ProbeHead | None = None) -> tuple[float, ProbeHead]:
        head = fit_head(extractor, fitted, choice, start)
        return float(judged.task.losses_of(judged.labels, predict_head(head, judged)).mean()), head

    tried = []
    for features, kind in CANDIDATES:
        choice = Choice(features, kind, FIRST)
        tried.append((attempt(choice)[0], choice))
    yield from tried
    first_loss, best = min(tried, key=lambda entry: entry[0])
    if len(fitted) >= LEAST_MLP:
        choice = Choice(best.features, "mlp", 0.0)
        yield attempt(choice)[0], choice
    weaker = [penalty for penalty in PENALTIES if penalty < FIRST]
    stronger = [penalty for penalty in reversed(PENALTIES) if penalty > FIRST]
    for direction in (weaker, stronger):  # each away from FIRST, while the loss falls
        lowest, head = first_loss, None
        for penalty in direction:
            choice = Choice(best.features, best.kind, penalty)
            loss, head = attempt(choice, head)
            yield loss, choice
            if loss >= lowest:
                break
            lowest = loss


def _flips(recipe: Recipe) -> bool:
    augmentation = build_augmentation(recipe.augment, recipe.image_size, 0.0, recipe.augment_strength)
    return isinstance(augmentation, Augmentation) and augmentation.hflip
