"""How often a campaign keeps a useless step: simulated on the stored predictions of a real run.

.venv/bin/python tests/benchmarks/campaign_trap.py output/flowers102/probe --seeds 200

Each simulated campaign has the run as its first answer, and `--steps` useless steps. A useless step predicts
as the run does, but for images that luck exchanges: in one fold some of its mistakes are right, in the other
folds as many right images are mistaken. So it is better on one fold, and no better over all.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import numpy as np

from foldsmith.campaign.judge import Images, judge
from foldsmith.grid.scores import load_held_out, metric_of
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import trained_folds


def useless(images: Images, predictions: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return predictions that are better on one fold by luck, with as many mistakes over all images."""
    draws, changed = np.random.default_rng(seed), predictions.copy()
    right = predictions.argmax(axis=1) == images.targets
    lucky = images.folds == draws.integers(images.folds.max() + 1)
    count = round(share * lucky.sum())
    gained = draws.permutation(np.flatnonzero(lucky & ~right))[:count]
    lost = draws.permutation(np.flatnonzero(~lucky & right))[: len(gained)]
    wrong = (images.targets[lost] + draws.integers(1, predictions.shape[1], len(lost))) % predictions.shape[1]
    for rows, classes in ((gained, images.targets[gained]), (lost, wrong)):
        top = changed[rows].argmax(axis=1)
        held = changed[rows, top].copy()
        changed[rows, top], changed[rows, classes] = changed[rows, classes], held
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--steps", type=int, default=4, help="useless steps of a campaign")
    parser.add_argument("--share", type=float, default=0.05, help="of the lucky fold, exchanged")
    typed = parser.parse_args()
    run = RunPaths(typed.run)
    folds = trained_folds(run)
    task, metric = metric_of(run, "")
    held_out = load_held_out(run, folds, task)
    base = held_out.predictions
    kept_steps = kept_campaigns = 0
    for seed in range(typed.seeds):
        images = Images(held_out.targets, held_out.folds, task.with_metric(metric), metric, seed)
        verdicts = [
            judge(images, [base], useless(images, base, typed.share, 1000 * seed + step), typed.steps, 0)
            for step in range(typed.steps)
        ]
        kept_steps += sum(verdict.kept for verdict in verdicts)
        kept_campaigns += any(verdict.kept for verdict in verdicts)
    steps = typed.seeds * typed.steps
    print(f"{typed.run}: {kept_steps} of {steps} useless steps were kept ({kept_steps / steps:.1%})")
    share = kept_campaigns / typed.seeds
    print(f"  {kept_campaigns} of {typed.seeds} campaigns kept one ({share:.1%})")


if __name__ == "__main__":
    main()
