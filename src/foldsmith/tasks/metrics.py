"""The metrics, one row each in METRICS or a family: their score, where it is defined, how it is resampled.

N images · K classes · M numbers. Targets and predictions are those of the task: class indices (N,) and
probabilities (N, K), 0 and 1 (N, K) and probabilities (N, K), or numbers (N,) or (N, M) and values (N, M).
Add a metric as a function and a row.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from foldsmith.errors import InputError, unknown_name
from foldsmith.tasks import class_scores, column_scores, ranked_scores, value_scores
from foldsmith.tasks.class_scores import NUM_BINS, Score, Scorer, bins_of, decide, expected_calibration_error

__all__ = [
    "METRICS",
    "NUM_BINS",
    "Metric",
    "Scorer",
    "bins_of",
    "bootstrappable_metrics",
    "decide",
    "expected_calibration_error",
    "find_metric",
    "is_custom",
    "metric_of",
    "title_of",
]

ONE_CLASS = ("multiclass", "binary", "ordinal")
CLASSES = (*ONE_CLASS, "multilabel")
ALL_TASKS = (*CLASSES, "regression")


@dataclass(frozen=True)
class Metric:
    """A metric and its properties.

    `is_defined` returns whether targets and predictions have a score; by default they always have.
    `weighted` returns a scorer of counts (N,), with which bags and bootstraps count an image several times or
    not at all. Without one the images are repeated, which gives the same score and is slower.
    `bootstrappable` is false for a metric that is not a function of the images' joint distribution.
    `has_baseline` is false for a metric in which a prediction that ignores the image can be perfect.
    `tasks` are the names of the tasks that the metric is for; the runs of those in `reported` always compute
    it (None: of all of them).

    A row of decisions has `score_decisions` and `weighted_decisions` in place of `score` and `weighted`,
    which `deciding` adds: they decide first, in METRICS by the most probable class. `left_out` returns the
    columns of targets in which a mean over columns is not defined, bool (K,).
    """

    name: str
    title: str  # in the report
    score: Score | None = None  # None until `deciding`, for a metric of decisions
    higher_is_better: bool = True
    is_defined: Callable[[np.ndarray, np.ndarray], bool] = lambda targets, predictions: True
    weighted: Callable[[np.ndarray, np.ndarray], Scorer] | None = None
    bootstrappable: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)  # the lowest and the highest possible score
    has_baseline: bool = True
    tasks: tuple[str, ...] = ("multiclass",)
    reported: tuple[str, ...] | None = None
    score_decisions: Score | None = None
    weighted_decisions: Callable[[np.ndarray, np.ndarray], Scorer] | None = None
    left_out: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def sign(self) -> int:
        """-1 where a lower score is better, else 1."""
        return 1 if self.higher_is_better else -1

    @property
    def scores_decisions(self) -> bool:
        """Return whether the metric depends on predictions through decisions alone."""
        return self.score_decisions is not None

    def deciding(self, decide: Callable[[np.ndarray], np.ndarray]) -> "Metric":
        """Return the metric with another decision for each prediction; a metric of predictions as it is."""
        if self.score_decisions is None:
            return self
        by_decisions, weighted = self.score_decisions, self.weighted_decisions
        return replace(
            self,
            score=lambda targets, predictions: by_decisions(targets, decide(predictions)),
            weighted=weighted and (lambda targets, predictions: weighted(targets, decide(predictions))),
        )

    def evaluate(self, targets: np.ndarray, predictions: np.ndarray) -> float | None:
        """Return the score, or None where the metric is not defined."""
        return self.score(targets, predictions) if self.is_defined(targets, predictions) else None

    def scorer(self, targets: np.ndarray, predictions: np.ndarray) -> Scorer:
        """Return a function from counts (N,), how often each image counts, to the score; NaN if undefined.

        Raise InputError for a metric that is not bootstrappable.
        """
        if not self.bootstrappable:
            raise InputError(
                f"the metric {self.name} cannot be bootstrapped, which a comparison of runs needs; set "
                f"another metric in competition.toml: {', '.join(bootstrappable_metrics())}."
            )
        if self.weighted is not None:
            return self.weighted(targets, predictions)

        def score(counts: np.ndarray) -> float:
            rows = np.repeat(np.arange(len(counts)), counts.astype(np.int64))
            score = self.evaluate(targets[rows], predictions[rows])
            return np.nan if score is None else score

        return score


METRICS: dict[str, Metric] = {
    metric.name: metric.deciding(decide)
    for metric in (
        Metric(
            "accuracy",
            "Accuracy",
            score_decisions=class_scores.accuracy,
            weighted_decisions=class_scores.weighted_accuracy,
            tasks=CLASSES,
        ),
        Metric(
            "balanced_accuracy",
            "Balanced accuracy",
            score_decisions=class_scores.balanced_accuracy,
            weighted_decisions=class_scores.weighted_balanced_accuracy,
            tasks=ONE_CLASS,
        ),
        Metric(
            "macro_f1",
            "Macro F1",
            score_decisions=class_scores.macro_f1,
            weighted_decisions=partial(class_scores.weighted_f_beta, beta=1.0, average="macro"),
            tasks=CLASSES,
        ),
        Metric(
            "top5_accuracy",
            "Top-5 accuracy",
            partial(ranked_scores.top_k_accuracy, k=5),
            weighted=partial(ranked_scores.weighted_top_k_accuracy, k=5),
            tasks=("multiclass", "ordinal"),
            reported=("multiclass",),
        ),
        Metric(
            "log_loss",
            "Log loss",
            column_scores.log_loss,
            higher_is_better=False,
            weighted=column_scores.weighted_log_loss,
            bounds=(0.0, np.inf),
            tasks=CLASSES,
        ),
        Metric(
            "expected_calibration_error",
            "Expected calibration error",
            expected_calibration_error,
            higher_is_better=False,
            weighted=class_scores.weighted_calibration_error,
            has_baseline=False,
            tasks=ONE_CLASS,
        ),
        Metric(
            "matthews_corrcoef",
            "Matthews correlation",
            score_decisions=class_scores.matthews_corrcoef,
            weighted_decisions=class_scores.weighted_matthews_corrcoef,
            bounds=(-1.0, 1.0),
            tasks=ONE_CLASS,
            reported=("binary",),
        ),
        Metric(
            "quadratic_weighted_kappa",
            "Quadratic weighted kappa",
            score_decisions=class_scores.quadratic_weighted_kappa,
            weighted_decisions=class_scores.weighted_quadratic_weighted_kappa,
            bounds=(-1.0, 1.0),
            is_defined=lambda targets, predictions: len(np.unique(targets)) > 1,
            tasks=("ordinal",),
        ),
        Metric(
            "roc_auc",
            "ROC AUC",
            column_scores.roc_auc,
            is_defined=column_scores.has_both_values,
            weighted=column_scores.weighted_roc_auc,
            tasks=CLASSES,
            reported=("binary", "multilabel"),
            left_out=column_scores.without_both_values,
        ),
        Metric(
            "average_precision",
            "Average precision",
            column_scores.average_precision,
            is_defined=column_scores.has_a_positive,
            weighted=column_scores.weighted_average_precision,
            tasks=CLASSES,
            reported=("binary", "multilabel"),
            left_out=column_scores.without_a_positive,
        ),
        Metric(
            "probabilistic_f1",
            "Probabilistic F1",
            column_scores.probabilistic_f1,
            is_defined=column_scores.has_a_positive,
            weighted=column_scores.weighted_probabilistic_f1,
            tasks=("binary",),
            reported=(),
        ),
        Metric(
            "rmse",
            "Root mean squared error",
            value_scores.rmse,
            higher_is_better=False,
            weighted=value_scores.weighted_rmse,
            bounds=(0.0, np.inf),
            tasks=("regression",),
        ),
        Metric(
            "mae",
            "Mean absolute error",
            value_scores.mae,
            higher_is_better=False,
            weighted=value_scores.weighted_mae,
            bounds=(0.0, np.inf),
            tasks=("regression",),
        ),
        Metric(
            "rmsle",
            "Root mean squared logarithmic error",
            value_scores.rmsle,
            higher_is_better=False,
            is_defined=value_scores.has_logarithms,
            weighted=value_scores.weighted_rmsle,
            bounds=(0.0, np.inf),
            tasks=("regression",),
            reported=(),
        ),
        Metric(
            "r2",
            "R²",
            value_scores.r2,
            is_defined=value_scores.varies,
            weighted=value_scores.weighted_r2,
            bounds=(-np.inf, 1.0),
            tasks=("regression",),
            left_out=value_scores.constant_columns,
        ),
    )
}


# --- families: metrics with a number in their name
def _f_beta(name: str, beta: str, average: str) -> Metric:
    return Metric(
        name,
        f"F{beta} ({average})",
        score_decisions=partial(class_scores.f_beta, beta=float(beta), average=average),
        weighted_decisions=partial(class_scores.weighted_f_beta, beta=float(beta), average=average),
        tasks=("multilabel",) if average == "samples" else CLASSES,
        reported=(),
    )


def _f_beta_of_positive(name: str, beta: str) -> Metric:
    return Metric(
        name,
        f"F{beta}",
        score_decisions=partial(class_scores.f_beta, beta=float(beta), average="binary"),
        weighted_decisions=partial(class_scores.weighted_f_beta, beta=float(beta), average="binary"),
        tasks=("binary",),
        reported=(),
    )


def _map_at_k(name: str, k: str) -> Metric:
    return Metric(
        name,
        f"Mean average precision at {k}",
        partial(ranked_scores.map_at_k, k=int(k)),
        weighted=partial(ranked_scores.weighted_map_at_k, k=int(k)),
        tasks=("multiclass", "multilabel"),
        reported=(),
    )


def _top_k_accuracy(name: str, k: str) -> Metric:
    return Metric(
        name,
        f"Top-{k} accuracy",
        partial(ranked_scores.top_k_accuracy, k=int(k)),
        weighted=partial(ranked_scores.weighted_top_k_accuracy, k=int(k)),
        tasks=("multiclass", "ordinal"),
        reported=(),
    )


_BETA, _K = r"(\d+(?:\.\d+)?)", r"([1-9]\d*)"
# pattern of the name -> the metric of its groups; the last entry is the name in error messages
FAMILIES: tuple[tuple[str, Callable[..., Metric], str], ...] = (
    (rf"f{_BETA}_(macro|micro|samples|weighted)", _f_beta, "f<BETA>_<macro|micro|samples|weighted>"),
    (rf"f{_BETA}", _f_beta_of_positive, "f<BETA>"),
    (rf"map_at_{_K}", _map_at_k, "map_at_<K>"),
    (rf"top_?{_K}_accuracy", _top_k_accuracy, "top<K>_accuracy"),
)


# what others call a metric, and members of families
OTHER_NAMES = {
    "f1": "f1", "f1_score": "f1", "f1_macro": "macro_f1", "f2": "f2", "auc": "roc_auc", "acc": "accuracy",
    "logloss": "log_loss", "cross_entropy": "log_loss", "qwk": "quadratic_weighted_kappa",
    "kappa": "quadratic_weighted_kappa", "mcc": "matthews_corrcoef", "map5": "map_at_5", "map@5": "map_at_5",
    "top5": "top5_accuracy", "pf1": "probabilistic_f1", "mse": "rmse", "ap": "average_precision",
}  # fmt: skip


def find_metric(name: str) -> Metric:
    """Return the metric of this name, a row or a member of a family.

    Raise InputError for an unknown name, and for a function of the user's own, which is not loaded here.
    """
    if is_custom(name):
        raise InputError(
            f"the metric of the run is {name}; name it again on this command line: --metric {name}"
        )
    if name in METRICS:
        return METRICS[name]
    for pattern, build, _ in FAMILIES:
        if match := re.fullmatch(pattern, name):
            return build(name, *match.groups()).deciding(decide)
    raise unknown_name("metric", name, [*METRICS, *(family for *_, family in FAMILIES)], OTHER_NAMES)


def metric_of(name: str, task: str, decide: Callable[[np.ndarray], np.ndarray]) -> Metric:
    """Return the metric of this name with the decision of a task. Raise InputError as `metric_for` does."""
    return metric_for(name, task).deciding(decide)


def metric_for(name: str, task: str) -> Metric:
    """Return the metric of this name for a task, given by its name, without the task's decision.

    Raise InputError for an unknown name, and for a metric that the task's predictions do not have.
    """
    metric = find_metric(name)
    if task not in metric.tasks:
        known = [row.name for row in METRICS.values() if task in row.tasks]
        raise InputError(
            f"the metric {name} is for the task{'s' if len(metric.tasks) > 1 else ''} "
            f"{', '.join(metric.tasks)}, and the task here is {task}; set metric or task in competition.toml "
            f"(metrics of {task}: {', '.join(known)})."
        )
    return metric


def metrics_of(
    task: str, decide: Callable[[np.ndarray], np.ndarray], run_metric: Metric | None = None
) -> dict[str, Metric]:
    """Return the metrics that every run of a task computes, and that of one run, by name."""
    metrics = {
        name: metric.deciding(decide)
        for name, metric in METRICS.items()
        if task in (metric.tasks if metric.reported is None else metric.reported)
    }
    return metrics if run_metric is None else {**metrics, run_metric.name: run_metric}


def is_custom(name: str) -> bool:
    """Return whether a metric's name is a function of the user's own, FILE.py:NAME."""
    return ".py:" in name


def title_of(name: str) -> str:
    """Return a metric's title for the report; of a user's own function its name, without loading it."""
    return name.rpartition(":")[2] if is_custom(name) else find_metric(name).title


def bootstrappable_metrics() -> list[str]:
    """Return the names of the metrics that comparisons and blends of runs can use."""
    return [name for name, metric in METRICS.items() if metric.bootstrappable]
