"""How a sample submission spells classes: with another case, as whole or decimal numbers, as 0 and 1."""

import os
import re
from collections.abc import Callable, Collection, Sequence

import pandas as pd

# pairs of a negative and a positive answer
FLAGS = (("0", "1"), ("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"))


def _number(digits: int) -> Callable[[str], str]:
    """Return a function that writes numbers with this many decimals, and leaves words alone."""

    def write(word: str) -> str:
        if not re.fullmatch(r"[+-]?\d+(\.\d*)?", word):
            return word
        value = float(word)
        return f"{value:.{digits}f}" if round(value, digits) == value else word

    return write


WRITERS: tuple[Callable[[str], str], ...] = (
    _number(0),
    _number(1),
    str.lower,
    str.upper,
    str.capitalize,
    str.title,
    lambda word: word.replace("_", " "),
    lambda word: word.replace(" ", "_"),
    lambda word: word.replace(" ", "_").lower(),
    lambda word: word.replace("_", " ").lower(),
)


def spell_classes(used: Collection[str], classes: pd.DataFrame) -> list[str] | None:
    """Return a word for each class, in the one way of writing that has all `used` ones; None without."""
    for column in ("category", "class_name"):
        for write in WRITERS:
            words = [write(word) for word in classes[column]]
            if len(set(words)) == len(words) and set(used) <= set(words):
                return words
    return _spell_flags(used, list(classes["category"]))


def _spell_flags(used: Collection[str], categories: list[str]) -> list[str] | None:
    """Return the words for no and yes in the sample's pair, if the classes are such a pair too."""
    lowered = [_number(0)(category).lower() for category in categories]
    own = next((pair for pair in FLAGS if sorted(lowered) == sorted(pair)), None)
    if own is None:
        return None
    for pair in FLAGS:
        for write in (str.lower, str.capitalize, str.upper):
            words = [write(pair[own.index(word)]) for word in lowered]
            if set(used) <= set(words):
                return words
    return None


def spell_words(columns: Sequence[str]) -> list[str]:
    """Return columns without the prefix that all share, as in prob_cat and prob_dog."""
    prefix = re.sub(r"\d+$", "", os.path.commonprefix(list(columns)))
    return [column[len(prefix) :] for column in columns] if len(columns) > 1 else list(columns)
