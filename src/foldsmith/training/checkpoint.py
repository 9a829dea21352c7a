"""A checkpoint: what a fold needs to go on after its last finished epoch."""

import pickle
from pathlib import Path

import torch

from foldsmith.errors import InputError
from foldsmith.files import written_whole
from foldsmith.training.state import TrainingState

Log = list[dict[str, float]]


def save_checkpoint(path: Path, state: TrainingState, log: Log, made_from: str) -> None:
    """Saves state and log after an epoch; `made_from` is the digest of what they belong to."""
    with written_whole(path) as temporary:
        torch.save({"made_from": made_from, "log": log, "state": state.state_dict()}, temporary)


def load_checkpoint(path: Path, state: TrainingState, made_from: str) -> Log:
    """Restores `state` in place and returns the log, a row for every finished epoch.

    Empty, and `state` untouched, if there is no checkpoint or it was made from something else. Raises
    InputError if it is damaged.
    """
    if not path.is_file():
        return []
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise InputError(f"{path} is damaged; remove it, and the fold starts anew.") from error
    if checkpoint["made_from"] != made_from:
        return []
    state.load_state_dict(checkpoint["state"])
    return checkpoint["log"]
