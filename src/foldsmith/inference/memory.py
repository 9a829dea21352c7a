"""How many images are predicted at a time: half as many where a GPU's memory runs out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from foldsmith.process.terminal import say

Made = TypeVar("Made")


@dataclass
class Portion:
    """At most `size` images at a time. Who predicts more than once keeps it: what did not fit is not tried
    again."""

    size: int

    def made_of(self, images: torch.Tensor, make: Callable[[torch.Tensor], Made]) -> Iterator[Made]:
        """What `make` gives for the images (B, ...), in their order, in parts that fit into memory.

        Raises torch.OutOfMemoryError if one image alone does not.
        """
        start = 0
        while start < len(images):
            part = images[start : start + self.size]
            try:
                made = make(part)
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise
                reason = reason_of(error)
            else:
                yield made
                start += len(part)
                continue
            # outside of `except`: until there the error keeps the attempt's tensors alive
            self.size = (len(part) + 1) // 2
            say(f"{reason}: from here on at most {self.size} images are predicted at a time")
            torch.cuda.empty_cache()  # nothing without a GPU


def reason_of(error: torch.OutOfMemoryError) -> str:
    """The first sentence: what follows it are numbers and advice for programmers."""
    return str(error).partition(".")[0]
