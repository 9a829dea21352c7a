"""Seeds for every source of randomness: a function of the run's seed and the purpose alone."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, for example `derive_seed(seed, "order", fold, epoch)`.

    It does not depend on the number of workers, on what ran before, or on time.
    """
    text = "/".join(str(key) for key in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
