"""TrivialAugment: one random operation an image at a random level (Müller and Hutter 2021; the wide space).

Only samples the parameters, for a whole batch. B images a batch · S the side of an image.
"""

import numpy as np

from foldsmith.augment.colours import LUMA

OPERATIONS = (
    "identity", "shear-x", "shear-y", "translate-x", "translate-y", "rotate", "brightness", "colour",
    "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
LEVELS = 31  # of magnitude, from none to the maximum
# maximum of the wide space, in both directions
SHEAR, TRANSLATION, ROTATION, CHANGE = 0.99, 32.0, 135.0, 0.99  # share, pixels, degrees, share
BITS = 6  # of eight; the most that posterize removes
SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # Pillow's SMOOTH
# the identity of Draws.affine and Draws.table
UNMOVED, UNCHANGED = np.eye(2, 3), np.arange(256, dtype=np.uint8)
AUTOCONTRAST, EQUALIZE = 1, 2  # values of Draws.spread


def draw_trivial(
    stream: np.random.Generator, count: int, size: int, strength: float
) -> dict[str, np.ndarray]:
    """Sample fields of Draws for `count` images of `size` pixels; `strength` scales the published maximum."""
    chosen = stream.integers(len(OPERATIONS), size=count)
    level = strength * stream.integers(LEVELS, size=count) / (LEVELS - 1)
    signed = level * stream.choice([-1.0, 1.0], count)

    def magnitude(operation: str, maximum: float) -> np.ndarray:
        """Return the magnitude (B,) of an operation, 0 for images that sampled another one."""
        return np.where(chosen == OPERATIONS.index(operation), signed * maximum, 0.0)

    angle = np.radians(magnitude("rotate", ROTATION))
    row_x = np.stack([np.cos(angle), magnitude("shear-x", SHEAR) - np.sin(angle)], axis=1)
    row_y = np.stack([magnitude("shear-y", SHEAR) + np.sin(angle), np.cos(angle)], axis=1)
    linear = np.stack([row_x, row_y], axis=1)  # (B, 2, 2)
    # rotation about the centre, shear about the corner; coordinates are those of pixel centres
    pivot = np.where(angle[:, None] != 0, size / 2, 0.0) * np.ones(2)
    offset = np.stack([magnitude(f"translate-{axis}", TRANSLATION) for axis in "xy"], axis=1)
    offset = offset + pivot - 0.5 + np.einsum("bij,bj->bi", linear, 0.5 - pivot)

    brightness, saturation, contrast = (
        1 + magnitude(operation, CHANGE) for operation in ("brightness", "colour", "contrast")
    )
    grey = np.tile(LUMA, (3, 1))
    colour = grey + saturation[:, None, None] * (np.eye(3) - grey)
    colour = (brightness * contrast)[:, None, None] * colour

    spread = np.zeros(count, np.int64)
    spread[chosen == OPERATIONS.index("autocontrast")] = AUTOCONTRAST
    spread[chosen == OPERATIONS.index("equalize")] = EQUALIZE
    return {
        "affine": np.concatenate([linear, offset[:, :, None]], axis=2),
        "colour": colour.astype(np.float32),
        "lift": (brightness * (1 - contrast)).astype(np.float32),
        "sharpness": 1 + magnitude("sharpness", CHANGE),
        "table": _tables(chosen, level),
        "spread": spread,
    }


def _tables(chosen: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Return the lookup tables of posterize and solarize, uint8 (B, 256); the identity for other images."""
    levels = np.arange(256)
    tables = np.tile(levels, (len(chosen), 1))
    posterized = chosen == OPERATIONS.index("posterize")
    step = 2 ** np.round(BITS * level[posterized]).astype(int)[:, None]
    tables[posterized] = levels // step * step
    solarized = chosen == OPERATIONS.index("solarize")
    threshold = 255 * (1 - level[solarized])[:, None]
    tables[solarized] = np.where(levels < threshold, levels, 255 - levels)
    return tables.astype(np.uint8)


def contrast_table(kind: int, counts: np.ndarray) -> np.ndarray:
    """Return the lookup table (256,) of autocontrast or equalize for a histogram (256,) of grey levels.

    As Pillow's ImageOps: autocontrast stretches the levels that occur to 0 … 255; equalize maps a level to
    the share of pixels below it.
    """
    present = np.flatnonzero(counts)
    low, high = present[0], present[-1]
    levels = np.arange(256)
    if kind == AUTOCONTRAST and high > low:
        return np.clip((levels - low) * 255 // (high - low), 0, 255).astype(np.uint8)
    step = (counts.sum() - counts[high]) // 255
    if kind == EQUALIZE and step:
        below = np.cumsum(counts) - counts
        return np.minimum((below + step // 2) // step, 255).astype(np.uint8)
    return levels.astype(np.uint8)
