"""The batch size of prediction, halved when a GPU's memory runs out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from foldsmith.process.terminal import say

Output = TypeVar("Output")


@dataclass
class BatchLimit:
    """The largest batch that memory has room for, as far as known.

    Reuse one instance for several predictions so that a failed batch size is not retried.
    """

    size: int  # images

    def map_batches(
        self, images: torch.Tensor, forward: Callable[[torch.Tensor], Output]
    ) -> Iterator[Output]:
        """Yield `forward(batch)` for the images (B, ...), in order, in batches that fit into memory.

        Raise torch.OutOfMemoryError if a single image does not fit.
        """
        start = 0
        while start < len(images):
            batch = images[start : start + self.size]
            try:
                output = forward(batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise
                reason = first_sentence(error)
            else:
                yield output
                start += len(batch)
                continue
            # outside of `except`, within which the error would keep the failed attempt's tensors alive
            self.size = (len(batch) + 1) // 2
            say(f"{reason}: predicting at most {self.size} images at a time from now on")
            torch.cuda.empty_cache()  # does nothing without a GPU


def first_sentence(error: torch.OutOfMemoryError) -> str:
    """Return the first sentence of the message; the rest are numbers and advice for programmers."""
    return str(error).partition(".")[0]
