"""Natural order of names: 2.jpg before 10.jpg."""

import re


def natural_key(text: str) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key that compares digits in names as numbers: 2.jpg before 10.jpg."""
    tokens = re.split(r"([0-9]+)", text)  # every second token is a number
    # digits are compared by length, then by value: the order of numbers, without a limit on their size
    digits = [token.lstrip("0") for token in tokens]
    keys = [
        (len(digits[index]), digits[index]) if index % 2 else (0, token) for index, token in enumerate(tokens)
    ]
    return keys, text
