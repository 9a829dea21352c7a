"""The metric of a run: by name, or a function of the user's own, which the command line alone can name."""

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from foldsmith.errors import InputError
from foldsmith.tasks.metrics import ALL_TASKS, Metric, is_custom
from foldsmith.tasks.task import Task


def choose_metric(task: Task, typed: str, named: str = "") -> Metric:
    """Return the metric that was `typed` on the command line, else the `named` one, else the task's default.

    Raise InputError as `load_metric` and `Task.metric` do.
    """
    if is_custom(typed):
        return load_metric(typed)
    return task.metric(typed or named or task.default_metric)


def digest_of_metric(name: str) -> dict[str, str]:
    """Return the digest of the file of a user's own metric, as an entry of stamps; empty for other names."""
    if not is_custom(name):
        return {}
    return {"metric_digest": hashlib.sha256(Path(name.rpartition(":")[0]).read_bytes()).hexdigest()}


def load_metric(spec: str) -> Metric:
    """Return the metric of FILE.py:NAME: a function from targets and predictions, as in oof.npz, to a float.

    Its attribute `greater_is_better` is its direction. Raise InputError if the file, the function or the
    direction is missing.
    """
    path, _, name = spec.rpartition(":")
    if not Path(path).is_file():
        raise InputError(f"--metric {spec}: {path} does not exist; write FILE.py:NAME.")
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # the user's code raises what it likes
        raise InputError(f"--metric {spec}: {path} cannot be imported: {error!r}.") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"--metric {spec}: {path} has no function '{name}' (it has: {', '.join(known)}).")
    if not isinstance(getattr(function, "greater_is_better", None), bool):
        raise InputError(
            f"--metric {spec}: is a higher score better? Write {name}.greater_is_better = True, or False, "
            f"below the function in {path}."
        )
    return Metric(
        spec,
        name,
        _checked(spec, function),
        function.greater_is_better,
        bounds=(-np.inf, np.inf),
        tasks=ALL_TASKS,
        reported=(),
    )


def _checked(
    spec: str, function: Callable[[np.ndarray, np.ndarray], float]
) -> Callable[[np.ndarray, np.ndarray], float]:
    """Return the function with its errors, and scores that are not finite, as InputError."""

    def score(targets: np.ndarray, predictions: np.ndarray) -> float:
        try:
            value = float(function(targets, predictions))
        except Exception as error:  # the user's code raises what it likes
            raise InputError(f"--metric {spec} fails on {len(targets)} images: {error!r}.") from error
        if not np.isfinite(value):
            raise InputError(f"--metric {spec} returned {value} for {len(targets)} images; return a number.")
        return value

    return score
