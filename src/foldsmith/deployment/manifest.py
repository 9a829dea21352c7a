"""bundle.json: what a bundle holds, and how the predictions of its runs are combined."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from foldsmith.deployment.combination import Combination
from foldsmith.errors import InputError, first_of
from foldsmith.evaluation.decisions import Decision
from foldsmith.process.files import digest_of_file, load_json, save_json
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import load_task

NAME = "bundle.json"
SETTINGS = "contest"  # folder of competition.toml, where the contest has one
RUNS = "runs"


@dataclass(frozen=True)
class Manifest:
    """The content of bundle.json.

    `members` are the folders of the runs in the bundle, with their `weights`, `folds` the folds of each that
    predict. `prior` (K,) is the prediction for an image that cannot be read. `sample` is the path of the
    sample submission below the contest's folder, empty without one. `files` are digests by path.
    """

    foldsmith: str
    competition: str
    sample: str
    members: list[str]
    folds: list[list[int]]
    weights: list[float]
    adjustment: str
    value: Any
    decision: dict[str, Any] | None
    prior: list[float]
    command: str
    files: dict[str, str]

    def combination(self, bundle: Path) -> Combination:
        """Return how the predictions of the bundle's runs are combined."""
        runs = [RunPaths(bundle / member) for member in self.members]
        decision = Decision(**self.decision) if self.decision else None
        weights = np.array(self.weights)
        return Combination(load_task(runs[0]), runs, weights, self.adjustment, self.value, decision)


def save_manifest(bundle: Path, manifest: Manifest) -> None:
    save_json(bundle / NAME, asdict(manifest))


def load_manifest(bundle: Path) -> Manifest:
    """Return the manifest of a bundle whose files are all there and as they were.

    Raise InputError for a file that is missing or changed.
    """
    values = load_json(bundle / NAME)
    if not isinstance(values, dict) or set(values) != {field.name for field in fields(Manifest)}:
        raise InputError(f"{bundle / NAME} is of another version of foldsmith; bundle the runs again.")
    manifest = Manifest(**values)
    missing = [name for name in manifest.files if not (bundle / name).is_file()]
    if missing:
        raise InputError(
            f"{bundle} lacks {len(missing)} of its {len(manifest.files)} files ({first_of(missing)}); upload "
            "the whole folder again, folders included: kaggle datasets create -p dataset --dir-mode zip."
        )
    changed = [name for name, digest in manifest.files.items() if digest_of_file(bundle / name) != digest]
    if changed:
        raise InputError(f"{bundle}: {first_of(changed)} changed since it was bundled; upload it again.")
    return manifest
