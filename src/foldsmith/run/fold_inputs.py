"""The inputs of a fold's training, and the check that a trained fold is not stale. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path

from foldsmith.augment.albumentations_file import pipeline_file
from foldsmith.errors import InputError
from foldsmith.process.files import digest_of, digest_of_file, load_json
from foldsmith.process.machine import versions
from foldsmith.recipes import PRETRAINED, check_weights_file
from foldsmith.run.command import Command
from foldsmith.run.identity import training_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import require_whole


def inputs_of(command: Command, to_label: Sequence[str]) -> dict[str, object]:
    """Return the inputs that all folds have in common.

    `to_label` are the test images that may be pseudo-labelled. Raise InputError for missing files.
    """
    run = command.run
    # written only where there is one, so that runs of versions without it stay current
    joined = {"joined": digests_of_joined(command)} if command.recipe.join else {}
    return {
        **joined,
        "identity": training_identity(run),
        "folds": digest_of_file(run.folds),
        "versions": versions(),
        "weights": digest_of_weights(command),
        "augmentation": digest_of_augmentation(command.recipe.augment),
        "pretrained": digest_of_pretraining(command),
        "test": digest_of([digest_of_file(run.test_samples), *to_label]) if to_label else "",
    }


def digest_of_weights(command: Command) -> str:
    """Return the digest of the file of the initial weights; empty for random ones.

    A cached or fetched file is the one that src/prepare.py recorded. Where it is gone, its recorded digest
    counts, so that a run whose folds are done needs neither the file nor a network. Raise InputError if a
    typed file or folder is missing.
    """
    recipe = command.recipe
    if not (recipe.weights or recipe.pretrained):
        return ""
    check_weights_file(recipe.weights)
    if recipe.weights and Path(recipe.weights).is_file():
        return digest_of_file(Path(recipe.weights))
    stamp = command.run.stamp("prepare")
    recorded = load_json(stamp).get("weights") if stamp.is_file() else None
    if not recorded:  # a run of a version that did not record them
        return ""
    file = Path(recorded["file"])
    return digest_of_file(file) if file.is_file() else recorded["digest"]


def digests_of_joined(command: Command) -> list[str]:
    """Return the digests of the first folds of the runs that the recipe joins.

    Raise InputError if one is not trained, or is no probe of the same images in the same size.
    """
    digests = []
    for name in command.recipe.join:
        run = RunPaths(command.run.root.parent / name)
        if not run.fold_run(0).is_file():
            raise InputError(
                f"join={name}: {run.root} has no fitted fold 0; run the recipe probe by that name."
            )
        require_whole(run.fold_run(0), "train")
        facts = load_json(run.fold_run(0))
        if "probe" not in facts or facts["recipe"]["epochs"]:
            raise InputError(f"join={name}: {run.root} is no probe; join runs of the recipe probe.")
        if facts["recipe"].get("join"):
            others = ",".join([name, *facts["recipe"]["join"]])
            raise InputError(f"join={name}: it joins others itself; name all of them: --set join={others}.")
        for field in ("image_size", "channels", "cache"):
            own, other = getattr(command.recipe, field), facts["recipe"][field]
            if own != other:
                raise InputError(
                    f"join={name}: its {field} is {other}, and this run's is {own}; features are joined of "
                    "the same pixels."
                )
        pixels = [load_json(each.stamp("prepare"))["cache"] for each in (run, command.run)]
        if pixels[0] != pixels[1]:
            raise InputError(f"join={name}: {run.root} is of other image files; run it again with --again.")
        digests.append(digest_of_file(run.weights(0)))
    return digests


def digest_of_augmentation(name: str) -> str:
    """Return the digest of an augmentation's file; empty without one. Raise InputError if it is missing."""
    path = pipeline_file(name)
    return digest_of_file(path) if path else ""


def digest_of_pretraining(command: Command) -> str:
    """Return the digest of the pretrained weights; empty without a pretraining.

    Raise InputError if the pretraining is not done.
    """
    if command.recipe.pretrain == "none":
        return ""
    require_whole(command.run.pretrain_run, "pretrain")
    outputs = load_json(command.run.pretrain_run)["outputs"]
    return digest_of([outputs[f"{module}.safetensors"] for module in PRETRAINED[command.recipe.pretrain]])


def refuse_stale(command: Command, fold: int) -> None:
    """Raise InputError if the fold was trained with other folds or versions: results are never mixed."""
    path = command.run.fold_run(fold)
    if command.again or not path.is_file():
        return
    facts = load_json(path)
    changed = [name for name, version in versions().items() if facts["versions"].get(name) != version]
    if changed:
        old = ", ".join(f"{name} {facts['versions'].get(name)}" for name in changed)
        raise InputError(
            f"fold {fold} was trained with other versions ({old}); install those, or train it again: --again."
        )
    if "heldout.npz" in facts["outputs"]:
        raise InputError(
            f"{path} was written by an older foldsmith; train the fold again with --again, or choose another "
            "--name."
        )
    if facts["folds"] != digest_of_file(command.run.folds):
        raise InputError(
            f"fold {fold} was trained with other folds than {command.run.folds}; train it again: --again."
        )
