"""Mirroring a run to a tracker of experiments, wandb or trackio (`--track`).

The run's files are mirrored: each network's log.csv as a tracked run of its own, whose step is the epoch, and
cv.json with report.html as another one. All are in one group. `tracking.json` beside a file has what the
tracker has of it, so that a resumed run continues the same tracked runs and nothing is sent twice.
"""

import importlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from foldsmith.process.files import digest_of, digest_of_file, load_json, save_json
from foldsmith.process.machine import versions
from foldsmith.process.terminal import say
from foldsmith.run.command import TRACKERS, Command
from foldsmith.run.identity import load_identity, training_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_log

WANDB, TRACKIO = TRACKERS
# library -> the word of its `init` by which a tracked run is found again
IDENTIFIED_BY = {WANDB: "id", TRACKIO: "name"}
_failed: set[str] = set()  # libraries that failed in this process: printed once, and not tried again

Sent = dict[str, Any]  # what the tracker has: of a log the last epoch, else digests by file name


@dataclass
class Tracker:
    """The mirror of a run. As a context manager it ends the tracked run that is open.

    `library` is empty without `--track`; then nothing is done. Whatever the library raises, SystemExit too,
    is printed once, and the run goes on without it.
    """

    library: str
    run: RunPaths
    _open: str = field(default="", init=False)  # the identifier of the tracked run that is open

    @classmethod
    def of(cls, command: Command) -> "Tracker":
        return cls(command.tracker, command.run)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._attempt(self._finish)

    def mirror_log(self, log: Path) -> None:
        """Send the rows of a log.csv that the tracker does not have yet."""
        if not self._is_on:
            return
        subfolder = log.parent.relative_to(self.run.root).as_posix()
        rows = {int(row["epoch"]): row for row in load_log(log).to_dict("records")}

        def send(library: ModuleType, sent: Sent) -> Sent:
            for epoch, row in rows.items():
                if epoch > sent.get("epoch", -1):
                    figures = {name: value for name, value in row.items() if name != "epoch"}
                    library.log(finite(figures), step=epoch)
            return {"epoch": max(rows)}

        if max(rows) > self._sent(subfolder).get("epoch", -1):
            self._send(subfolder, send)

    def mirror_run(self) -> None:
        """Send what the tracker does not have yet of all logs, cv.json and report.html."""
        if not self._is_on:
            return
        for log in sorted(self.run.root.rglob("log.csv")):
            self.mirror_log(log)
        files = [path for path in (self.run.cv, self.run.report) if path.is_file()]
        digests = {path.name: digest_of_file(path) for path in files}

        def send(library: ModuleType, sent: Sent) -> Sent:
            changed = {name for name, digest in digests.items() if sent.get(name) != digest}
            if self.run.cv.name in changed:
                library.log(scores_of(load_json(self.run.cv)))
            if self.run.report.name in changed:
                name = f"{in_letters(self.run.root.name)}-report"
                library.log_artifact(str(self.run.report), name=name, type="report")
            return digests

        if digests and digests != self._sent(""):
            self._send("", send)

    @property
    def _is_on(self) -> bool:
        return bool(self.library) and self.library not in _failed

    def _identifier(self, subfolder: str) -> str:
        """Return the tracked run's identifier: a function of what the trained weights depend on."""
        digest = digest_of([training_identity(self.run), versions(), subfolder])[:8]
        words = [in_letters(word) for word in (self.run.root.name, subfolder) if word]
        return "-".join([*words, digest])

    def _sent(self, subfolder: str) -> Sent:
        """Return what the tracker has; nothing if the run's name stands for another training since."""
        path = self.run.tracking(subfolder)
        state = load_json(path).get(self.library, {}) if path.is_file() else {}
        return state["sent"] if state.get("id") == self._identifier(subfolder) else {}

    def _send(self, subfolder: str, send: Callable[[ModuleType, Sent], Sent]) -> None:
        """Send with the tracked run of a subfolder open, and save what the tracker has then."""
        if not self._is_on:  # failed with an earlier file
            return
        sent = self._attempt(lambda: send(self._opened(subfolder), self._sent(subfolder)))
        if sent is not None:
            path = self.run.tracking(subfolder)
            states = load_json(path) if path.is_file() else {}
            save_json(path, {**states, self.library: {"id": self._identifier(subfolder), "sent": sent}})

    def _opened(self, subfolder: str) -> ModuleType:
        """Return the library with the tracked run of a subfolder open, resumed if it has one."""
        library, identifier = importlib.import_module(self.library), self._identifier(subfolder)
        if self._open != identifier:
            if self._open:
                self._finish()
            name = self.run.root.name
            library.init(
                project=in_letters(self.run.root.parent.name),
                group=name,
                config=load_identity(self.run),
                resume="allow",
                **{"name": f"{name} {subfolder}".strip(), IDENTIFIED_BY[self.library]: identifier},
            )
            self._open = identifier
        return library

    def _finish(self) -> None:
        self._open = ""
        importlib.import_module(self.library).finish()

    def _attempt(self, action: Callable[[], Sent | None]) -> Sent | None:
        """Return the result of an action; None if it fails, which ends the mirroring of this process."""
        try:
            with _no_questions():
                return action()
        except (Exception, SystemExit) as error:
            _failed.add(self.library)
            self._open = ""
            missing = isinstance(error, ModuleNotFoundError) and error.name == self.library
            remedy = f"; .venv/bin/python -m pip install {self.library}" if missing else ""
            cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            say(f"--track {self.library} failed ({cause}); the run goes on without it{remedy}")
            return None


@contextmanager
def _no_questions() -> Iterator[None]:
    """Within the block a library finds no terminal: waiting for a key, it would stop the training."""
    typed = sys.stdin
    with open(os.devnull) as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = typed


def scores_of(cv: dict[str, Any]) -> dict[str, float]:
    """Return the figures of cv.json by name: the run's metric, by fold and as a mean, and every other one."""
    means = {f"cv/{name}": cv[name] for name in ("mean", "std", "standard_error", "oof")}
    folds = {f"cv/fold{fold}": score for fold, score in enumerate(cv["folds"])}
    others = {f"cv/metrics/{name}": score for name, score in cv["metrics"].items()}
    return finite({**means, **folds, **others})


def finite(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures that are numbers; an epoch that was not validated lacks those of held-out images."""
    return {name: value for name, value in figures.items() if value is not None and math.isfinite(value)}


def in_letters(text: str) -> str:
    """Return a text in the letters that trackers take in identifiers."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-") or "run"
