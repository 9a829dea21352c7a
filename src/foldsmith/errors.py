"""Errors in the user's input, each reported in one sentence."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


class InputError(Exception):
    """The user's input is wrong. The message is one sentence: what is wrong, where, and the remedy.

    A stage that raises it exits with status 2 and prints no traceback.
    """


def message_of(error: InputError) -> str:
    """Return the error's message without the worker traceback that torch's DataLoader prepends."""
    return str(error).rpartition(f"{InputError.__module__}.InputError: ")[2].strip()


def unknown_name(
    kind: str, name: str, known: Iterable[str], synonyms: Mapping[str, str] = MappingProxyType({})
) -> InputError:
    """Return the error for a name that is not in a table. It lists the known names and the nearest match.

    `synonyms` are other words for some of the known names.
    """
    names = [str(entry) for entry in known]
    nearest = nearest_name(name, names, synonyms)
    hint = f"did you mean '{nearest}'? " if nearest else ""
    return InputError(f"unknown {kind} '{name}'; {hint}known: {', '.join(names)}.")


def nearest_name(
    name: str, known: Iterable[str], synonyms: Mapping[str, str] = MappingProxyType({})
) -> str | None:
    """Return the known name that is spelled most like `name`, or like one of its synonyms, in any case."""
    by_spelling = {synonym.lower(): meant for synonym, meant in synonyms.items()}
    by_spelling |= {entry.lower(): entry for entry in known}
    nearest = difflib.get_close_matches(name.lower(), by_spelling, n=1, cutoff=0.5)
    return by_spelling[nearest[0]] if nearest else None


@dataclass(frozen=True)
class Entries:
    """The entries of a user's file, for error messages about some of them.

    `total` is their number, `unit` their name in the singular, such as "line" or "entry of 'images'".
    """

    path: Path
    total: int
    unit: str

    def refuse(self, wrong: Iterable[int], what: str, remedy: str, example: str = "") -> None:
        """Raise InputError if anything is wrong: file, count, first example and remedy.

        `wrong` are the numbers of the wrong entries, as the file counts them; `example` shows the first one.
        """
        wrong = list(wrong)
        if wrong:
            noun, *rest = self.unit.split(" ", 1)
            units = " ".join([noun[:-1] + "ies" if noun.endswith("y") else noun + "s", *rest])
            first = f"{self.unit} {wrong[0]}" + (f", {example}" if example else "")
            raise InputError(
                f"{self.path}: {len(wrong)} of {self.total} {units} {what} (first: {first}); {remedy}"
            )


def first_of(items: Iterable[object], count: int = 3) -> str:
    """Return the first `count` items joined for a message: `a, b, c, …`."""
    items = list(items)
    return ", ".join(str(item) for item in items[:count]) + (", …" if len(items) > count else "")
