"""How often a campaign keeps a useless step: simulated on the stored predictions of a real run.

.venv/bin/python tests/benchmarks/campaign_trap.py output/flowers102/probe --seeds 200

Each simulated campaign has the run as its first answer, and `--steps` useless steps. A useless step predicts
as the run does, but for a share of the images: a coin decides for each whether a mistake of the run is right
in the step, or the other way round. What is right comes from one fold as far as it goes: the step is better
there, and over all images by luck alone. Beside the rule of a campaign stands the one that people use, a
better score by more than one standard error.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import numpy as np

from foldsmith.campaign.judge import Images, allowed_p, judge
from foldsmith.evaluation.resampling import gain_with_error
from foldsmith.grid.scores import load_held_out, metric_of
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import trained_folds


def useless(images: Images, predictions: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return predictions that differ on a share of the images, for better or worse by a coin."""
    draws, changed = np.random.default_rng(seed), predictions.copy()
    right = predictions.argmax(axis=1) == images.targets
    lucky = images.folds == draws.integers(images.folds.max() + 1)
    count = min(round(share * len(right)), int((~right).sum()))
    num_gained = draws.binomial(count, 0.5)
    wrong_ones = [draws.permutation(np.flatnonzero(rows & ~right)) for rows in (lucky, ~lucky)]
    gained = np.concatenate(wrong_ones)[:num_gained]
    lost = draws.permutation(np.flatnonzero(~lucky & right))[: count - num_gained]
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
    parser.add_argument("--share", type=float, default=0.05, help="of the images, on which a step differs")
    typed = parser.parse_args()
    run = RunPaths(typed.run)
    folds = trained_folds(run)
    task, metric = metric_of(run, "")
    held_out = load_held_out(run, folds, task)
    base = held_out.predictions
    kept: dict[str, list[list[bool]]] = {"campaign": [], "more than one error": []}
    for seed in range(typed.seeds):
        images = Images(held_out.targets, held_out.folds, task.with_metric(metric), metric, seed)
        steps = [useless(images, base, typed.share, 1000 * seed + step) for step in range(typed.steps)]
        verdicts = [judge(images, [base], [base, step], allowed_p(0, typed.steps, 0)) for step in steps]
        kept["campaign"].append([verdict.kept for verdict in verdicts])
        gains = [gain_with_error(images.targets, base, step, metric, seed) for step in steps]
        kept["more than one error"].append([gain.exceeds_error and gain.difference > 0 for gain in gains])
    print(f"{typed.run}: {typed.seeds} campaigns of {typed.steps} useless steps, kept by the rule")
    for rule, found in kept.items():
        share = np.mean([any(row) for row in found])
        print(f"  {rule}: {np.sum(found)} of {np.size(found)} steps, one or more in {share:.1%} of campaigns")


if __name__ == "__main__":
    main()
