"""A table of answers for images: what a run decides, its confidence, and its predictions by class.

n images · K outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldsmith.deployment.combination import Combination
from foldsmith.evaluation.decisions import decider
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_classes
from foldsmith.tasks import Task
from foldsmith.tasks.probabilities import logarithms


@dataclass(frozen=True)
class AnswerForm:
    """The columns of the answers: `answer`, `confidence`, and a column for each of the `names` (K,).

    Columns of probabilities are called `probability_NAME`, those of numbers `value_NAME`; numbers have no
    confidence. `decide` is the function that a submission is filled by.
    """

    task: Task
    names: Sequence[str]
    decide: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of_run(cls, run: RunPaths, combination: Combination) -> "AnswerForm":
        """Return the form of a run, a blend or an average; classes that share a name go by their category."""
        classes = load_classes(run.classes)
        column = "class_name" if classes["class_name"].is_unique else "category"
        names = [str(name) for name in classes[column]]
        return cls(combination.task, names, decider(combination.decision, combination.task))

    @property
    def separator(self) -> str:
        """Return what stands between the names of a set."""
        return ", " if any(" " in name for name in self.names) else " "

    def table(self, predictions: np.ndarray, problems: Sequence[str]) -> pd.DataFrame:
        """Return the answers for predictions (n, K); empty cells for images with a problem."""
        finished, decided = self.decide(predictions)
        values = self.task.predictions_key == "values"
        columns: dict[str, object] = {"answer": self._answers(decided)}
        if not values:
            columns["confidence"] = self._confidence(finished, decided)
        kind = "value" if values else "probability"
        columns |= {f"{kind}_{name}": finished[:, index] for index, name in enumerate(self.names)}
        table = pd.DataFrame(columns)
        without = np.array([bool(problem) for problem in problems])
        return table.mask(pd.Series(without), np.nan) if without.any() else table

    def _answers(self, decided: np.ndarray) -> list[object]:
        """Return the answers: a class's name, the names of a set, a number, or numbers with spaces."""
        if self.task.predictions_key == "values":
            return self.task.label_column(decided)
        if decided.ndim == 1:
            return [self.names[label] for label in decided.tolist()]
        return [self.separator.join(self.names[label] for label in np.flatnonzero(row)) for row in decided]

    def _confidence(self, finished: np.ndarray, decided: np.ndarray) -> np.ndarray:
        """Return the probability of each answered class; of a set the geometric mean over its labels."""
        if decided.ndim == 1:
            return finished[np.arange(len(decided)), decided]
        own = np.where(decided.astype(bool), finished, 1 - finished.astype(np.float64))
        return np.exp(logarithms(own).mean(axis=1)).astype(np.float32)
