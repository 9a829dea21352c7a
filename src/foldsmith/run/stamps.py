"""Stamps: the inputs of every finished stage, so that none is repeated and stale results are refused."""

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
from foldsmith.run.identity import (
    as_saved,
    describe_differences,
    differing_uses,
    load_identity,
    stages_of_uses,
)
from foldsmith.run.paths import RunPaths


def is_current(stamp: Path, inputs: Mapping[str, Any]) -> bool:
    """Return whether the stamped outputs exist, are unchanged, and were computed from these inputs."""
    if not stamp.is_file():
        return False
    stamped = load_json(stamp).get("inputs")
    return stamped == digest_of({"foldsmith": __version__, **inputs}) and not changed_outputs(stamp)


def changed_outputs(stamp: Path) -> list[Path]:
    """Return the stamped outputs that are missing or were changed since."""
    outputs = {stamp.parent / name: digest for name, digest in load_json(stamp).get("outputs", {}).items()}
    return [path for path, digest in outputs.items() if not path.is_file() or digest_of_file(path) != digest]


def write_stamp(stamp: Path, inputs: Mapping[str, Any], outputs: Iterable[Path], **facts: Any) -> None:
    """Write a stamp: digests of the inputs and outputs, and `facts` for people and later stages."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    digests = {os.path.relpath(path, stamp.parent): digest_of_file(path) for path in outputs}
    save_json(stamp, {"inputs": digest_of({"foldsmith": __version__, **inputs}), "outputs": digests, **facts})


def check_claim(run: RunPaths, again: bool = False, **identity: Any) -> bool:
    """Lock the run, and return whether it has another identity (recipe, folds, data) and is to be replaced.

    Raise InputError if it has another identity and `again` is false, if its use fields (views, …) differ,
    which src/prepare.py sets, or if another process works on the run.
    """
    replaces = _lock_and_check(run, again, identity)
    if not replaces:
        check_use(run, **identity)
    return replaces


def check_claim_of_fold(run: RunPaths, fold: int, **identity: Any) -> None:
    """Lock one fold of a run, whose other folds other processes may train.

    Raise InputError as `check_claim` does, and if another process works on the fold.
    """
    check_identity(run, **identity)
    if run.root.is_dir():
        lock_until_exit(run.lock, str(run.root), shared=True)
        paths = run.of_fold(fold)
        paths.root.mkdir(exist_ok=True)
        lock_until_exit(paths.lock, str(paths.root))
        remove_leftovers(paths.root)
    check_use(run, **identity)


def check_identity(
    run: RunPaths, again: bool = False, remedy: str = "choose another --name", **identity: Any
) -> bool:
    """Return whether the run has another identity than this one; do not lock it.

    `remedy` says how to train beside the run. Raise InputError if it has, unless `again` allows replacing it.
    """
    changed = describe_differences(load_identity(run), as_saved(identity))
    if changed and not again:
        raise InputError(
            f"{run.root} already holds {'; '.join(changed)}; {remedy}, or replace the run: --again, with "
            "./run.sh or from src/prepare.py on."
        )
    return bool(changed)


def check_use(run: RunPaths, **identity: Any) -> None:
    """Raise InputError if the run's recipe has other use fields (views, …) than this identity.

    Fields that no finished stage depends on, such as micro_batch, may differ: they apply from now on.
    """
    changed = differing_uses(load_identity(run), as_saved(identity))
    if stages_of_uses(changed):
        values = "; ".join(f"{field} is {old}, not {new}" for field, (old, new) in changed.items())
        raise InputError(
            f"{run.root}: {values}. Run src/prepare.py with these options first (or ./run.sh for all "
            "stages); trained folds stay as they are."
        )


def check_claimable(run: RunPaths, again: bool, **identity: Any) -> None:
    """Lock the run, and raise InputError if `claim_run` would."""
    _lock_and_check(run, again, identity)


def claim_run(run: RunPaths, again: bool, **identity: Any) -> None:
    """Write the run's identity. With `again`, first remove a run of another identity.

    With `again` the next training also chooses the number of threads anew. Other use fields replace those of
    the run, which is printed; nothing is removed for them. Raise InputError as `check_identity`, or if
    another process works on the run.
    """
    run.root.mkdir(parents=True, exist_ok=True)
    if _lock_and_check(run, again, identity):
        for entry in run.root.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != run.lock:
                entry.unlink()
    if again:
        run.threads.unlink(missing_ok=True)
    held = load_identity(run)
    claimed = {**held, **as_saved(identity)}
    changed = differing_uses(held, claimed)
    if changed and not again:
        values = ", ".join(f"{field} {old} -> {new}" for field, (old, new) in changed.items())
        stages = stages_of_uses(changed)
        follows = f"run again: {', '.join(stages)}" if stages else "it applies to folds trained from now on"
        say(f"{run.root}: {values}; trained folds stay as they are; {follows}")
    if claimed != held:
        save_json(run.identity, claimed)


def _lock_and_check(run: RunPaths, again: bool, identity: Mapping[str, Any]) -> bool:
    """Lock the run, if it exists, and check its identity as `check_identity`."""
    if run.root.is_dir():  # a refused command creates no folder
        lock_until_exit(run.lock, str(run.root))
        remove_leftovers(run.root)
    return check_identity(run, again, **identity)


def require(path: Path, stage: str) -> None:
    """Raise InputError if the output of an earlier stage is missing."""
    if not path.is_file():
        raise InputError(
            f"{path} is missing; run src/{stage}.py first with the same options (or ./run.sh for all stages)."
        )


def require_whole(stamp: Path, stage: str) -> None:
    """Raise InputError if a stage is not done, or if its outputs were changed afterwards."""
    require(stamp, stage)
    changed = changed_outputs(stamp)
    if changed:
        raise InputError(f"{changed[0]} was changed or removed after src/{stage}.py; run that stage again.")


def refuse_other_machine(stamp: Path, what: str, precision: str, device: str) -> None:
    """Raise InputError if `--precision` or `--device` differ from those of a finished training."""
    facts = load_json(stamp)
    devices = [name.strip().partition(":")[0] for name in device.split(",")]
    for option, typed, used in (
        ("precision", [precision], facts["precision"]),
        ("device", devices, facts["device"].partition(":")[0]),
    ):
        if not {"auto", used} & set(typed):
            raise InputError(
                f"{what} was trained with --{option} {used}, not {typed[0]}; leave --{option} out, or train "
                "again with --again."
            )


def trained_folds(run: RunPaths) -> list[int]:
    """Return all trained folds in the run's folder."""
    numbers = [path.parent.name.removeprefix("fold") for path in run.root.glob("fold*/run.json")]
    return sorted(int(number) for number in numbers if number.isdigit())


def held_out_inputs(run: RunPaths, fold: int, views: Sequence[str]) -> dict[str, Any]:
    """Return the inputs of held-out predictions: run.json, which stamps the weights, and the views."""
    return {"trained": digest_of_file(run.fold_run(fold)), "views": list(views)}


def is_predicted(run: RunPaths, fold: int, views: Sequence[str]) -> bool:
    """Return whether a fold's held-out predictions are current for its weights and these views."""
    return is_current(run.heldout_stamp(fold), held_out_inputs(run, fold, views))


def stamp_predicted(run: RunPaths, fold: int, views: Sequence[str]) -> None:
    """Stamp a fold's held-out predictions; its run.json must exist."""
    stamp, inputs = run.heldout_stamp(fold), held_out_inputs(run, fold, views)
    write_stamp(stamp, inputs, [run.heldout(fold)], views=inputs["views"])


def require_held_out(run: RunPaths, folds: Iterable[int]) -> None:
    """Raise InputError unless these folds' held-out predictions are current for the run's views."""
    views = load_identity(run)["recipe"]["views"]
    for fold in folds:
        if not is_predicted(run, fold, views):
            by = load_json(run.fold_run(fold)).get("versions", {}).get("foldsmith", __version__)
            if by != __version__:
                raise InputError(
                    f"{run.heldout(fold)} is of foldsmith {by}, and this is {__version__}: go on with that "
                    "version, or train again with src/train.py."
                )
            raise InputError(
                f"{run.heldout(fold)} is stale: the fold's weights or the run's views ({', '.join(views)}) "
                "changed; run src/train.py, which predicts again without training."
            )


def require_trained(run: RunPaths, folds: Iterable[int]) -> list[dict[str, Any]]:
    """Return run.json of these folds.

    Raise InputError unless all are complete, were trained from the same inputs, and have held-out predictions
    of the run's views.
    """
    folds = list(folds)
    fold_runs: list[dict[str, Any]] = []
    for fold in folds:
        require_whole(run.fold_run(fold), "train")
        fold_runs.append(load_json(run.fold_run(fold)))
        if fold_runs[-1]["folds"] != digest_of_file(run.folds):
            raise InputError(
                f"{run.fold(fold)} was trained with other folds than {run.folds}; run src/train.py."
            )
        if fold_runs[-1].get("pretrained") != fold_runs[0].get("pretrained"):
            raise InputError(
                f"{run.fold(fold)} started from another pretraining than the first fold; run src/train.py "
                "without --fold."
            )
        if fold_runs[-1]["versions"] != fold_runs[0]["versions"]:
            raise InputError(
                f"{run.fold(fold)} was trained with other versions than the first fold; train one of them "
                "again with src/train.py --fold K --again."
            )
        if fold_runs[-1].get("made_from") != fold_runs[0].get("made_from"):
            raise InputError(
                f"{run.fold(fold)} was trained by another recipe or from other files (weights, augmentation, "
                "test images) than the first fold; run src/train.py without --fold."
            )
    require_held_out(run, folds)
    return fold_runs


def digests_of_trained(run: RunPaths, folds: Iterable[int]) -> dict[str, str]:
    """Return by fold a digest of run.json and heldout.json, which stamp weights and held-out predictions.

    Stamps of later stages keep it as `trained`. A fold that lacks one of the files is left out.
    """
    stamps = {str(fold): [run.fold_run(fold), run.heldout_stamp(fold)] for fold in folds}
    return {
        fold: digest_of([digest_of_file(path) for path in paths])
        for fold, paths in stamps.items()
        if all(path.is_file() for path in paths)
    }


def is_from(stamp: Path, trained: Mapping[str, str]) -> bool:
    """Return whether a stage's outputs exist, are unchanged, and were computed from these trained folds."""
    return stamp.is_file() and load_json(stamp).get("trained") == trained and not changed_outputs(stamp)


def require_from(stamp: Path, stage: str, trained: Mapping[str, str]) -> None:
    """Raise InputError if a stage is not done, or is stale: computed from other trained folds."""
    require_whole(stamp, stage)
    if not is_from(stamp, trained):
        raise InputError(f"{stamp} is stale: the weights changed; run src/{stage}.py again.")


def training_seconds(run: RunPaths, fold_runs: Iterable[Mapping[str, Any]]) -> float:
    """Return the training time of folds by their run.json, with pretraining and without interruptions."""
    pretrained = [load_json(run.pretrain_run)] if run.pretrain_run.is_file() else []
    return sum(facts["training_seconds"] for facts in [*fold_runs, *pretrained])
