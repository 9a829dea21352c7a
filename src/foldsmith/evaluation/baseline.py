"""The baseline beside a score: what predictions that ignore the images would reach."""

import numpy as np

from foldsmith.evaluation.chance import ROUNDING
from foldsmith.seeding import derive_seed
from foldsmith.tasks import Task

Score = float | None

# of a score no better than the baseline, the most likely first
CAUSES = (
    "too few epochs for so few images",
    "a learning rate that is too high or too low",
    "labels that do not belong to the images",
    "flips or crops that remove what the labels depend on, such as left and right",
    "images that are dark, empty or too small at this size",
    "labels that the pictures do not show",
)
# the keys of `baseline` in words, by task; guesses of numbers are the mean as well
BASELINE_WORDS = {
    "multiclass": {"commonest_class": "commonest class", "chance": "chance"},
    "multilabel": {"commonest_class": "shares of the labels", "chance": "chance"},
    "regression": {"commonest_class": "mean of the labels"},
}
NUM_GUESSES = 100_000  # images are guessed repeatedly: an accuracy by chance is then exact to 0.0016
NUM_CELLS = 20_000_000  # at most, of the guesses' probabilities


def baseline_figures(cv: dict, targets: np.ndarray, prior: np.ndarray, task: Task) -> dict[str, object]:
    """Return the keys `baseline` and `beats_baseline` of cv.json.

    `baseline` is {"commonest_class": score, "chance": score} in the run's metric: of the training prior (K,)
    as the prediction for every image, and of uniform guessing. `beats_baseline` is true if the score is
    better than both by more than two standard errors, and None where no baseline is meaningful.
    """
    constant = task.finish(np.tile(prior, (len(targets), 1)))
    metric = task.metrics[cv["metric"]]
    baseline = {
        "commonest_class": metric.evaluate(targets, constant),
        "chance": _score_guesses(targets, prior, cv["metric"], task),
    }
    best, mean, error = _better_of(baseline, metric.sign), cv["mean"], cv["standard_error"]
    beats = None
    if metric.has_baseline and None not in (best, mean, error):
        optimum = max(metric.sign * bound for bound in metric.bounds)
        if metric.sign * best < optimum - ROUNDING:
            beats = bool(metric.sign * (mean - best) > 2 * error)
    return {"baseline": baseline, "beats_baseline": beats}


def _score_guesses(targets: np.ndarray, prior: np.ndarray, metric: str, task: Task) -> Score:
    """Return the score of uniform guesses: equal predictions for all outputs, ties broken at random."""
    repeats = -(-min(NUM_GUESSES, NUM_CELLS // len(prior)) // len(targets))
    repeated = np.repeat(targets, max(repeats, 1), axis=0)
    draws = np.random.default_rng(derive_seed(0, "guesses"))
    ties = 1 + 1e-3 * draws.random((len(repeated), len(prior)))
    return task.metrics[metric].evaluate(repeated, task.finish(prior.mean() * ties))


def _better_of(baseline: dict[str, Score], sign: int) -> Score:
    defined = [score for score in baseline.values() if score is not None]
    return max(defined, key=lambda score: sign * score, default=None)


def describe_baseline(cv: dict) -> str:
    """Return the baseline in words, `commonest class 0.1250, chance 0.1250`; "" for an older cv.json."""
    words = BASELINE_WORDS.get(cv.get("task", ""), BASELINE_WORDS["multiclass"])
    scores = ((words.get(name), score) for name, score in cv.get("baseline", {}).items())
    return ", ".join(f"{name} {score:.4f}" for name, score in scores if name and score is not None)


def warn_of_baseline(cv: dict) -> str:
    """Return a sentence where the score is no better than the baseline, without the causes; else ""."""
    if cv.get("beats_baseline") is not False:
        return ""
    return (
        f"{cv['metric']} {cv['mean']:.4f} is no better than predictions that ignore the images "
        f"({describe_baseline(cv)}), by two standard errors: the network may have learned nothing."
    )
