"""All networks of a fold: several, alike but for their random draws, in one round or more.

From the second round on a fold is trained anew, with test images beside its own training images: those that
its networks of the round before were surest of, labelled as they saw them. They never learned from a held-out
image of the fold, so that none of its labels gets back into the fold's training, by whatever way.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldsmith.inference.compute import build_compute
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import predict
from foldsmith.inference.weights import load_trained
from foldsmith.process.files import (
    digest_of,
    digest_of_file,
    load_json,
    load_npz,
    remove_checkpoints,
    save_csv,
    save_npz,
)
from foldsmith.process.terminal import say
from foldsmith.run.paths import FoldPaths
from foldsmith.run.stamps import is_current, write_stamp
from foldsmith.run.tables import load_pseudo_labels
from foldsmith.seeding import derive_seed
from foldsmith.training.fold import FoldTraining, Samples
from foldsmith.training.pseudo_labels import choose_surest


@dataclass(frozen=True)
class Rounds:
    """The networks of one fold, ready to train.

    All are like `first`, the first network of the first round, but for their seed, for the pseudo-labelled
    images they learn from as well, and for where their files lie. `test_paths` are the images that may be
    labelled.

    A network is done when it has a stamp: beside its own held-out predictions, in the folder of its round, or
    of its seed where a round has several. A fold of one network in one round is stamped by who asked for it.
    """

    first: FoldTraining
    test_paths: Sequence[str] = ()

    def train(self) -> dict[str, Any]:
        """Trains every network that is not done, each from its checkpoint if there is one.

        Writes the files of FoldPaths; held-out predictions are means over the networks. Returns facts for
        run.json, those of the last round. Raises InputError as FoldTraining does.
        """
        started, recipe, first = time.monotonic(), self.first.recipe, self.first
        rounds: list[dict[str, Any]] = []
        for number in range(1, recipe.rounds + 1):
            training, num_labelled = first.training, 0
            if number > 1:
                labelled = self._label(number)
                training, num_labelled = self._with(labelled), len(labelled)
            networks = [self._train_network(number, seed, training) for seed in range(recipe.seeds)]
            rounds.append(
                {
                    "round": number,
                    "pseudo_labelled": num_labelled,
                    **self._average(number),
                    "networks": [
                        {"seed": seed_of(recipe.seed, place), **facts.pop("held_out")}
                        for place, facts in enumerate(networks)
                    ],
                    "training_seconds": sum(facts["training_seconds"] for facts in networks),
                }
            )
        return {
            **networks[0],
            "training_images": len(first.training.labels),
            "seeds": recipe.seeds,
            "rounds": rounds,
            "training_seconds": sum(each["training_seconds"] for each in rounds),
            "seconds": time.monotonic() - started,
        }

    @property
    def outputs(self) -> list[Path]:
        """What the fold's run.json stands for; files that only helped to make these have served by then."""
        recipe, paths = self.first.recipe, self.first.files
        further = [paths.seed(number) for number in range(1, recipe.seeds)]
        written = [paths.heldout, *(path for each in (paths, *further) for path in (each.weights, each.log))]
        return [*written, paths.pseudo_labels] if recipe.rounds > 1 else written

    def forget(self) -> None:
        """Removes what an earlier training has left to go on from."""
        paths = self.first.files
        remove_checkpoints(paths.checkpoint)
        paths.pseudo_stamp.unlink(missing_ok=True)
        for folder in (*paths.root.glob("seed*"), *paths.root.glob("round*")):
            shutil.rmtree(folder)

    def _paths(self, number: int) -> FoldPaths:
        """Of a round."""
        paths = self.first.files
        return paths if number == self.first.recipe.rounds else paths.round(number)

    def _network(self, number: int, seed: int) -> tuple[FoldPaths, FoldPaths]:
        """Where the weights of a network lie, and where its own held-out predictions and its stamp."""
        paths = self._paths(number)
        several = self.first.recipe.seeds > 1
        return paths.seed(seed) if seed else paths, paths.seed(seed) if several else paths

    def _train_network(self, number: int, seed: int, training: Samples) -> dict[str, Any]:
        """The facts of a network of a round, once it is trained."""
        first, recipe = self.first, self.first.recipe
        paths, own = self._network(number, seed)
        inputs = {**self._belongs_to, "round": number, "network": seed}
        if number > 1:
            inputs["pseudo_labels"] = digest_of_file(self._paths(number).pseudo_labels)
        # the stamp of a fold is not a network's: it tells that all of them are done
        stamp = None if own.run == first.files.run else own.run
        if stamp and self._is_done(stamp, inputs):
            if first.processes.is_first:
                remove_checkpoints(paths.checkpoint)  # a process killed at the very end had no time to
            return load_json(stamp)["facts"]
        facts = replace(
            first,
            recipe=replace(recipe, seed=seed_of(recipe.seed, seed)),
            training=training,
            made_from=digest_of(inputs),
            name=self._title(number, seed),
            paths=paths,
            heldout_path=own.heldout,
        ).train()
        first.processes.share(None)  # the first one has written all
        facts["held_out"] = self._score(load_npz(own.heldout)["probabilities"])
        if stamp and first.processes.is_first:
            write_stamp(stamp, inputs, [paths.weights, paths.log, own.heldout], facts=facts)
            remove_checkpoints(paths.checkpoint)
        return facts

    def _label(self, number: int) -> pd.DataFrame:
        """The labels for a round, from the networks of the one before; or from their file if that is done."""
        first, recipe, paths = self.first, self.first.recipe, self._paths(number)
        teachers = [self._network(number - 1, seed)[0].weights for seed in range(recipe.seeds)]
        inputs = {**self._belongs_to, "teachers": [digest_of_file(weights) for weights in teachers],
                  "images": digest_of(list(self.test_paths))}  # fmt: skip
        if not self._is_done(paths.pseudo_stamp, inputs):
            facts = load_json(self._network(number - 1, 0)[1].run)["facts"]
            predicted = np.mean([self._predict(weights, facts) for weights in teachers], axis=0)
            if first.processes.is_first:
                save_csv(
                    paths.pseudo_labels,
                    choose_surest(self.test_paths, predicted, recipe.pseudo_share, first.task),
                )
                write_stamp(paths.pseudo_stamp, inputs, [paths.pseudo_labels])
            first.processes.share(None)
        labelled = load_pseudo_labels(paths.pseudo_labels)
        if first.processes.is_first:
            told = f"{len(labelled):,} of {len(self.test_paths):,} test images pseudo-labelled"
            say(f"fold {first.fold} round {number}: {told}")
        return labelled

    def _predict(self, weights: Path, facts: Mapping[str, Any]) -> np.ndarray:
        """A network's probabilities of the test images, float64 (n, K)."""
        first = self.first
        facts = {**facts, "recipe": asdict(first.recipe)}
        model, recipe, compute = load_trained(weights, facts, first.device, first.precision)
        rows = first.processes.my_part(first.cache.rows(self.test_paths))
        size = recipe.predict_batch_size
        mine = predict(
            model, first.cache.pixels, rows, recipe.views, size, compute,
            batch_limit=self._batch_limit, task=first.task,
        )  # fmt: skip
        return first.processes.join_parts(mine).astype(np.float64)

    def _with(self, labelled: pd.DataFrame) -> Samples:
        """The fold's training samples, and then the pseudo-labelled ones.

        These in the order of their paths: that of confidences depends on the last digit of a number.
        """
        labelled = labelled.sort_values("path")
        training, paths = self.first.training, list(labelled["path"])
        return Samples(
            [*training.paths, *paths],
            np.concatenate([training.rows, self.first.cache.rows(paths)]),
            np.concatenate([training.labels, labelled["label"].to_numpy(np.int64)]),
        )

    def _average(self, number: int) -> dict[str, float]:
        """Writes the mean of a round's held-out predictions, where there are several; its score."""
        first, paths = self.first, self._paths(number)
        own = [self._network(number, seed)[1].heldout for seed in range(first.recipe.seeds)]
        predicted = [load_npz(path)["probabilities"] for path in own]
        if len(own) == 1:
            return self._score(predicted[0])
        mean = np.mean(predicted, axis=0, dtype=np.float64).astype(np.float32)
        if first.processes.is_first:
            save_npz(paths.heldout, **{**load_npz(own[0]), "probabilities": mean})
        return self._score(mean)

    def _score(self, probabilities: np.ndarray) -> dict[str, float]:
        """Accuracy and log loss of the held-out images."""
        loss, accuracy = self.first.task.loss_and_credit(probabilities, self.first.held_out.labels)
        return {"accuracy": accuracy, "loss": loss}

    def _title(self, number: int, seed: int) -> str:
        """What a network's lines begin with."""
        of_round = f" round {number}" if self.first.recipe.rounds > 1 else ""
        of_seed = f" seed {seed}" if self.first.recipe.seeds > 1 else ""
        return f"fold {self.first.fold}{of_round}{of_seed}"

    @cached_property
    def _batch_limit(self) -> BatchLimit:
        """What there is room for when test images are predicted, found out once."""
        return BatchLimit(self.first.recipe.predict_batch_size)

    @cached_property
    def _belongs_to(self) -> dict[str, Any]:
        """What all results depend on: as a checkpoint, a network of another machine is not gone on from."""
        first = self.first
        reconstructs = first.recipe.reconstruction_weight > 0
        compute = build_compute(first.device, first.precision, (0.5,), (0.5,), reconstructs)
        machine = [compute.device.type, compute.hardware, compute.precision, first.processes.count]
        return {"made_from": first.made_from, "machine": machine}

    def _is_done(self, stamp: Path, inputs: Mapping[str, Any]) -> bool:
        """Whether the first process finds what is stamped; so that all do the same."""
        processes = self.first.processes
        return processes.share(is_current(stamp, inputs) if processes.is_first else None)


def seed_of(seed: int, number: int) -> int:
    """The seed of a fold's networks, counted from 0; the first one has that of the recipe."""
    return derive_seed(seed, "network", number) if number else seed
