"""The learning rate of every step."""

import numpy as np

from foldsmith.errors import unknown_name

SCHEDULES = ("cosine", "one-cycle", "constant")


def learning_rates(schedule: str, lr: float, warmup_steps: int, num_steps: int) -> np.ndarray:
    """Return the learning rate of each step, float64 (num_steps,): a linear warm-up, then the schedule.

    `cosine` falls to zero: Loshchilov and Hutter, SGDR, 2017 (without restarts). `one-cycle` falls to zero
    linearly: Smith and Topin, Super-Convergence, 2018. `constant` stays at `lr`. Raise InputError for an
    unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)
    steps = np.arange(num_steps)
    rise = (steps + 1) / (warmup_steps + 1)
    progress = np.clip((steps - warmup_steps) / max(num_steps - warmup_steps, 1), 0, 1)
    falls = {"cosine": (1 + np.cos(np.pi * progress)) / 2, "one-cycle": 1 - progress}
    fall = falls.get(schedule, np.ones(num_steps))
    return lr * np.where(steps < warmup_steps, rise, fall)
