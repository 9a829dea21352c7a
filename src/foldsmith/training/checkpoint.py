"""Checkpoints: a training resumes from them after any step, and gives the same bytes."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from foldsmith.process.files import atomic_write
from foldsmith.process.terminal import say
from foldsmith.training.epoch import Tally
from foldsmith.training.state import TrainingState

Log = list[dict[str, float]]
DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass
class Position:
    """The progress of a training: the log of finished epochs, and the totals of the current one.

    `tally` is None between epochs. `micro_batch` is the size that fits in memory, 0 for whole batches.
    """

    log: Log = field(default_factory=list)
    tally: Tally | None = None
    micro_batch: int = 0

    @property
    def step(self) -> int:
        """The number of finished steps of the current epoch."""
        return self.tally.step if self.tally else 0

    def end_epoch(self, entry: dict[str, float]) -> None:
        self.log.append(entry)
        self.tally = None


def save_checkpoint(path: Path, state: TrainingState, position: Position, provenance_digest: str) -> None:
    """Save state, position and random streams, with the digest of the training's inputs.

    The previous checkpoint is kept under another name, in case this one is damaged.
    """
    content = io.BytesIO()
    tally = vars(position.tally) if position.tally else None
    saved = {
        "made_from": provenance_digest,
        "log": position.log,
        "tally": tally,
        "micro_batch": position.micro_batch,
        "random": {"cpu": torch.get_rng_state(), "cuda": _cuda_state()},
        "state": state.state_dict(),
    }
    torch.save(saved, content)
    with atomic_write(path) as temporary:
        with temporary.open("wb") as file:
            file.write(hashlib.sha256(content.getbuffer()).digest())
            file.write(content.getbuffer())
        if path.is_file():
            path.replace(previous_of(path))


def load_checkpoint(path: Path, state: TrainingState, provenance_digest: str) -> Position:
    """Restore `state` and the random streams in place; return the position, a new one without a checkpoint.

    A checkpoint that is damaged or has another digest is reported and renamed; then the previous one is
    tried.
    """
    for candidate in (path, previous_of(path)):
        if not candidate.is_file():
            continue
        saved, fault = _read(candidate, provenance_digest)
        if fault:
            aside = candidate.with_name(f"{candidate.name}.aside")
            candidate.replace(aside)
            say(f"{candidate} {fault}; it is set aside as {aside.name}")
            continue
        state.load_state_dict(saved["state"])
        torch.set_rng_state(saved["random"]["cpu"])
        if saved["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(saved["random"]["cuda"])
        tally = Tally(**saved["tally"]) if saved["tally"] else None
        return Position(saved["log"], tally, saved["micro_batch"])
    return Position()


def previous_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")


def _read(path: Path, provenance_digest: str) -> tuple[dict[str, Any], str]:
    """Return the content of a checkpoint, and its fault in words; empty without a fault."""
    data = path.read_bytes()
    digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return {}, "is damaged"
    saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if saved["made_from"] != provenance_digest:
        return {}, "is of other inputs or another machine"
    return saved, ""


def _cuda_state() -> torch.Tensor | None:
    """Return the random state of this process's GPU, or None; a training may resume on another GPU."""
    return torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
