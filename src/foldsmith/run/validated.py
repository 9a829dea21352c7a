"""The validated runs of a competition, and which of them are stale."""

from pathlib import Path

from foldsmith.process.files import digest_of_file, load_json
from foldsmith.run.identity import load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, is_predicted


def validated_runs(competition: Path) -> list[RunPaths]:
    """Return the runs under `output/<competition>` that have a score, by name; blends too."""
    return [RunPaths(path.parent) for path in sorted(competition.glob("*/cv.json"))]


def is_stale(run: RunPaths) -> bool:
    """Return whether a run's folds or members changed after validation or blending."""
    if run.blend.is_file():
        members = [
            (run.member(member["run"]).oof, member["digests"]["oof.npz"])
            for member in load_json(run.blend)["runs"]
        ]
        return any(oof.is_file() and digest_of_file(oof) != digest for oof, digest in members)
    if not run.stamp("validate").is_file():
        return True
    trained, views = load_json(run.stamp("validate"))["trained"], load_identity(run)["recipe"]["views"]
    folds = [int(fold) for fold in trained]
    if digests_of_trained(run, folds) != trained:
        return True
    return not all(is_predicted(run, fold, views) for fold in folds)
