"""One owner of randomness: every draw is a function of the seed and of what it is drawn for."""

import hashlib


def derive_seed(seed: int, *what: str | int) -> int:
    """A 63-bit seed for one purpose, for example `derive_seed(seed, "order", fold, epoch)`.

    It depends on nothing else: not on the number of workers, on what ran before, or on time.
    """
    text = "/".join(str(part) for part in (seed, *what))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
