"""The names of a fold's networks: their titles in messages, and the folders of their files."""

from dataclasses import dataclass
from pathlib import Path

from foldsmith.run.paths import FoldPaths


@dataclass(frozen=True)
class NetworkName:
    """One network of a fold: its `title` in messages, and its folders.

    Its weights, log and checkpoint are in `files`, its held-out predictions in `own`. The two differ only for
    the first of several networks, because `files` then has the mean of their predictions. `stamp` is the
    network's own stamp; None if the stamp of the fold covers it.
    """

    title: str
    files: FoldPaths
    own: FoldPaths
    stamp: Path | None


@dataclass(frozen=True)
class NetworkNames:
    """The networks of a fold: `seeds` in each of `rounds`, where seeds count from 0 and rounds from 1.

    FoldPaths says in which folders their files are.
    """

    fold: int
    paths: FoldPaths
    rounds: int = 1
    seeds: int = 1

    def round_paths(self, number: int) -> FoldPaths:
        return self.paths if number == self.rounds else self.paths.round(number)

    def network(self, number: int, seed: int) -> NetworkName:
        """Return the name of a network by its round and its seed."""
        paths = self.round_paths(number)
        in_round = f" round {number}" if self.rounds > 1 else ""
        of_seed = f" seed {seed}" if self.seeds > 1 else ""
        own = paths.seed(seed) if self.seeds > 1 else paths
        return NetworkName(
            title=f"fold {self.fold}{in_round}{of_seed}",
            files=paths.seed(seed) if seed else paths,
            own=own,
            stamp=None if own == self.paths else own.run,
        )

    def networks(self, number: int) -> list[NetworkName]:
        """Return the names of all networks of a round."""
        return [self.network(number, seed) for seed in range(self.seeds)]
