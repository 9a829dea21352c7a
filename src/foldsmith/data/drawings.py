"""Draw the demo competition's images: ten shapes in eight colours on textured, muted backgrounds."""

from collections.abc import Callable

import cv2
import numpy as np

from foldsmith.errors import unknown_name

SIZE = 64
SUPERSAMPLING = 4

# Backgrounds are greyish and of medium brightness, so that every colour differs from them and the others.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 32, 38),
    "yellow": (246, 216, 28),
    "green": (34, 158, 48),
    "cyan": (38, 212, 232),
    "blue": (32, 56, 214),
    "magenta": (222, 44, 204),
    "white": (250, 250, 250),
    "black": (10, 10, 12),
}


def _arc(start: float, stop: float, radius: float) -> np.ndarray:
    """Return points along an arc around the origin, angles in degrees: (48, 2)."""
    angles = np.radians(np.linspace(start, stop, 48))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius


def _corners(count: int) -> np.ndarray:
    """Return the corners of a regular polygon in the unit circle: (count, 2)."""
    angles = np.arange(count) * 2 * np.pi / count
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def _box(half_width: float, half_height: float) -> np.ndarray:
    return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (half_width, half_height)


def _disc() -> list[np.ndarray]:
    return [_arc(0, 360, 0.9)]


def _ring() -> list[np.ndarray]:
    return [_arc(0, 360, 1.0), _arc(0, 360, 0.55)]


def _triangle() -> list[np.ndarray]:
    return [_corners(3) * 1.1]


def _square() -> list[np.ndarray]:
    return [_box(0.75, 0.75)]


def _star() -> list[np.ndarray]:
    radii = np.tile([1.1, 0.44], 5)
    return [_corners(10) * radii[:, None]]


def _cross() -> list[np.ndarray]:
    arm, tip = 0.3, 1.0
    quarter = [(arm, -tip), (arm, -arm), (tip, -arm)]
    turn = np.array([[0, 1], [-1, 0]])
    return [np.concatenate([quarter @ np.linalg.matrix_power(turn, count) for count in range(4)])]


def _crescent() -> list[np.ndarray]:
    # the inner circle intersects the outer one at +-50 degrees; its far side is the concave edge
    centre = np.array([0.62, 0])
    across, up = _arc(50, 50, 1.0)[0] - centre
    inner_angle = float(np.degrees(np.arctan2(up, across)))
    inner = _arc(360 - inner_angle, inner_angle, float(np.hypot(across, up))) + centre
    return [np.concatenate([_arc(50, 310, 1.0), inner])]


def _bar() -> list[np.ndarray]:
    return [_box(1.1, 0.27)]


def _rails() -> list[np.ndarray]:
    return [_box(0.95, 0.23) + (0, -0.5), _box(0.95, 0.23) + (0, 0.5)]


def _dots() -> list[np.ndarray]:
    return [_arc(0, 360, 0.4) + corner for corner in _corners(3) * 0.7]


# Every outline is its own mirror image, so no rotation or flip turns one class into another.
SHAPES: dict[str, Callable[[], list[np.ndarray]]] = {
    "disc": _disc,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "bar": _bar,
    "rails": _rails,
    "dots": _dots,
}

CLASSES = tuple((shape, colour) for shape in SHAPES for colour in COLOURS)
CLASS_NAMES = tuple(f"{colour} {shape}" for shape, colour in CLASSES)


def draw(shape: str, colour: str, rng: np.random.Generator) -> np.ndarray:
    """Return a shape of random position, size and angle on a random background: uint8 (64, 64, 3) RGB.

    The image depends on the generator's state alone. Raise InputError for an unknown shape or colour.
    """
    if shape not in SHAPES:
        raise unknown_name("shape", shape, SHAPES)
    if colour not in COLOURS:
        raise unknown_name("colour", colour, COLOURS)
    coverage = _coverage(SHAPES[shape](), rng)[..., None]  # (64, 64, 1), 0 to 1
    background = _background(rng)  # (64, 64, 3)
    paint = np.array(COLOURS[colour]) * rng.uniform(0.9, 1.05) + rng.uniform(-8, 8, size=3)
    image = background * (1 - coverage) + paint * coverage
    image += rng.normal(0, rng.uniform(1, 7), size=image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _coverage(outlines: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return the share of each pixel that the randomly placed shape covers: (64, 64), 0 to 1."""
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = rng.uniform(0.92, 1.08)
    radius = rng.uniform(20, 27)
    placed = [outline @ np.diag([stretch, 1 / stretch]) @ turn.T * radius for outline in outlines]
    reach = np.abs(np.concatenate(placed)).max(axis=0)
    room = np.maximum(SIZE / 2 - 1 - reach, 0)
    centre = SIZE / 2 + rng.uniform(-1, 1, size=2) * room
    canvas = np.zeros((SIZE * SUPERSAMPLING, SIZE * SUPERSAMPLING), dtype=np.uint8)
    # one call for all outlines, so that a ring's second outline cuts its hole
    cv2.fillPoly(
        canvas, [np.rint((outline + centre) * SUPERSAMPLING).astype(np.int32) for outline in placed], 255
    )
    return cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA) / 255.0


def _background(rng: np.random.Generator) -> np.ndarray:
    """Return a gradient with blotches and faint stripes of muted colours: float64 (64, 64, 3)."""
    tint = rng.uniform(-24, 24, size=3)
    start, stop = _muted(rng, 2)
    angle = rng.uniform(0, 2 * np.pi)
    steps = np.linspace(-0.5, 0.5, SIZE)
    along = steps[None, :] * np.cos(angle) + steps[:, None] * np.sin(angle)  # (64, 64), -0.71 to 0.71
    gradient = start + (stop - start) * np.clip(0.5 + along, 0, 1)[..., None]
    cells = int(rng.integers(3, 10))
    patches = _muted(rng, cells * cells).reshape(cells, cells, 3)
    blotches = cv2.resize(patches, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    share = rng.uniform(0, 0.8)
    stripes = rng.uniform(0, 12) * np.sin(along * rng.uniform(6, 60) + angle)
    return gradient * (1 - share) + blotches * share + stripes[..., None] + tint


def _muted(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return greyish colours of medium brightness: float64 (count, 3)."""
    return rng.uniform(85, 170, size=(count, 1)) + rng.uniform(-16, 16, size=(count, 3))
