"""Where a campaign works, and the names of its runs."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from foldsmith.campaign.steps import Step
from foldsmith.errors import InputError
from foldsmith.process.files import atomic_copy
from foldsmith.run.identity import training_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import changed_outputs, digests_of_trained, is_from, trained_folds

ANSWER = "answer"  # ends the name of the blend that is the answer


@dataclass(frozen=True)
class Place:
    """Where a campaign works: the contest, the folder of its runs, its own folder in it, and shared words.

    `variant` is in the names of the runs' folders: a campaign on a sample of the images does not take the
    names of the whole one.
    """

    contest: Path
    runs: Path
    name: str
    shared: tuple[str, ...]
    metric: str
    variant: str = ""

    @property
    def own(self) -> Path:
        return self.runs / self.name

    @property
    def submission(self) -> Path:
        return self.own / "submission.csv"

    @property
    def answer(self) -> RunPaths:
        return RunPaths(self.runs / f"{self.name}-{ANSWER}")

    def folder_of(self, run: str) -> str:
        """Return the name of a run's folder."""
        return f"{run}-{self.variant}" if self.variant else run

    def run(self, name: str) -> RunPaths:
        return RunPaths(self.runs / self.folder_of(name))

    def copy_folds(self, step: Step) -> None:
        """Copy the trained folds that the step's run uses from the run that trained them, if it uses any.

        A copy that is as it was trained there stays. Raise InputError if the run's own are missing or were
        changed since.
        """
        if not step.trained_by:
            return
        source, run = self.run(step.trained_by), self.run(step.run)
        folds = trained_folds(source)
        changed = [path for fold in folds for path in changed_outputs(source.fold_run(fold))]
        if changed or not is_from(source.stamp("validate"), digests_of_trained(source, folds)):
            raise InputError(f"{(changed or [source.root])[0]} was removed or changed since it was trained.")
        if run.identity.is_file() and training_identity(run) != training_identity(source):
            raise InputError(f"{run.root} is another run; choose another --name, or write elsewhere.")
        run.root.mkdir(parents=True, exist_ok=True)
        if source.threads.is_file():  # as many, so that the same networks predict the same
            atomic_copy(source.threads, run.threads)
        for fold in folds:
            _copy_fold(source, run, fold)

    def words_of(self, step: Step, one_fold: bool) -> list[str]:
        """Return the words of a step's stages."""
        fold = ["--fold", "0"] if one_fold else []
        return [str(self.contest), *step.words, *self.shared, *fold, "--name", self.folder_of(step.run)]


def _copy_fold(source: RunPaths, run: RunPaths, fold: int) -> None:
    """Copy a trained fold; what is not the same training is replaced whole."""
    copied, trained = run.fold_run(fold), source.fold_run(fold)
    is_same = copied.is_file() and copied.read_bytes() == trained.read_bytes()
    if is_same and not changed_outputs(copied):
        return
    temporary = run.root / f".fold{fold}.copy"  # of one name, so that a killed command leaves one at most
    for folder in (temporary, run.fold(fold)):
        if folder.is_dir():
            shutil.rmtree(folder)
    unlocked = shutil.ignore_patterns(source.of_fold(fold).lock.name)
    shutil.copytree(source.fold(fold), temporary, ignore=unlocked)
    temporary.replace(run.fold(fold))
