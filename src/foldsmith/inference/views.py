"""Views of test-time augmentation: each maps images (B, 3, H, W) to (B, 3, H, W) or (B, 3, W, H)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from foldsmith.errors import unknown_name

if TYPE_CHECKING:
    import torch

VIEWS: dict[str, "Callable[[torch.Tensor], torch.Tensor]"] = {
    "identity": lambda images: images,
    "hflip": lambda images: images.flip(3),
    "vflip": lambda images: images.flip(2),
    "rot90": lambda images: images.rot90(1, (2, 3)),
    "rot180": lambda images: images.flip(2).flip(3),
    "rot270": lambda images: images.rot90(3, (2, 3)),
    "transpose": lambda images: images.transpose(2, 3),
    "antitranspose": lambda images: images.transpose(2, 3).flip(2).flip(3),
}


def check_views(views: Sequence[str]) -> None:
    """Raise InputError for a view that is not in VIEWS."""
    for view in views:
        if view not in VIEWS:
            raise unknown_name("view", view, VIEWS)
