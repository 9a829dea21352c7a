"""Natural order of names: 2.jpg before 10.jpg."""

import re


def natural_key(text: str) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key that compares digits in names as numbers: 2.jpg before 10.jpg."""
    parts = re.split(r"([0-9]+)", text)
    # digits are compared by length, then by value: the order of numbers, without a limit on their size
    digits = [part.lstrip("0") for part in parts]
    keys = [(len(digits[at]), digits[at]) if at % 2 else (0, part) for at, part in enumerate(parts)]
    return keys, text
