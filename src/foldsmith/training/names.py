"""The names of a fold's networks: the words before their lines, and where their files lie."""

from dataclasses import dataclass
from pathlib import Path

from foldsmith.run.paths import FoldPaths


@dataclass(frozen=True)
class NetworkName:
    """One network of a fold: the `title` before its lines, and its folders.

    Its weights, log and checkpoint lie in `files`, its held-out predictions in `own`. The two differ for the
    first of several networks only, because `files` then holds the mean of all their predictions. `stamp` says
    that the network is trained; None where the fold's own stamp says so.
    """

    title: str
    files: FoldPaths
    own: FoldPaths
    stamp: Path | None


@dataclass(frozen=True)
class NetworkNames:
    """The networks of a fold: `seeds` in each of `rounds`, where seeds count from 0 and rounds from 1.

    The files of the last round lie in the folder of the fold, those of earlier ones in `round1`, `round2` …;
    within it those of the first network in the folder itself, of further ones in `seed1`, `seed2` …
    """

    fold: int
    paths: FoldPaths
    rounds: int = 1
    seeds: int = 1

    def round_paths(self, number: int) -> FoldPaths:
        return self.paths if number == self.rounds else self.paths.round(number)

    def network(self, number: int, seed: int) -> NetworkName:
        """Return the name of a network, by its round and its seed."""
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
