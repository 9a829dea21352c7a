"""Words in label cells: numbers, answers of yes and no, negative words, look-alikes, several in one cell."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
RUNS = re.compile(r"\d{1,12} \d{1,12}( \d{1,12} \d{1,12})*")
BOX = re.compile(r"\[+\s*-?[\d.]+(\s*\]?,\s*\[?\s*-?[\d.]+){3,}\s*\]+")
VECTOR = re.compile(r"\[\s*[01]([,\s]+[01])+\s*\]")
INTEGER = re.compile(r"[+-]?\d+")
# pairs of a negative and a positive answer
FLAG = re.compile(r"[+-]?[01](\.0*)?")  # an answer as a number
FLAGS = (("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"))
# classes that are the absence of what is looked for
NEGATIVE_WORDS = {
    "normal", "healthy", "benign", "negative", "neg", "no", "none", "absent", "absence", "control",
    "background", "false", "nothing", "empty", "clean", "cover", "other", "others", "no_finding", "not",
    "non", "without", "genuine", "original", "intact", "good", "ok",
}  # fmt: skip
# columns whose integers are grades, and columns whose integers are measured or counted
GRADE_NAMES = {
    "diagnosis", "grade", "level", "severity", "stage", "score", "rating", "quality", "isup", "birads",
    "density", "kl", "dr", "stars",
}  # fmt: skip
QUANTITY_NAMES = {
    "age", "weight", "height", "width", "count", "counts", "price", "length", "size", "area", "volume",
    "number", "num", "amount", "distance", "temperature", "angle", "year", "years", "months", "days", "hours",
    "points", "percent", "percentage", "score", "rating", "quality", "value", "depth", "speed", "biomass",
    "yield",
}  # fmt: skip
ID_NAMES = {"id", "label", "labels", "class", "category", "target", "species", "identity"}


def words_in(name: str) -> set[str]:
    """Return the lower-case words of a column's name: `hasCactus_2` is has, cactus, 2."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return set(re.findall(r"[a-z]+|\d+", spaced.lower()))


def numbers_in(cells: Iterable[str]) -> np.ndarray | None:
    """Return the cells as numbers, float64 (N,), or None if one is no number; nan and inf are words."""
    cells = list(cells)
    if not cells or not all(NUMBER.fullmatch(cell) for cell in cells):
        return None
    numbers = np.array(cells, dtype=np.float64)
    return numbers if np.isfinite(numbers).all() else None


def flags_in(words: Collection[str]) -> dict[str, bool] | None:
    """Return which words are positive if all are 0 and 1, -1 and 1, no and yes, or the like; else None."""
    numbers = numbers_in(words)
    if numbers is not None:
        plain = all(FLAG.fullmatch(word) for word in words)  # 01 is a mistake or a code
        known = plain and any(np.isin(numbers, pair).all() for pair in ((0.0, 1.0), (-1.0, 1.0)))
        return dict(zip(words, (numbers == 1).tolist(), strict=True)) if known else None
    for negative, positive in FLAGS:
        if words and {word.lower() for word in words} <= {negative, positive}:
            return {word: word.lower() == positive for word in words}
    return None


def odd_answer(cells: pd.Series) -> str:
    """Return the cell for which `flags_in` returns None: one that is no answer, or else the rarest one."""
    strange = [cell for cell in cells if flags_in({cell}) is None]
    return strange[0] if strange else str(cells.value_counts().index[-1])


def regions_in(cells: Collection[str]) -> str:
    """Return what distinct cells hold if they are masks, boxes or one-hot vectors; empty if they are labels.

    A mask is run lengths: pairs of a start and a length, and no run begins before the last one ends. Labels
    that happen to be such pairs recur, starts do not.
    """
    cells = [cell for cell in cells if cell]
    if cells and all(VECTOR.fullmatch(cell) for cell in cells) and len(set(map(len, cells))) == 1:
        return "vectors of 0 and 1"
    if cells and all(BOX.fullmatch(cell) for cell in cells):
        return "boxes or polygons"
    if boxes_in(cells):
        return "boxes of labels"
    if not cells or not all(RUNS.fullmatch(cell) for cell in cells):
        return ""
    runs = [[int(token) for token in cell.split()] for cell in cells]
    apart = all(
        start + length <= after
        for run in runs
        for start, length, after in zip(run[::2], run[1::2], run[2::2], strict=False)
    )
    recur = len({token for run in runs for token in run}) <= len(runs)
    return "" if recur or not apart or max(map(len, runs)) < 4 else "masks as run lengths"


def boxes_in(cells: Collection[str]) -> bool:
    """Return whether all cells are boxes between spaces: a label or confidence, or both, and four sides each.

    A list of five labels is none: its words are all alike, and none occurs twice.
    """
    rows = [cell.split() for cell in cells if cell.strip()]
    return bool(rows) and any(all(_is_boxes(row, length) for row in rows) for length in (5, 6))


def _is_boxes(tokens: list[str], length: int) -> bool:
    groups = [tokens[start : start + length] for start in range(0, len(tokens), length)]
    if any(len(group) < length or numbers_in(group[1:]) is None for group in groups):
        return False
    first = groups[0][0]
    unlike = not INTEGER.fullmatch(first) or any("." in token for token in tokens)
    return unlike or any(len(set(group)) < length for group in groups)


def is_negative(word: str) -> bool:
    """Return whether a class is called by a usual word for the absence of something."""
    lowered = word.strip().lower()
    first = re.split(r"[\s_-]+", lowered)[0]
    return lowered in NEGATIVE_WORDS or first in {"no", "not", "non", "without"}


def same_numbers(words: Collection[str]) -> dict[str, str]:
    """Return words such as `1.0` by the integer `1` that is among the words too."""
    integers = {word for word in words if INTEGER.fullmatch(word)}
    decimals = {word: re.sub(r"\.0*$", "", word) for word in words if "." in word and NUMBER.fullmatch(word)}
    return {word: short for word, short in decimals.items() if short in integers}


def look_alikes(words: Collection[str]) -> list[tuple[str, str]]:
    """Return pairs of words that differ in case, spaces, leading zeros or the form of accents alone.

    Single characters do not count: a class for each letter has `A` and `a`.
    """
    by_shape: dict[str, str] = {}
    pairs = []
    for word in sorted(words):
        if len(word) == 1 and word.isalpha():
            continue
        plain = unicodedata.normalize("NFC", word).casefold()
        shape = " ".join(plain.replace("_", " ").replace("-", " ").split())
        if INTEGER.fullmatch(word):
            shape = str(int(word[:18])) if len(word) <= 18 else word
        elif NUMBER.fullmatch(word):
            shape = word  # its sign is no hyphen
        if shape in by_shape:
            pairs.append((by_shape[shape], word))
        by_shape.setdefault(shape, word)
    return pairs


# --- several labels in one cell
SEPARATORS = ("|", ";", ",", " ")
# a cell that is a list as Python or JSON writes it: all of its items have quotes, or none has
QUOTED, BARE, BETWEEN = r"""(?:'[^']*'|"[^"]*")""", r"""[^\s,\[\]'"]+""", r"[\s,\[\]]"
LISTED = rf"\[{BETWEEN}*(?:{QUOTED}(?:{BETWEEN}+{QUOTED})*|{BARE}(?:{BETWEEN}+{BARE})*)?{BETWEEN}*\]"
RECURRENT = 0.8  # share of tokens that must occur in two cells or more


def split_cell(cell: str, separator: str) -> list[str]:
    """Return the labels in a cell, without empty ones."""
    tokens = cell.split() if separator.isspace() else cell.split(separator.strip())
    return [token.strip() for token in tokens if token.strip()]


def without_brackets(cells: pd.Series) -> pd.Series:
    """Return cells that are lists as Python or JSON writes them, `['a', 'b']`, as texts with a separator.

    Cells are returned as they are unless all are lists of words or whole numbers, or empty.
    """
    written = cells.str.strip()
    listed = written.str.fullmatch(LISTED)
    if not (listed | (written == "")).all() or not listed.any() or regions_in(set(written)):
        return cells
    items = written.str.findall(f"{QUOTED}|{BARE}")
    words = items.map(lambda found: [item.strip("'\"").strip() for item in found])
    separator = " " if not any(" " in word for found in words for word in found) else "|"
    return words.map(separator.join)


def unlike_lists(cells: pd.Series) -> pd.Series:
    """Return which cells are no lists as `without_brackets` reads them, if at least half of them are."""
    written = cells.str.strip()
    listed = written.str.fullmatch(LISTED)
    return ~listed & (written != "") & (listed.mean() >= 0.5)


def _each_in_its_place(split: Collection[list[str]]) -> bool:
    """Return whether lists of words have one length, and a word has one place in them, as in `red disc`."""
    places = [set(words) for words in zip(*split, strict=False)]
    equal = len({len(tokens) for tokens in split}) == 1
    return equal and len(set().union(*places)) == sum(map(len, places))


def sets_or_words(cells: Collection[str], separator: str) -> bool | None:
    """Return whether distinct cells are sets of labels (True), or words with the separator in them (False).

    Sets are made of few labels that recur in many combinations; names of classes have words of their own.
    None: the cells fit both.
    """
    split = [split_cell(cell, separator) for cell in cells]
    if not any(len(tokens) > 1 for tokens in split):
        return False
    if any(len(set(tokens)) < len(tokens) for tokens in split):
        return False  # a set names a label once
    used = Counter(token for tokens in split for token in tokens)
    several = {token for tokens in split if len(tokens) > 1 for token in tokens}
    alone = {tokens[0] for tokens in split if len(tokens) == 1}
    if all(INTEGER.fullmatch(token) for token in used):
        # 1,5 could be a decimal number
        return None if separator == "," and all(len(tokens) == 2 for tokens in split) else True
    if separator in ("|", ";") and (several & alone or len(used) < len(split)):
        return True
    recurrent = sum(used[token] > 1 for token in several) >= RECURRENT * len(several)
    if recurrent and (len(several & alone) >= len(several) / 2 or len(used) <= len(split) / 2):
        return None if separator.isspace() and _each_in_its_place(split) else True
    return False if len(used) >= len(split) and not several <= alone else None
