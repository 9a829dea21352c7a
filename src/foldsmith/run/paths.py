"""The paths of all files that a run reads or writes."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FoldPaths:
    """The files of a fold, in `fold<k>/`.

    Files of the first network and of the last round are in the folder itself. Other networks have folders
    `seed1`, `seed2` …, earlier rounds `round1`, `round2` …; these have the same files.
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
    def lock(self) -> Path:
        """The lock file, held by a process that trains this fold alone, beside those of other folds."""
        return self.root / ".lock"

    @property
    def heldout(self) -> Path:
        return self.root / "heldout.npz"

    @property
    def heldout_stamp(self) -> Path:
        """The stamp of heldout.npz, with the weights and views it was predicted from."""
        return self.root / "heldout.json"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.pt"

    @property
    def pseudo_labels(self) -> Path:
        """The pseudo-labelled test images that the round was trained on, with their labels."""
        return self.root / "pseudo_labels.csv"

    @property
    def pseudo_stamp(self) -> Path:
        """The stamp of pseudo_labels.csv, with the networks that predicted the labels."""
        return self.root / "pseudo_labels.json"

    def seed(self, number: int) -> "FoldPaths":
        return FoldPaths(self.root / f"seed{number}")

    def round(self, number: int) -> "FoldPaths":
        return FoldPaths(self.root / f"round{number}")

    def all_weights(self, seeds: int) -> list[Path]:
        """Return the weights of all networks of the fold, whose predictions are averaged."""
        return [self.weights, *(self.seed(number).weights for number in range(1, seeds))]


@dataclass(frozen=True)
class RunPaths:
    """The files of one run, in `output/<competition>/<run>/`."""

    root: Path

    @property
    def identity(self) -> Path:
        """The recipe, folds and data that the run's name stands for."""
        return self.root / "identity.json"

    @property
    def cache_root(self) -> Path:
        """The folder of decoded pixels, shared by all runs of the competition."""
        return self.root.parent / "cache"

    @property
    def lock(self) -> Path:
        """The lock file, held by the process that works on the run."""
        return self.root / ".lock"

    @property
    def threads(self) -> Path:
        """The number of threads that the run computes on, on a CPU."""
        return self.root / "threads.json"

    def stamp(self, stage: str) -> Path:
        """Return the stamp of a finished stage, with the digests of its inputs and outputs."""
        return self.root / "stamps" / f"{stage}.json"

    @property
    def found(self) -> Path:
        """The roles of the competition's files and columns, and by which evidence."""
        return self.root / "found.json"

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
    def corrections(self) -> Path:
        """The corrections of labels as they were applied; a run without any does not have this file."""
        return self.root / "corrections.csv"

    @property
    def folds(self) -> Path:
        return self.root / "folds.csv"

    def pretrained(self, module: str) -> Path:
        """Return the pretrained weights of an autoencoder's `encoder` or `decoder`."""
        return self.root / "pretrain" / f"{module}.safetensors"

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
        """The held-out predictions of each test-time view."""
        return self.root / "views.npz"

    @property
    def features(self) -> Path:
        """The inputs of the first network's last layer, for held-out and test images."""
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
        """The members of a blend or an average, with their weights; other runs do not have this file."""
        return self.root / "blend.json"

    def member(self, name: str) -> "RunPaths":
        """Return the member of a blend that blend.json names, by its path from the folder of the blend."""
        return RunPaths(Path(os.path.normpath(self.root.parent / name)))

    def look(self, image: str) -> Path:
        """Return the picture of a network's feature maps for an image of this file name."""
        return self.root / "look" / f"{image}.png"

    @property
    def submission(self) -> Path:
        return self.root / "submission.csv"

    def tracking(self, subfolder: str = "") -> Path:
        """Return what a tracker has of the log in a subfolder such as `fold0`, or of the scores."""
        return self.root / subfolder / "tracking.json"

    @property
    def kaggle(self) -> Path:
        """What was submitted to Kaggle, with its scores."""
        return self.root / "kaggle.json"


def truth_path(folder: Path) -> Path:
    """Return the path of the test labels, if you have them: beside the folder, read by src/score.py alone."""
    return folder.parent / f"{folder.name}-truth.csv"
