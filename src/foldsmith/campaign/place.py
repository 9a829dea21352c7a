"""Where a campaign works, and the names of its runs."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from foldsmith.campaign.steps import Step
from foldsmith.process.files import atomic_folder
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import trained_folds

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
        """Copy the trained folds that the step's run uses from the run that trained them, if it does."""
        if not step.trained_by:
            return
        source, run = self.run(step.trained_by), self.run(step.run)
        for fold in trained_folds(source):
            if not run.fold_run(fold).is_file():
                with atomic_folder(run.fold(fold), run.fold_run(fold).name) as folder:
                    unlocked = shutil.ignore_patterns(source.of_fold(fold).lock.name)
                    shutil.copytree(source.fold(fold), folder, ignore=unlocked, dirs_exist_ok=True)

    def words_of(self, step: Step, one_fold: bool) -> list[str]:
        """Return the words of a step's stages."""
        fold = ["--fold", "0"] if one_fold else []
        return [str(self.contest), *step.words, *self.shared, *fold, "--name", self.folder_of(step.run)]
