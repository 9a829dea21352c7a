"""Run the steps of a wave at the same time on a Ray cluster."""

import math
import time
from collections.abc import Callable, Sequence

from foldsmith.campaign.journal import CUT, DONE, FAILED
from foldsmith.campaign.place import Place
from foldsmith.campaign.steps import Step
from foldsmith.errors import InputError
from foldsmith.grid.cluster import OnRay
from foldsmith.grid.driver import DONE as GRID_DONE
from foldsmith.grid.driver import FAILED as GRID_FAILED
from foldsmith.grid.driver import Grid
from foldsmith.grid.jobs import needs_of
from foldsmith.grid.plan import GridRun
from foldsmith.run.command import read_command


class SideBySide:
    """Runs the folds of all steps of a wave as tasks of a cluster, at most until their time is over."""

    def __init__(self, place: Place, one_fold: bool, address: str) -> None:
        self._place, self._one_fold, self.is_stopped = place, one_fold, False
        self._executor = OnRay(address, place.runs.parent, place.runs.name)
        self._states: dict[str, tuple[str, str]] = {}

    def prepare(self, steps: Sequence[Step], seconds: float, save: Callable[[], None]) -> bool:
        runs = []
        for step in steps:
            words = tuple(self._place.words_of(step, self._one_fold))
            name = self._place.folder_of(step.run)
            if self.is_stopped or seconds <= 0:
                self._states[name] = (CUT, "the time was over")
                continue
            try:
                self._place.copy_folds(step)
            except (InputError, OSError) as error:
                self._states[name] = (FAILED, str(error))
                continue
            runs.append(GridRun(name, words, read_command(list(words), "a step of a campaign"), name))
        if not runs:
            return True
        grid = Grid(runs, self._executor, lambda run: needs_of(run.command, 1, None, self._executor.gpus))
        grid.work(lambda grid: save(), None if math.isinf(seconds) else time.monotonic() + seconds)
        self.is_stopped = grid.is_cut_off  # which ends the connection to the cluster
        for name, progress in grid.progress.items():
            if progress.state == GRID_DONE:
                self._states[name] = (DONE, "")
            elif progress.state == GRID_FAILED:
                self._states[name] = (FAILED, progress.reason)
            else:
                self._states[name] = (CUT, "the time was over")
        return True

    def run(self, step: Step, seconds: float, save: Callable[[], None]) -> tuple[str, str]:
        name = self._place.folder_of(step.run)
        if name not in self._states:  # begun by a command that was interrupted
            self.prepare([step], seconds, save)
        return self._states[name]

    def stop(self) -> None:
        self._executor.stop()
