"""Whether a step of a campaign earns its place: the gain of the blend with its run, on the same images.

A campaign has an answer, the blend of the runs that it keeps. A new run is kept if the answer with it is
better than the answer without it by more than one standard error, and by more than luck explains among all
steps that the plan may still judge. Blend weights of an image are never fitted on its own fold.

R runs · N images · K outputs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from foldsmith.campaign.journal import changed_by
from foldsmith.comparison.blend_weights import cross_fit_folds, find_blend, mix
from foldsmith.evaluation.chance import PairedDifference
from foldsmith.evaluation.resampling import gain_with_error, p_of_gain
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task
from foldsmith.tasks.metrics import Metric

LEVEL = 0.05  # of campaigns of useless steps, those in which luck keeps any
SHARE_OF_A_PLAN = 0.8  # of what is left of LEVEL; the rest is for the steps of a later plan
FITTED_ON = 10_000  # images at most, a sample, that blend weights are fitted on


@dataclass(frozen=True)
class Images:
    """The held-out images of a campaign's runs: targets (N, …) and folds (N,), with task, metric and seed."""

    targets: np.ndarray
    folds: np.ndarray
    task: Task
    metric: Metric
    seed: int = 0

    def __getitem__(self, rows: np.ndarray) -> "Images":
        return replace(self, targets=self.targets[rows], folds=self.folds[rows])

    def score(self, predictions: np.ndarray) -> float:
        value = self.metric.evaluate(self.targets, predictions)
        return np.nan if value is None else value


@dataclass(frozen=True)
class Verdict:
    """The gain of a step, the one-sided p of a gain this large by luck, and the p that it must not exceed."""

    gain: PairedDifference
    p: float
    allowed: float

    @property
    def kept(self) -> bool:
        return self.gain.exceeds_error and self.gain.difference > 0 and self.p <= self.allowed


def answer_of(images: Images, runs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the predictions of the blend of runs, each (N, K), float32 (N, K).

    The weights of an image are fitted on a sample of the images of the other folds.
    """
    if len(runs) == 1:
        return runs[0]
    stacked, folds = np.stack(runs), cross_fit_folds(images.folds, images.seed)
    rows = sample_of(folds, images.seed)
    fitted = images[rows]
    blend = find_blend(images.task, fitted.targets, folds[rows], stacked[:, rows], images.metric, images.seed)
    blended = np.empty(stacked.shape[1:], np.float32)
    for fold, weights in enumerate(blend.weights_by_fold):
        blended[folds == fold] = mix(stacked[:, folds == fold], weights, images.task)
    return blended


def judge(
    images: Images,
    answer: Sequence[np.ndarray],
    changed: Sequence[np.ndarray],
    allowed: float,
) -> Verdict:
    """Return the verdict on the last of the `changed` answer's runs, each (N, K), beside the `answer`.

    `allowed` is the p of luck that it may have. Where the metric is not defined, nothing is kept.
    """
    if images.metric.evaluate(images.targets, changed[-1]) is None:
        return Verdict(PairedDifference(np.nan, np.inf), 1.0, allowed)
    compared = answer_of(images, answer), answer_of(images, changed)
    gain = gain_with_error(images.targets, *compared, images.metric, images.seed)
    two_sided = p_of_gain(images.targets, *compared, gain, images.task)
    return Verdict(gain, two_sided / 2 if gain.difference > 0 else 1 - two_sided / 2, allowed)


def allowed_p(spent: float, num_counted: int, num_kept: int) -> float:
    """Return the p that a step of a plan may have to be kept, of a gain that is luck.

    `spent` are the allowed p of the steps of earlier plans that were dropped; `num_counted` is how many steps
    this plan judges at most, `num_kept` how many of them were kept. By Holm's procedure it is the plan's
    share of LEVEL divided by the steps that are not kept: of campaigns in which no step gains anything, at
    most LEVEL keep one. That holds too if later steps count fewer, as some do not fit any more: no step has
    more than its share of those that are judged in the end. A step that was dropped is not judged again.
    """
    return SHARE_OF_A_PLAN * max(0.0, LEVEL - spent) / max(1, num_counted - num_kept)


def choose(
    images: Images,
    runs: Mapping[str, np.ndarray],
    counted: Mapping[str, tuple[int, int]],
    replaced: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Return the runs that are kept, judged in their order; the first one is the first answer.

    `counted` has for each other run the number of its plan, and how many steps the plan judges at most;
    `replaced` has the run whose place it takes.
    """
    kept: list[str] = []
    num_kept, spent = Counter[int](), Counter[int]()  # by plan
    for name in runs:
        if not kept:
            kept.append(name)
            continue
        changed = changed_by(kept, name, replaced.get(name, ""))
        both = ([runs[one] for one in names] for names in (kept, changed))
        plan, num_counted = counted[name]
        verdict = judge(images, *both, allowed_p(spent.total() - spent[plan], num_counted, num_kept[plan]))
        if verdict.kept:
            kept, num_kept[plan] = changed, num_kept[plan] + 1
        else:
            spent[plan] += verdict.allowed
    return kept


def nested_answer(
    images: Images,
    runs: Mapping[str, np.ndarray],
    counted: Mapping[str, tuple[int, int]],
    replaced: Mapping[str, str] = MappingProxyType({}),
) -> np.ndarray:
    """Return the answer's predictions if nothing of it had seen an image's fold, float32 (N, K).

    For each fold the steps are judged again, and the weights fitted, on the images of the other folds alone.
    The score of the result has no luck of choosing: it is what the plan's procedure is worth.
    """
    folds = cross_fit_folds(images.folds, images.seed)
    nested = np.empty(next(iter(runs.values())).shape, np.float32)
    for fold in range(folds.max() + 1):
        others, own = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        seen = images[others]
        kept = choose(seen, {name: run[others] for name, run in runs.items()}, counted, replaced)
        stacked = np.stack([runs[name] for name in kept])
        nested[own] = mix(stacked[:, own], weights_on(seen, stacked[:, others]), images.task)
    return nested


def weights_on(images: Images, runs: np.ndarray) -> np.ndarray:
    """Return the weights (R,) of runs' predictions (R, N, K), fitted on a sample of all these images."""
    if len(runs) == 1:
        return np.ones(1)
    rows = sample_of(images.folds, images.seed)
    fitted = images[rows]
    blend = find_blend(images.task, fitted.targets, fitted.folds, runs[:, rows], images.metric, images.seed)
    return blend.weights


def sample_of(folds: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows that weights are fitted on, int (n,): all, or FITTED_ON at random, in their order."""
    if len(folds) <= FITTED_ON:
        return np.arange(len(folds))
    draws = np.random.default_rng(derive_seed(seed, "fitted on"))
    return np.sort(draws.choice(len(folds), FITTED_ON, replace=False))
