"""Views of test-time augmentation: each maps images (B, C, H, W) to (B, C, H, W) or (B, C, W, H)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from foldsmith.errors import unknown_name

if TYPE_CHECKING:
    import torch

SHIFT = 32  # a shifted view moves by the image's side divided by this: a pixel of 32


def _shifted(images: "torch.Tensor", toward: int, mirror: bool) -> "torch.Tensor":
    """Return images (B, C, H, W), mirrored first if wanted, that are moved along the diagonal.

    Down and to the right by a positive `toward`, up and to the left by a negative one. What moves in is the
    reflection of what is inside.
    """
    from torch.nn.functional import pad  # torch takes a second, and a recipe is checked without it

    images = images.flip(3) if mirror else images
    height, width = images.shape[2:]
    # an image of a single pixel stays where it is
    down, right = (min(max(1, round(side / SHIFT)), side - 1) for side in (height, width))
    top, left = (0, 0) if toward > 0 else (2 * down, 2 * right)
    around = pad(images, (right, right, down, down), mode="reflect")
    return around[:, :, top : top + height, left : left + width]


VIEWS: dict[str, "Callable[[torch.Tensor], torch.Tensor]"] = {
    "identity": lambda images: images,
    "hflip": lambda images: images.flip(3),
    "vflip": lambda images: images.flip(2),
    "rot90": lambda images: images.rot90(1, (2, 3)),
    "rot180": lambda images: images.flip(2).flip(3),
    "rot270": lambda images: images.rot90(3, (2, 3)),
    "transpose": lambda images: images.transpose(2, 3),
    "antitranspose": lambda images: images.transpose(2, 3).flip(2).flip(3),
    "up-left": partial(_shifted, toward=-1, mirror=False),
    "down-right": partial(_shifted, toward=1, mirror=False),
    "hflip-up-left": partial(_shifted, toward=-1, mirror=True),
    "hflip-down-right": partial(_shifted, toward=1, mirror=True),
}
# the views that are moved versions of a view
MOVED = {
    "identity": ("up-left", "down-right"),
    "hflip": ("hflip-up-left", "hflip-down-right"),
}


def with_shifted(views: Sequence[str]) -> tuple[str, ...]:
    """Return the views, and their moved versions after them; turned views have none."""
    return (*views, *(moved for view in views for moved in MOVED.get(view, ())))


def check_views(views: Sequence[str]) -> None:
    """Raise InputError for a view that is not in VIEWS."""
    for view in views:
        if view not in VIEWS:
            raise unknown_name("view", view, VIEWS)
