"""The task with one asked-for class: is the image positive? Predictions are those of two classes.

N images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from foldsmith.errors import InputError
from foldsmith.tasks.single_label import SingleLabel, encode_rows
from foldsmith.tasks.task import Encoded


@dataclass(frozen=True)
class Binary(SingleLabel):
    """Two classes: 0 is the negative one, 1 the positive one.

    A softmax of two logits is the sigmoid of their difference, so that this is logistic regression.
    """

    name: ClassVar[str] = "binary"
    default_metric: ClassVar[str] = "roc_auc"
    report_sections: ClassVar[tuple[str, ...]] = (
        "compared",
        "folds",
        "learning-curves",
        "roc-curve",
        "classes",
        "confusion-matrix",
        "subsets",
        "suspected-labels",
        "mistakes",
        "calibration",
        "data",
        "near-duplicates",
        "problems",
        "training-against-test",
        "test-predictions",
    )

    @staticmethod
    def encode(rows: pd.DataFrame, names: Mapping[str, str], source: Path) -> Encoded:
        """Return samples in natural order; `names`, if not empty, are the negative and the positive class.

        Raise InputError for contradictions, and unless there are two classes.
        """
        encoded = encode_rows(rows, names, source, keep_order=True)
        if len(encoded.classes) != 2:
            raise InputError(
                f"{source} has {len(encoded.classes)} classes, and the task binary needs two; set "
                'task = "multiclass" in competition.toml.'
            )
        return encoded
