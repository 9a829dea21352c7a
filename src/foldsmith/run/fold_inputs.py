"""What the training of a fold depends on, and whether a fold that is done is stale. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path

from foldsmith.augment.albumentations_file import pipeline_file
from foldsmith.errors import InputError
from foldsmith.process.files import digest_of, digest_of_file, load_json
from foldsmith.process.machine import versions
from foldsmith.recipes import PRETRAINED, check_weights_file
from foldsmith.run.command import Command
from foldsmith.run.identity import training_identity
from foldsmith.run.stamps import require_whole


def inputs_of(command: Command, to_label: Sequence[str]) -> dict[str, object]:
    """What all folds depend on; `to_label` are the test images that may get a label for a further round.

    Raises InputError for files that are not there.
    """
    run = command.run
    return {
        "identity": training_identity(run),
        "folds": digest_of_file(run.folds),
        "versions": versions(),
        "weights": digest_of_weights(command.recipe.weights),
        "augmentation": digest_of_augmentation(command.recipe.augment),
        "pretrained": digest_of_pretraining(command),
        "test": digest_of([digest_of_file(run.test_samples), *to_label]) if to_label else "",
    }


def digest_of_weights(path: str) -> str:
    """Digest of the file a network starts from, or empty. Raises InputError if it is not there."""
    check_weights_file(path)
    return digest_of_file(Path(path)) if path else ""


def digest_of_augmentation(name: str) -> str:
    """Digest of the file an augmentation is read from, or empty. Raises InputError if it is not there."""
    path = pipeline_file(name)
    return digest_of_file(path) if path else ""


def digest_of_pretraining(command: Command) -> str:
    """Digest of the pretraining that a recipe starts from, or empty. Raises InputError if it is not done."""
    if command.recipe.pretrain == "none":
        return ""
    require_whole(command.run.pretrain_run, "pretrain")
    outputs = load_json(command.run.pretrain_run)["outputs"]
    return digest_of([outputs[f"{part}.safetensors"] for part in PRETRAINED[command.recipe.pretrain]])


def refuse_stale(command: Command, fold: int) -> None:
    """Raises InputError if the fold was trained with other folds or versions: results are never mixed."""
    path = command.run.fold_run(fold)
    if command.again or not path.is_file():
        return
    made = load_json(path)
    changed = [name for name, version in versions().items() if made["versions"].get(name) != version]
    if changed:
        told = ", ".join(f"{name} {made['versions'].get(name)}" for name in changed)
        raise InputError(
            f"fold {fold} was trained with other versions ({told}); --again trains it anew, or install those."
        )
    if "heldout.npz" in made["outputs"]:
        raise InputError(
            f"{path} was written by an older foldsmith; --again trains the fold anew, or give this run "
            "another --name."
        )
    if made["folds"] != digest_of_file(command.run.folds):
        raise InputError(
            f"fold {fold} was trained with other folds than {command.run.folds}; --again trains it anew."
        )
