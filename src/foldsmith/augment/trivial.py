"""TrivialAugment: one operation an image, of any strength (Müller and Hutter 2021; its wide space).

Draws alone, for a whole batch; B images · S the side of an image.
"""

import numpy as np

from foldsmith.augment.colours import LUMA

OPERATIONS = (
    "identity", "shear-x", "shear-y", "translate-x", "translate-y", "rotate", "brightness", "colour",
    "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
LEVELS = 31  # of strength, from none to the greatest
# the greatest of the wide space, each way
SHEAR, SHIFT, TURN, CHANGE = 0.99, 32.0, 135.0, 0.99  # share, pixels, degrees, share
BITS = 6  # of eight, that posterize takes away
SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # Pillow's SMOOTH
# what Draws.affine and Draws.table are where they change nothing
UNMOVED, UNCHANGED = np.eye(2, 3), np.arange(256, dtype=np.uint8)
AUTOCONTRAST, EQUALIZE = 1, 2  # what Draws.spread says


def draw_trivial(
    stream: np.random.Generator, count: int, size: int, strength: float
) -> dict[str, np.ndarray]:
    """Fields of Draws for `count` images of `size` pixels; `strength` is a share of the published one."""
    chosen = stream.integers(len(OPERATIONS), size=count)
    level = strength * stream.integers(LEVELS, size=count) / (LEVELS - 1)
    signed = level * stream.choice([-1.0, 1.0], count)

    def amount(operation: str, greatest: float) -> np.ndarray:
        """Of the images that have this operation; 0 for the others (B,)."""
        return np.where(chosen == OPERATIONS.index(operation), signed * greatest, 0.0)

    angle = np.radians(amount("rotate", TURN))
    across = np.stack([np.cos(angle), amount("shear-x", SHEAR) - np.sin(angle)], axis=1)
    down = np.stack([amount("shear-y", SHEAR) + np.sin(angle), np.cos(angle)], axis=1)
    turn = np.stack([across, down], axis=1)  # (B, 2, 2)
    # turned about the centre, sheared about the corner, from middles of pixels to middles of pixels
    pivot = np.where(angle[:, None] != 0, size / 2, 0.0) * np.ones(2)
    offset = np.stack([amount("translate-x", SHIFT), amount("translate-y", SHIFT)], axis=1)
    offset = offset + pivot - 0.5 + np.einsum("bij,bj->bi", turn, 0.5 - pivot)

    brightness, saturation, contrast = (
        1 + amount(operation, CHANGE) for operation in ("brightness", "colour", "contrast")
    )
    grey = np.tile(LUMA, (3, 1))
    colour = grey + saturation[:, None, None] * (np.eye(3) - grey)
    colour = (brightness * contrast)[:, None, None] * colour

    spread = np.zeros(count, np.int64)
    spread[chosen == OPERATIONS.index("autocontrast")] = AUTOCONTRAST
    spread[chosen == OPERATIONS.index("equalize")] = EQUALIZE
    return {
        "affine": np.concatenate([turn, offset[:, :, None]], axis=2),
        "colour": colour.astype(np.float32),
        "lift": (brightness * (1 - contrast)).astype(np.float32),
        "sharpness": 1 + amount("sharpness", CHANGE),
        "table": _tables(chosen, level),
        "spread": spread,
    }


def _tables(chosen: np.ndarray, level: np.ndarray) -> np.ndarray:
    """What posterize and solarize make of every grey level, uint8 (B, 256)."""
    levels = np.arange(256)
    tables = np.tile(levels, (len(chosen), 1))
    posterized = chosen == OPERATIONS.index("posterize")
    step = 2 ** np.round(BITS * level[posterized]).astype(int)[:, None]
    tables[posterized] = levels // step * step
    solarized = chosen == OPERATIONS.index("solarize")
    threshold = 255 * (1 - level[solarized])[:, None]
    tables[solarized] = np.where(levels < threshold, levels, 255 - levels)
    return tables.astype(np.uint8)


def spreading_table(kind: int, counts: np.ndarray) -> np.ndarray:
    """The table (256,) that autocontrast or equalize makes of how often (256,) each grey level comes.

    As Pillow's ImageOps: autocontrast stretches what there is to 0 … 255; equalize gives each level the share
    of the pixels below it.
    """
    found = np.flatnonzero(counts)
    low, high = found[0], found[-1]
    levels = np.arange(256)
    if kind == AUTOCONTRAST and high > low:
        return np.clip((levels - low) * 255 // (high - low), 0, 255).astype(np.uint8)
    step = (counts.sum() - counts[high]) // 255
    if kind == EQUALIZE and step:
        below = np.cumsum(counts) - counts
        return np.minimum((below + step // 2) // step, 255).astype(np.uint8)
    return levels.astype(np.uint8)
