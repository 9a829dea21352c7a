"""The values of a recipe's fields in words, for messages and reports."""

import hashlib
from collections.abc import Sequence

from foldsmith.augment.albumentations_file import describe_augment


def as_typed(value: object) -> str:
    """Return a value as it is typed after --set."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def in_words(value: object) -> str:
    """Return a value as it is typed after --set, or the names of a pipeline's transforms."""
    return describe_augment(as_typed(value))


def in_distinct_words(values: Sequence[object]) -> list[str]:
    """Return `in_words` for values of one field.

    Pipelines with the same transforms and other arguments are told apart by a digest.
    """
    texts: dict[str, set[str]] = {}
    for value in values:
        texts.setdefault(in_words(value), set()).add(as_typed(value))
    return [
        in_words(value) + (f" ({_digest(as_typed(value))})" if len(texts[in_words(value)]) > 1 else "")
        for value in values
    ]


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=2).hexdigest()
