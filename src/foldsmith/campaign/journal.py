"""What a campaign has done: the file journal.json, from which the same command goes on."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foldsmith.process.files import load_json, save_json

# states of a step
RUNNING, DONE, CUT, FAILED, LEFT_OUT = "running", "done", "cut", "failed", "left out"


@dataclass
class Entry:
    """A slot of the plan that was begun or left out.

    `planned` and `took` are seconds. `score` and `error` are the run's own on held-out images; `gain`,
    `gain_error`, `p` and `allowed` those of its verdict, for which `counted` steps count. `kept`: the run
    came into the answer; None: not judged. `taken_over`: an earlier campaign, or a person, has trained it.
    `interrupted`: the campaign was killed meanwhile, so that `took` says little. `judging` are the seconds of
    its verdict and of the blend. `replaced` is the run whose place this one takes in the answer if it is
    kept, as it sees more views of the same. `quality` is the score, higher is better: later steps depend on
    it, whatever happens to the run. `plan` is the number of its plan, from 0 on.
    """

    slot: str
    state: str
    why: str
    run: str = ""
    words: list[str] = field(default_factory=list)
    epochs: int = 0
    planned: float = 0.0
    took: float = 0.0
    score: float | None = None
    error: float | None = None
    gain: float | None = None
    gain_error: float | None = None
    p: float | None = None
    allowed: float | None = None
    counted: int | None = None
    kept: bool | None = None
    taken_over: bool = False
    interrupted: bool = False
    judging: float = 0.0
    replaced: str = ""
    quality: float | None = None
    plan: int = 0

    @property
    def is_over(self) -> bool:
        return self.state != RUNNING


@dataclass
class Answer:
    """An answer that could be handed in: after so many seconds, its score with its error, and its runs.

    `decided` is the score with the thresholds, cut points or factors that the submission is written with,
    fitted on other folds; None where there are none.
    """

    seconds: float
    score: float | None
    error: float | None
    runs: list[str]
    decided: float | None = None


@dataclass
class Journal:
    """The entries in the order of the plan, the answers, and the seconds that the campaign has worked.

    `budget` are the seconds that it may work, and `planning` those in which the plan was made.
    `nested` and `nested_error` are the score of the procedure, which luck in choosing does not raise, and
    `luck` by how much the answer's is better. `side_by_side` are the seconds of waves of steps on a cluster.
    """

    path: Path
    budget: float
    entries: list[Entry] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    spent: float = 0.0
    nested: float | None = None
    nested_error: float | None = None
    luck: float | None = None
    planning: float = 0.0
    side_by_side: float = 0.0

    @classmethod
    def load(cls, path: Path, budget: float) -> "Journal":
        """Return the journal of a file, or an empty one."""
        if not path.is_file():
            return cls(path, budget)
        held = load_json(path)
        entries = [Entry(**entry) for entry in held.pop("entries")]
        answers = [Answer(**answer) for answer in held.pop("answers")]
        return cls(path, held.pop("budget"), entries, answers, **held)

    def __post_init__(self) -> None:
        self._before, self._begun = self.spent, time.monotonic()

    def save(self) -> None:
        """Write the file, with the time until now; a pause between two commands is not counted."""
        self.spent = self.seconds
        save_json(self.path, self._content())

    @property
    def seconds(self) -> float:
        """Return the seconds that the campaign has worked, those of this command included."""
        return self._before + time.monotonic() - self._begun

    @property
    def kept(self) -> list[str]:
        """Return the runs of the answer, in the order in which they were kept."""
        kept: list[str] = []
        for entry in self.entries:
            if entry.kept:
                kept = changed_by(kept, entry.run, entry.replaced)
        return kept

    def verdict_of(self, entry: Entry) -> str:
        """Return what became of a run in words: kept or dropped, and what took its place; maybe empty."""
        if entry.kept is None:
            return ""
        if not entry.kept:
            return "dropped"
        replacing = [one.run for one in self.entries if one.kept and one.replaced == entry.run]
        if replacing:
            return f"kept, until {replacing[0]} took its place"
        was_kept = any(one.kept and one.run == entry.replaced for one in self.entries)
        return f"kept, in place of {entry.replaced}" if was_kept else "kept"

    def num_kept(self, plan: int) -> int:
        """Return how many steps of a plan were judged and kept."""
        return sum(one.kept is True and one.p is not None for one in self.entries if one.plan == plan)

    def spent_by_others(self, plan: int) -> float:
        """Return the p that the dropped steps of all other plans were allowed together."""
        dropped = [one for one in self.entries if one.kept is False and one.plan != plan]
        return sum(entry.allowed or 0.0 for entry in dropped)

    @property
    def judged(self) -> list[str]:
        """Return the runs that were judged, the first answer included."""
        return [entry.run for entry in self.entries if entry.kept is not None]

    @property
    def slowness(self) -> float:
        """Return how many times as long as planned the finished steps took; at least half."""
        done = [one for one in self.entries if one.state == DONE and not (one.taken_over or one.interrupted)]
        if not done:
            return 1.0
        return max(0.5, sum(entry.took for entry in done) / (sum(entry.planned for entry in done) or 1.0))

    @property
    def accounted(self) -> float:
        """Return the seconds by which steps are begun, shortened and cut.

        What an interruption costs is not among them: a step in which the campaign was killed counts as long
        as it should take, so that later steps are the same as without.
        """
        steps = [self.accounted_for(entry) for entry in self.entries]
        return self.planning + self.side_by_side + sum(steps) + self.judging

    @property
    def judging(self) -> float:
        """Return the seconds of all verdicts and blends."""
        return sum(entry.judging for entry in self.entries)

    def accounted_for(self, entry: Entry) -> float:
        """Return the part of an entry in what is accounted."""
        return entry.planned * self.slowness if entry.interrupted else entry.took

    def _content(self) -> dict[str, Any]:
        content = asdict(self)
        del content["path"]
        return content


def changed_by(runs: list[str], run: str, replaced: str) -> list[str]:
    """Return an answer's runs with one more at the end, without the one that it replaces."""
    return [*(one for one in runs if one != replaced), run]
