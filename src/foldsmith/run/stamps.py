"""What every finished stage was made from, so that it is done once and never mixed with something else."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foldsmith import __version__
from foldsmith.errors import InputError
from foldsmith.process.files import digest_of, digest_of_file, load_json, remove_leftovers, save_json
from foldsmith.process.locks import lock_until_exit
from foldsmith.process.terminal import say
from foldsmith.run.identity import as_saved, differing_parts, differing_uses, load_identity, stages_of_uses
from foldsmith.run.paths import RunPaths


def is_current(stamp: Path, inputs: Mapping[str, Any]) -> bool:
    """Whether the stamped outputs are still there, unchanged, and were made from these inputs."""
    if not stamp.is_file():
        return False
    made_from = load_json(stamp).get("inputs")
    return made_from == digest_of({"foldsmith": __version__, **inputs}) and not changed_outputs(stamp)


def changed_outputs(stamp: Path) -> list[Path]:
    """The stamped outputs that are gone, or no longer what the stage wrote."""
    outputs = {stamp.parent / name: digest for name, digest in load_json(stamp).get("outputs", {}).items()}
    return [path for path, digest in outputs.items() if not path.is_file() or digest_of_file(path) != digest]


def write_stamp(stamp: Path, inputs: Mapping[str, Any], outputs: Iterable[Path], **facts: Any) -> None:
    """Stamps outputs with the digest of what they were made from; `facts` are kept for readers."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    digests = {os.path.relpath(path, stamp.parent): digest_of_file(path) for path in outputs}
    save_json(stamp, {"inputs": digest_of({"foldsmith": __version__, **inputs}), "outputs": digests, **facts})


def check_claim(run: RunPaths, again: bool = False, **parts: Any) -> bool:
    """Return whether the run's name stands for something else than these parts (recipe, folds, data).

    Raises InputError if it does, unless `again` allows to replace it; if the run is used in another way
    (views, …), which src/prepare.py changes; and if another process works on the run, which from here on
    belongs to this process.
    """
    replaces = _lock_and_check(run, again, parts)
    if not replaces:
        check_use(run, **parts)
    return replaces


def check_identity(run: RunPaths, again: bool = False, **parts: Any) -> bool:
    """Return whether the run's name stands for other weights than these parts say; it is not locked.

    Raises InputError if it does, unless `again` allows to replace it.
    """
    changed = differing_parts(load_identity(run), as_saved(parts))
    if changed and not again:
        raise InputError(
            f"{run.root} already holds {'; '.join(changed)}. Give this run another --name, or replace it: "
            "--again, with ./run.sh or from src/prepare.py on."
        )
    return bool(changed)


def check_use(run: RunPaths, **parts: Any) -> None:
    """Raise InputError if the run's recipe has other use fields (views, …) than these parts.

    Fields that no finished stage depends on, such as micro_batch, may differ: they hold for what comes.
    """
    changed = differing_uses(load_identity(run), as_saved(parts))
    if stages_of_uses(changed):
        values = "; ".join(f"{field} is {old}, not {new}" for field, (old, new) in changed.items())
        raise InputError(
            f"{run.root}: {values}. Run src/prepare.py with these words first (or ./run.sh for all); trained "
            "folds stay as they are."
        )


def check_claimable(run: RunPaths, again: bool, **parts: Any) -> None:
    """Raise InputError where `claim_run` would refuse; lock the run."""
    _lock_and_check(run, again, parts)


def claim_run(run: RunPaths, again: bool, **parts: Any) -> None:
    """Let the run's name stand for these parts; with `again` what stood there before is removed.

    Other use fields replace those the run had, in one line; nothing is removed for them.
    """
    run.root.mkdir(parents=True, exist_ok=True)
    if _lock_and_check(run, again, parts):
        for entry in run.root.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != run.lock:
                entry.unlink()
    held = load_identity(run)
    claimed = {**held, **as_saved(parts)}
    changed = differing_uses(held, claimed)
    if changed and not again:
        values = ", ".join(f"{field} {old} -> {new}" for field, (old, new) in changed.items())
        stages = stages_of_uses(changed)
        follows = f"run again: {', '.join(stages)}" if stages else "it counts for folds still to be trained"
        say(f"{run.root}: {values}; trained folds stay as they are; {follows}")
    if claimed != held:
        save_json(run.identity, claimed)


def _lock_and_check(run: RunPaths, again: bool, parts: Mapping[str, Any]) -> bool:
    if run.root.is_dir():  # what is refused leaves no folder behind
        lock_until_exit(run.lock, str(run.root))
        remove_leftovers(run.root)
    return check_identity(run, again, **parts)


def require(path: Path, stage: str) -> None:
    """Raises InputError if what an earlier stage writes is not there."""
    if not path.is_file():
        raise InputError(
            f"{path} is not there; run src/{stage}.py first, with the same words (or ./run.sh for all)."
        )


def require_whole(stamp: Path, stage: str) -> None:
    """Raises InputError if a stage is not done, or if what it wrote was changed afterwards."""
    require(stamp, stage)
    changed = changed_outputs(stamp)
    if changed:
        raise InputError(f"{changed[0]} is not what src/{stage}.py wrote; run that stage again.")


def refuse_other_machine(stamp: Path, what: str, precision: str, device: str) -> None:
    """Raises InputError if the words ask for another precision or device than it was trained with."""
    made = load_json(stamp)
    devices = [each.strip().partition(":")[0] for each in device.split(",")]
    for word, typed, used in (
        ("precision", [precision], made["precision"]),
        ("device", devices, made["device"].partition(":")[0]),
    ):
        if not {"auto", used} & set(typed):
            raise InputError(
                f"{what} was trained with --{word} {used}, not {typed[0]}; --again trains it anew, or leave "
                "the word out."
            )


def trained_folds(run: RunPaths) -> list[int]:
    """The folds of a run's folder that are trained, whoever asks for which."""
    numbers = [path.parent.name.removeprefix("fold") for path in run.root.glob("fold*/run.json")]
    return sorted(int(number) for number in numbers if number.isdigit())


def held_out_inputs(run: RunPaths, fold: int, views: Sequence[str]) -> dict[str, Any]:
    """Return what held-out predictions depend on: run.json, which stamps the weights, and the views."""
    return {"trained": digest_of_file(run.fold_run(fold)), "views": list(views)}


def is_predicted(run: RunPaths, fold: int, views: Sequence[str]) -> bool:
    """Return whether a trained fold's held-out predictions are those of its weights with these views."""
    return is_current(run.heldout_stamp(fold), held_out_inputs(run, fold, views))


def stamp_predicted(run: RunPaths, fold: int, views: Sequence[str]) -> None:
    """Stamp a fold's held-out predictions, once its run.json is written."""
    stamp, inputs = run.heldout_stamp(fold), held_out_inputs(run, fold, views)
    write_stamp(stamp, inputs, [run.heldout(fold)], views=inputs["views"])


def require_held_out(run: RunPaths, folds: Iterable[int]) -> None:
    """Raise InputError unless these trained folds' held-out predictions are of the run's current views."""
    views = load_identity(run)["recipe"]["views"]
    for fold in folds:
        if not is_predicted(run, fold, views):
            raise InputError(
                f"{run.heldout(fold)} is not of the fold's weights and the run's views ({', '.join(views)}); "
                "run src/train.py first, which predicts it again without training."
            )


def require_trained(run: RunPaths, folds: Iterable[int]) -> list[dict[str, Any]]:
    """Return run.json of these folds.

    Raises InputError unless all are whole, were trained alike, and have predicted their held-out images with
    the run's current views.
    """
    folds = list(folds)
    made: list[dict[str, Any]] = []
    for fold in folds:
        require_whole(run.fold_run(fold), "train")
        made.append(load_json(run.fold_run(fold)))
        if made[-1]["folds"] != digest_of_file(run.folds):
            raise InputError(
                f"{run.fold(fold)} was trained with other folds than {run.folds}; run src/train.py."
            )
        if made[-1].get("pretrained") != made[0].get("pretrained"):
            raise InputError(
                f"{run.fold(fold)} started from another pretraining than the first fold; run src/train.py "
                "without --fold."
            )
        if made[-1]["versions"] != made[0]["versions"]:
            raise InputError(
                f"{run.fold(fold)} was trained with other versions than the first; train one of them "
                "anew with src/train.py --fold K --again."
            )
        if made[-1].get("made_from") != made[0].get("made_from"):
            raise InputError(
                f"{run.fold(fold)} was trained by another recipe or from other files (weights, augmentation, "
                "test images) than the first fold; run src/train.py without --fold."
            )
    require_held_out(run, folds)
    return made


def digests_of_trained(run: RunPaths, folds: Iterable[int]) -> dict[str, str]:
    """Return a digest of run.json and heldout.json by fold: of weights, views and held-out predictions.

    Later stages are stamped with it as `trained`. A fold that lacks one of them has none.
    """
    stamps = {str(fold): [run.fold_run(fold), run.heldout_stamp(fold)] for fold in folds}
    return {
        fold: digest_of([digest_of_file(path) for path in paths])
        for fold, paths in stamps.items()
        if all(path.is_file() for path in paths)
    }


def is_from(stamp: Path, trained: Mapping[str, str]) -> bool:
    """Whether a stage's outputs are there, unchanged, and made from these trained folds and no others."""
    return stamp.is_file() and load_json(stamp).get("trained") == trained and not changed_outputs(stamp)


def require_from(stamp: Path, stage: str, trained: Mapping[str, str]) -> None:
    """Raises InputError if a stage is not done, or was done with other folds than are trained now."""
    require_whole(stamp, stage)
    if not is_from(stamp, trained):
        raise InputError(f"what src/{stage}.py wrote is of other weights than are there; run it again first.")


def training_seconds(run: RunPaths, made: Iterable[Mapping[str, Any]]) -> float:
    """What the folds cost, interruptions left out and pretraining included; `made` are their run.json."""
    pretrained = [load_json(run.pretrain_run)] if run.pretrain_run.is_file() else []
    return sum(facts["training_seconds"] for facts in [*made, *pretrained])
