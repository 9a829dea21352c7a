"""Fit one head on stored features: a linear layer by L-BFGS, a small MLP by AdamW.

n images · V views · D features · S features that the head uses · K outputs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn.functional import dropout, gelu

from foldsmith.models.probe import Extractor, HeadForm, ProbeHead
from foldsmith.recipes import Recipe
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task

ITERATIONS = 100  # of L-BFGS, at most
LEAST_SCALE = 1e-3  # smallest standard deviation to divide by, as a share of the features' mean one
# of the MLP, chosen on 10,000 images of CIFAR-10: 82.5 % and a log loss of .512, after 80.4 % and .537 of a
# linear layer. Without dropout its log loss was .60
HIDDEN, DROPOUT, EPOCHS, BATCH, RATE, DECAY = 512, 0.5, 20, 256, 2e-3, 0.05


@dataclass(frozen=True)
class Choice:
    """A head's set of features, its kind, and its L2 penalty as a multiple of 1 / images; an mlp has none."""

    features: str
    kind: str
    penalty: float


@dataclass(frozen=True)
class ProbeData:
    """Features float16 (V, n, D) and labels (n, …), with the task and the recipe of the loss."""

    features: np.ndarray
    labels: np.ndarray
    task: Task
    recipe: Recipe

    def __getitem__(self, rows: np.ndarray) -> "ProbeData":
        return ProbeData(self.features[:, rows], self.labels[rows], self.task, self.recipe)

    def __len__(self) -> int:
        return len(self.labels)

    def loss(self) -> nn.Module:
        """Return the recipe's loss for these labels."""
        recipe = self.recipe
        return self.task.build_loss(
            self.labels, recipe.class_weights, recipe.label_smoothing, recipe.logit_adjustment
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread within the block, so that sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit_head(
    extractor: Extractor, data: ProbeData, choice: Choice, start: ProbeHead | None = None
) -> ProbeHead:
    """Return the head with the lowest loss and penalty on all views; a linear one goes on from `start`."""
    columns = torch.tensor(extractor.columns_of(choice.features))
    hidden = HIDDEN if choice.kind == "mlp" else 0
    everything = torch.from_numpy(data.features.reshape(-1, data.features.shape[2]))  # (V * n, D)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(data.recipe.seed, "probe", choice.features, choice.kind))
        head = ProbeHead(HeadForm(choice.kind, len(columns), hidden), data.task.num_outputs)
        head.columns.copy_(columns)
        values = everything[:, columns].float()
        deviation = values.std(dim=0, correction=0)
        head.mean.copy_(values.mean(dim=0))
        head.scale.copy_(deviation.clamp(min=LEAST_SCALE * float(deviation.mean()) + 1e-8))
        inputs = head.standardise(everything)
        labels = torch.from_numpy(np.concatenate([data.labels] * len(data.features)))
        if hidden:
            _train_mlp(head, inputs, labels, data.loss())
        else:
            rows = rows_of_classes(data)
            layer = _first_of_rows(head if start is None else start, rows, is_new=start is None)
            _minimise(layer, rows, inputs, labels, data.loss(), choice.penalty / len(data))
            _spread(layer, rows, head)
    return head


def rows_of_classes(data: ProbeData) -> torch.Tensor:
    """Return for each output its row in the fitted layer, int64 (K,): classes without an image share one.

    At the minimum their weights are equal, as nothing tells these classes apart; so a contest of a thousand
    classes of which few occur is fitted as fast as one of those few.
    """
    num_outputs = data.task.num_outputs
    if data.task.name != "multiclass" or data.labels.ndim > 1:
        return torch.arange(num_outputs)
    occurs = np.bincount(data.labels, minlength=num_outputs) > 0
    rows = np.where(occurs, np.cumsum(occurs) - 1, occurs.sum())
    return torch.from_numpy(rows.astype(np.int64))


@torch.inference_mode()
def predict_head(head: ProbeHead, data: ProbeData) -> np.ndarray:
    """Return the predictions of a head, float32 (n, K), means over the views."""
    views = [data.task.activate(head(torch.from_numpy(view).float())) for view in data.features]
    return data.task.finish(torch.stack(views).mean(dim=0).numpy())


@torch.no_grad()
def _first_of_rows(head: ProbeHead, rows: torch.Tensor, is_new: bool) -> nn.Linear:
    """Return a layer with the weights of a head's first output of each row; zeros if the head is new."""
    first = [int((rows == row).nonzero()[0]) for row in range(int(rows.max()) + 1)]
    layer = nn.Linear(head.classifier.in_features, len(first))
    for name in ("weight", "bias"):
        tensor = getattr(layer, name)
        tensor.zero_() if is_new else tensor.copy_(getattr(head.classifier, name)[first])
    return layer


@torch.no_grad()
def _spread(layer: nn.Linear, rows: torch.Tensor, head: ProbeHead) -> None:
    """Give every output of a head the weights of its row."""
    for name in ("weight", "bias"):
        getattr(head.classifier, name).copy_(getattr(layer, name)[rows])


def _minimise(
    layer: nn.Linear,
    rows: torch.Tensor,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    loss_function: nn.Module,
    penalty: float,
) -> None:
    """Set weight and bias of a linear layer to the minimum of mean loss + penalty / 2 * |weight|².

    `rows` (K,) has the row of each output, whose weights count once for each output.
    """
    split = layer.weight.numel()
    roots = torch.bincount(rows).float().sqrt()[:, None]
    is_own = len(roots) == len(rows)  # each output has a row of its own: a copy of all logits is saved

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        _assign(layer, point, split)
        layer.zero_grad()
        logits = layer(inputs) if is_own else layer(inputs)[:, rows]
        loss = loss_function(logits, labels) + penalty / 2 * (roots * layer.weight).square().sum()
        loss.backward()
        gradient = torch.cat([layer.weight.grad.flatten(), layer.bias.grad])
        return loss.item(), gradient.double().numpy()

    start = torch.cat([layer.weight.detach().flatten(), layer.bias.detach()]).double().numpy()
    options = {"maxiter": ITERATIONS, "gtol": 1e-5, "ftol": 1e-9}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    _assign(layer, found.x, split)
    layer.zero_grad()


@torch.no_grad()
def _assign(layer: nn.Linear, point: np.ndarray, split: int) -> None:
    values = torch.from_numpy(point).float()
    layer.weight.copy_(values[:split].view_as(layer.weight))
    layer.bias.copy_(values[split:])


def _train_mlp(head: ProbeHead, inputs: torch.Tensor, labels: torch.Tensor, loss_function: nn.Module) -> None:
    """Train the layers of an MLP head with dropout, in the order of torch's global random stream."""
    layers = [*head.hidden.parameters(), *head.classifier.parameters()]
    optimizer = torch.optim.AdamW(layers, RATE, weight_decay=DECAY, fused=True)
    batches = max(1, len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).tensor_split(batches):
            hidden = gelu(head.hidden(dropout(inputs[rows], DROPOUT)))
            loss = loss_function(head.classifier(dropout(hidden, DROPOUT)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    optimizer.zero_grad()
