"""The learning rate of every step."""

import numpy as np

from foldsmith.errors import unknown_name

SCHEDULES = ("cosine", "constant")


def learning_rates(schedule: str, lr: float, warmup_steps: int, num_steps: int) -> np.ndarray:
    """The rate of each step, float64 (num_steps,): a linear rise, then cosine to zero or constant.

    Cosine: Loshchilov and Hutter, SGDR, 2017 (without restarts). Raises InputError for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)
    steps = np.arange(num_steps)
    rise = (steps + 1) / (warmup_steps + 1)
    progress = np.clip((steps - warmup_steps) / max(num_steps - warmup_steps, 1), 0, 1)
    fall = (1 + np.cos(np.pi * progress)) / 2 if schedule == "cosine" else np.ones(num_steps)
    return lr * np.where(steps < warmup_steps, rise, fall)
