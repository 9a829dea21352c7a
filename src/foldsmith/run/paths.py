"""The name of every file a run reads or writes, and nothing else."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FoldPaths:
    """The files of a trained fold: `fold<k>/`.

    Those of its first network and of its last round lie in the folder itself; of further networks in `seed1`,
    `seed2` …, of earlier rounds in `round1`, `round2` …, which are such folders too.
    """

    root: Path

    @property
    def weights(self) -> Path:
        return self.root / "weights.safetensors"

    @property
    def run(self) -> Path:
        return self.root / "run.json"

    @property
    def log(self) -> Path:
        return self.root / "log.csv"

    @property
    def heldout(self) -> Path:
        return self.root / "heldout.npz"

    @property
    def heldout_stamp(self) -> Path:
        """Which weights and views made heldout.npz."""
        return self.root / "heldout.json"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.pt"

    @property
    def pseudo_labels(self) -> Path:
        """The test images that were trained on, with the labels that the round before gave them."""
        return self.root / "pseudo_labels.csv"

    @property
    def pseudo_stamp(self) -> Path:
        """Which networks gave those labels."""
        return self.root / "pseudo_labels.json"

    def seed(self, number: int) -> "FoldPaths":
        return FoldPaths(self.root / f"seed{number}")

    def round(self, number: int) -> "FoldPaths":
        return FoldPaths(self.root / f"round{number}")

    def all_weights(self, seeds: int) -> list[Path]:
        """Those of all networks that predict together."""
        return [self.weights, *(self.seed(number).weights for number in range(1, seeds))]


@dataclass(frozen=True)
class RunPaths:
    """The files of one run: `output/<competition>/<run>/`."""

    root: Path

    @property
    def identity(self) -> Path:
        """Which recipe, folds and data this run name stands for."""
        return self.root / "identity.json"

    @property
    def cache_root(self) -> Path:
        """Decoded pixels of the competition, shared by its runs."""
        return self.root.parent / "cache"

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run."""
        return self.root / ".lock"

    def stamp(self, stage: str) -> Path:
        """What a finished stage was made from."""
        return self.root / "stamps" / f"{stage}.json"

    @property
    def samples(self) -> Path:
        return self.root / "samples.csv"

    @property
    def test_samples(self) -> Path:
        return self.root / "test_samples.csv"

    @property
    def classes(self) -> Path:
        return self.root / "classes.csv"

    @property
    def problems(self) -> Path:
        return self.root / "problems.csv"

    @property
    def folds(self) -> Path:
        return self.root / "folds.csv"

    def pretrained(self, part: str) -> Path:
        """Weights of a part of the network, `encoder` or an autoencoder's `decoder`, after pretraining."""
        return self.root / "pretrain" / f"{part}.safetensors"

    @property
    def pretrain_run(self) -> Path:
        return self.root / "pretrain" / "run.json"

    @property
    def pretrain_log(self) -> Path:
        return self.root / "pretrain" / "log.csv"

    @property
    def pretrain_checkpoint(self) -> Path:
        return self.root / "pretrain" / "checkpoint.pt"

    @property
    def reconstructions(self) -> Path:
        return self.root / "pretrain" / "reconstructions.png"

    def fold(self, fold: int) -> Path:
        return self.root / f"fold{fold}"

    def of_fold(self, fold: int) -> FoldPaths:
        return FoldPaths(self.fold(fold))

    def weights(self, fold: int) -> Path:
        return self.of_fold(fold).weights

    def fold_run(self, fold: int) -> Path:
        return self.of_fold(fold).run

    def log(self, fold: int) -> Path:
        return self.of_fold(fold).log

    def heldout(self, fold: int) -> Path:
        return self.of_fold(fold).heldout

    def heldout_stamp(self, fold: int) -> Path:
        return self.of_fold(fold).heldout_stamp

    def checkpoint(self, fold: int) -> Path:
        return self.of_fold(fold).checkpoint

    @property
    def oof_table(self) -> Path:
        return self.root / "oof.csv"

    @property
    def oof(self) -> Path:
        return self.root / "oof.npz"

    @property
    def cv(self) -> Path:
        return self.root / "cv.json"

    @property
    def views(self) -> Path:
        """What every test-time view made of the held-out images."""
        return self.root / "views.npz"

    @property
    def features(self) -> Path:
        """What enters the last layer of the first network, for held-out and test images."""
        return self.root / "features.npz"

    @property
    def label_issues(self) -> Path:
        return self.root / "label_issues.csv"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def test(self) -> Path:
        return self.root / "test.npz"

    @property
    def blend(self) -> Path:
        """Which runs this one was made of, with their weights; only a blend or an average has it."""
        return self.root / "blend.json"

    def look(self, image: str) -> Path:
        """The picture of what a network makes of an image of that file name."""
        return self.root / "look" / f"{image}.png"

    @property
    def submission(self) -> Path:
        return self.root / "submission.csv"


def truth_path(folder: Path) -> Path:
    """Where the test's labels lie, if somebody has them: beside the folder, where no stage looks."""
    return folder.parent / f"{folder.name}-truth.csv"
