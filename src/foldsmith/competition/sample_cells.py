"""The cells of a sample submission as evidence of what it asks for."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foldsmith.competition.label_words import SEPARATORS, boxes_in, numbers_in, split_cell, words_in
from foldsmith.errors import InputError

LISTED = 3  # words in each cell that make it a list of labels, whichever they are


@dataclass(frozen=True)
class SampleCells:
    """Header and cells of a sample submission without its ids; no columns if there is no sample."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, table: pd.DataFrame | None) -> "SampleCells":
        if table is None:
            return cls((), ())
        rows = [tuple(cell.strip() for cell in row) for row in table.itertuples(index=False, name=None)]
        return cls(tuple(str(column).strip() for column in table.columns), tuple(rows))

    @property
    def words(self) -> set[str]:
        """Return the distinct cells of the only column; empty without a sample or with several columns."""
        return {row[0] for row in self.rows} if len(self.columns) == 1 else set()

    @property
    def numbers(self) -> np.ndarray | None:
        """Return all cells as numbers, float64, or None if there are none, or if one is not a number."""
        return numbers_in(cell for row in self.rows for cell in row)

    @property
    def has_fractions(self) -> bool:
        return self.numbers is not None and bool((self.numbers % 1 != 0).any())

    @property
    def could_be_probabilities(self) -> bool:
        """Return whether all cells are numbers from 0 to 1."""
        return self.numbers is not None and bool(((self.numbers >= 0) & (self.numbers <= 1)).all())

    @property
    def mixes_zero_and_one(self) -> bool:
        """Return whether the cells are 0 and 1 and not the same in all rows, as labels are."""
        numbers = self.numbers
        return numbers is not None and set(numbers.tolist()) == {0.0, 1.0} and len(set(self.rows)) > 1

    @property
    def have_confidence(self) -> bool:
        """Return whether each cell of the only column is a label and its probability, as in `137790 0.5`."""
        split = [word.split() for word in self.words if word]
        return bool(split) and all(
            len(tokens) == 2
            and (tokens[0].isdigit() or numbers_in(tokens[:1]) is None)
            and "." in tokens[1]
            and (number := numbers_in(tokens[1:])) is not None
            and 0 <= number[0] <= 1
            for tokens in split
        )

    @property
    def shown(self) -> str:
        """Return the first cell for a message."""
        return self.rows[0][0] if self.rows else ""

    @property
    def longest(self) -> int:
        """Return the largest number of labels in a cell, by whichever separator; 0 without cells."""
        split = [
            max(len(split_cell(word, separator)) for separator in (" ", *SEPARATORS)) for word in self.words
        ]
        return max(split, default=0)

    def separator_of_labels(self, known: Collection[str]) -> str:
        """Return the separator that divides cells into known labels; empty if none does."""
        for separator in SEPARATORS:
            split = [split_cell(word, separator) for word in self.words - set(known)]
            tokens = {token for labels in split for token in labels}
            if any(len(labels) > 1 for labels in split) and tokens <= set(known):
                return separator
        return ""

    def most_labels(self, known: Collection[str]) -> int:
        """Return the largest number of known labels in a cell; 0 if cells are not made of them.

        Cells that all have the same three words or more are lists too, of labels that do not occur: a sample
        may be older than the labels. Words with a fraction are probabilities.
        """
        separator = self.separator_of_labels(known)
        split = [split_cell(word, " ") for word in self.words]
        lengths = {len(words) for words in split}
        single = not any(" " in word for word in known)
        whole = not any("." in word and numbers_in([word]) is not None for words in split for word in words)
        if not separator and single and whole and len(lengths) == 1:
            return max(lengths) if max(lengths) >= LISTED else 0
        return max((len(split_cell(word, separator)) for word in self.words), default=0) if separator else 0

    def class_in_header(self, names: dict[str, str]) -> str:
        """Return the category whose name the header of the only column has, as in has_cactus; empty if none.

        Numbers do not count: `target_1` need not be the class 1.
        """
        if len(self.columns) != 1:
            return ""
        header = words_in(self.columns[0])
        named = [
            category
            for category, name in names.items()
            if any(
                word and not any(token.isdigit() for token in word) and word <= header
                for word in (words_in(category), words_in(name))
            )
        ]
        return named[0] if len(named) == 1 else ""


def refuse_sample_form(path: Path, cells: SampleCells) -> None:
    """Raise InputError for cells that are not written: boxes in images, and lists in brackets."""
    words = cells.words - {""}
    if boxes_in(words):
        raise InputError(
            f"{path} asks for boxes in images ('{min(words)[:40]}'), and foldsmith predicts labels and "
            "numbers of whole images; to write a label into each cell all the same, set submission = "
            '"labels" in competition.toml.'
        )
    if words and all(word.startswith("[") and word.endswith("]") for word in words):
        raise InputError(
            f"{path} has lists in brackets ('{min(words)[:40]}'), which are not written; set submission = "
            '"ranked" or submission = "labels" in competition.toml for labels between spaces, and add the '
            "brackets to submission.csv yourself."
        )
