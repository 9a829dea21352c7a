"""Kaggle's names of metrics that are surely one of ours."""

import re

# Kaggle's name, as `_plain` writes it -> ours. Names that stand for several metrics are not here: "Mean
# F-Score" is a mean over images in one contest and the F1 of a class in another.
METRICS = {
    "categorization accuracy": "accuracy",
    "accuracy score": "accuracy",
    "area under receiver operating characteristic curve": "roc_auc",
    "mean columnwise area under receiver operating characteristic curve": "roc_auc",
    "log loss": "log_loss",
    "multiclass loss": "log_loss",
    "quadratic weighted kappa": "quadratic_weighted_kappa",
    "matthews correlation coefficient": "matthews_corrcoef",
    "root mean squared error": "rmse",
    "mean columnwise root mean squared error": "rmse",
    "mean absolute error": "mae",
    "root mean squared logarithmic error": "rmsle",
}


def known_metric(name: str) -> str:
    """Return our name of Kaggle's metric, or an empty text if it is not surely one of ours."""
    plain = _plain(name)
    if match := re.fullmatch(r"map@([1-9]\d*)", plain):
        return f"map_at_{match[1]}"
    return METRICS.get(plain, "")


def _plain(name: str) -> str:
    """Return a name in lower case, with one space between words."""
    return " ".join(re.sub(r"[^a-z0-9@]+", " ", name.lower()).split())
