"""Fit the head of a probed network on stored features: its form and penalty are chosen within the training part.

n images · V views · D features · S features that a head uses · K outputs.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn

from foldsmith.augment.rows import Augmentation, build_augmentation
from foldsmith.data.folds import assign_holdout, choose_limited
from foldsmith.evaluation.predictions import related_images
from foldsmith.inference.compute import Compute
from foldsmith.inference.frozen import frozen_features
from foldsmith.inference.images import CachedImages
from foldsmith.models.probe import ALL, LAST, STAGES, FeatureExtractor, HeadForm, ProbeHead
from foldsmith.recipes import Recipe
from foldsmith.run.tables import load_folds
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task
from foldsmith.training.samples import Fold, Samples

# sets of features and kinds of head that are tried. Chosen on Flowers-102 and CIFAR-10 (RESULTS.md)
CANDIDATES = ((STAGES, "linear"), (STAGES, "cosine"), (ALL, "linear"), (ALL, "cosine"), (LAST, "cosine"))
# L2 penalties, as a multiple of 1 / images trained on, from strong to weak; the first comparison is at FIRST
PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
FIRST = 3.0
INNER_SHARE = 0.25  # of the training images, held out to choose
MOST_INNER = 6_000  # training images that a choice is made on
ITERATIONS = 100  # of L-BFGS, at most
LEAST_SCALE = (
    1e-3  # of a feature's standard deviation, as a share of the mean one: constant features stay small
)


@dataclass(frozen=True)
class Choice:
    """A head's set of features, its kind, and its penalty as a multiple of 1 / images."""

    features: str
    kind: str
    penalty: float


@dataclass(frozen=True)
class FittedProbe:
    """A fitted head, and the facts of its choice for run.json."""

    head: ProbeHead
    facts: dict[str, Any]


def fit_probe(extractor: FeatureExtractor, fold: Fold, recipe: Recipe, compute: Compute) -> FittedProbe:
    """Return the head fitted on a fold's training images.

    Form and penalty have the lowest loss on a quarter of the training images, which shares no group with the
    rest; held-out images of the fold are not looked at. An image and its mirror image are trained on if the
    recipe's augmentation flips. The solver runs on one thread in a fixed order, so the bytes depend on the
    features alone.
    """
    begun = time.monotonic()
    training = fold.training
    # held-out images too: one pass computes all
    rows = np.concatenate([training.rows, fold.held_out.rows])
    views = ("identity", "hflip") if _flips(recipe) else ("identity",)
    stored = frozen_features(extractor, CachedImages.of(fold.cache, rows), views, compute)
    waited = time.monotonic() - begun
    data = ProbeData(
        np.stack([stored[view][: len(training.rows)] for view in views]), training.labels, fold.task, recipe
    )
    with one_thread():
        choice, tried = choose_head(extractor, data, inner_split(fold, training, recipe.seed))
        head = fit_head(extractor, data, choice)
        loss, accuracy = fold.task.loss_and_credit(predict_head(head, data), data.labels)
    return FittedProbe(
        head.to(compute.device),
        {
            "form": asdict(head.form),
            "features": choice.features,
            "penalty": choice.penalty,
            "views": list(views),
            "tried": tried,
            "training_loss": loss,
            "training_accuracy": accuracy,
            "feature_seconds": waited,
            "fit_seconds": time.monotonic() - begun - waited,
        },
    )


@dataclass(frozen=True)
class ProbeData:
    """Features float16 (V, n, D) and labels (n, …), with the task and the recipe's loss."""

    features: np.ndarray
    labels: np.ndarray
    task: Task
    recipe: Recipe

    def __getitem__(self, rows: np.ndarray) -> "ProbeData":
        return ProbeData(self.features[:, rows], self.labels[rows], self.task, self.recipe)

    def __len__(self) -> int:
        return len(self.labels)

    def loss(self) -> nn.Module:
        recipe = self.recipe
        return self.task.build_loss(
            self.labels, recipe.class_weights, recipe.label_smoothing, recipe.logit_adjustment
        )


def inner_split(fold: Fold, training: Samples, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training samples that a choice is fitted on, and those it is judged on; indices.

    Related images stay together. Of many images a stratified part is used; pseudo-labelled ones are not.
    """
    table = load_folds(fold.run.folds)
    table = table[table["fold"] != fold.number].reset_index(drop=True)
    targets = training.labels[: len(table)]
    used = choose_limited(fold.task.strata(targets), MOST_INNER, derive_seed(seed, "probe", fold.number))
    groups = related_images(fold.run, table.iloc[used].reset_index(drop=True))
    parts = assign_holdout(
        fold.task.strata(targets[used]), groups, INNER_SHARE, derive_seed(seed, "probe split")
    )
    if (parts == 0).all() or not (parts == 0).any():  # one group: nothing can be held out
        parts = np.arange(len(used)) % round(1 / INNER_SHARE)
    return used[parts != 0], used[parts == 0]


def choose_head(
    extractor: FeatureExtractor, data: ProbeData, split: tuple[np.ndarray, np.ndarray]
) -> tuple[Choice, list[dict[str, Any]]]:
    """Return the choice with the lowest inner loss, and all that were tried, with their losses."""
    fitted, judged = data[split[0]], data[split[1]]
    tried: list[tuple[float, Choice]] = []

    def attempt(choice: Choice, start: ProbeHead | None = None) -> ProbeHead:
        head = fit_head(extractor, fitted, choice, start)
        predictions = predict_head(head, judged)
        tried.append((float(judged.task.losses_of(judged.labels, predictions).mean()), choice))
        return head

    for features, kind in CANDIDATES:
        attempt(Choice(features, kind, FIRST))
    best = min(tried, key=lambda entry: entry[0])[1]
    for stronger in (True, False):  # away from FIRST in both directions, while the loss falls
        head, lowest = None, min(loss for loss, _ in tried)
        for penalty in sorted(
            (p for p in PENALTIES if (p > FIRST) == stronger and p != FIRST), reverse=not stronger
        ):
            head = attempt(Choice(best.features, best.kind, penalty), head)
            if tried[-1][0] >= lowest:
                break
            lowest = tried[-1][0]
    loss, choice = min(tried, key=lambda entry: entry[0])
    return choice, [{**asdict(entry), "loss": loss} for loss, entry in tried]


def fit_head(
    extractor: FeatureExtractor, data: ProbeData, choice: Choice, start: ProbeHead | None = None
) -> ProbeHead:
    """Return the head with the lowest sum of mean loss and L2 penalty, by L-BFGS from zero or from `start`."""
    columns = extractor.columns_of(choice.features)
    head = ProbeHead(HeadForm(choice.kind, len(columns)), data.task.num_outputs)
    values = torch.from_numpy(data.features.reshape(-1, data.features.shape[2])[:, columns]).float()
    head.columns.copy_(torch.tensor(columns))
    head.mean.copy_(values.mean(dim=0))
    deviation = values.std(dim=0, correction=0)
    head.scale.copy_(deviation.clamp(min=LEAST_SCALE * float(deviation.mean()) + 1e-8))
    everything = torch.from_numpy(data.features.reshape(-1, data.features.shape[2]))
    standard = head.standardise(everything.float())
    labels = torch.from_numpy(np.concatenate([data.labels] * len(data.features)))
    layer = head.classifier
    with torch.no_grad():
        for tensor, held in zip((layer.weight, layer.bias), _weights(start), strict=True):
            tensor.zero_() if held is None else tensor.copy_(held)
    _minimise(layer, standard, labels, data.loss(), choice.penalty / len(data))
    return head


def _weights(head: ProbeHead | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    return (None, None) if head is None else (head.classifier.weight, head.classifier.bias)


def _minimise(
    layer: nn.Linear, inputs: torch.Tensor, labels: torch.Tensor, loss_function: nn.Module, penalty: float
) -> None:
    """Set weight and bias of a linear layer to the minimum of mean loss + penalty / 2 * |weight|²."""
    split = layer.weight.numel()

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        _assign(layer, point, split)
        layer.zero_grad()
        loss = loss_function(layer(inputs), labels) + penalty / 2 * layer.weight.square().sum()
        loss.backward()
        gradient = torch.cat([layer.weight.grad.flatten(), layer.bias.grad])
        return loss.item(), gradient.double().numpy()

    start = torch.cat([layer.weight.detach().flatten(), layer.bias.detach()]).double().numpy()
    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "gtol": 1e-5, "ftol": 1e-9},
    )
    _assign(layer, found.x, split)
    layer.zero_grad()


@torch.no_grad()
def _assign(layer: nn.Linear, point: np.ndarray, split: int) -> None:
    values = torch.from_numpy(point).float()
    layer.weight.copy_(values[:split].view_as(layer.weight))
    layer.bias.copy_(values[split:])


@torch.inference_mode()
def predict_head(head: ProbeHead, data: ProbeData) -> np.ndarray:
    """Return the predictions of a head, float32 (n, K), means over the views."""
    views = [data.task.activate(head(torch.from_numpy(view).float())) for view in data.features]
    return data.task.finish(torch.stack(views).mean(dim=0).numpy())


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread within the block, so that sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _flips(recipe: Recipe) -> bool:
    augmentation = build_augmentation(recipe.augment, recipe.image_size, 0.0, recipe.augment_strength)
    return isinstance(augmentation, Augmentation) and augmentation.hflip
