"""All networks of a fold: several seeds, in one or more rounds of pseudo-labelling.

From the second round on, a fold is trained from scratch again on its training images and on test images,
whose labels are the highest-confidence predictions of the fold's networks of the previous round. These were
not trained on the fold's held-out images, so the labels of those do not leak into its training.
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

from foldsmith.evaluation.predictions import mean_of_networks
from foldsmith.inference.images import CachedImages
from foldsmith.inference.memory import BatchLimit
from foldsmith.inference.predict import ViewAverage, predict
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
from foldsmith.recipes import Recipe
from foldsmith.run.stamps import is_current, write_stamp
from foldsmith.run.tables import load_pseudo_labels
from foldsmith.seeding import derive_seed
from foldsmith.training.machine import Machine
from foldsmith.training.names import NetworkNames
from foldsmith.training.network import NetworkTraining, Rehearsal
from foldsmith.training.pseudo_labels import choose_most_confident
from foldsmith.training.samples import Fold, Samples


@dataclass(frozen=True)
class Rounds:
    """The networks of one fold, ready to train.

    `test_paths` are the images that may be pseudo-labelled. `provenance_digest` is the digest of the fold's
    inputs.

    A trained network has a stamp beside its own held-out predictions; for a fold with one network in one
    round it is the fold's stamp, which the caller writes.
    """

    fold: Fold
    recipe: Recipe
    provenance_digest: str
    machine: Machine
    test_paths: Sequence[str] = ()

    def train(self) -> dict[str, Any]:
        """Train every network that is not trained yet, resuming from its checkpoint if there is one.

        Write the files of FoldPaths; held-out predictions are means over the networks. Return facts for
        run.json, those of the last round. Raise InputError as NetworkTraining does.
        """
        started, seeds, rounds = time.monotonic(), range(self.recipe.seeds), list[dict[str, Any]]()
        for number in range(1, self.recipe.rounds + 1):
            training = self._training_of(number)
            networks = [self._train_network(number, seed, training) for seed in seeds]
            scores = [facts.pop("held_out") for facts in networks]
            rounds.append(
                {
                    "round": number,
                    "pseudo_labelled": len(training.labels) - len(self.fold.training.labels),
                    **self._average(number),
                    "networks": [{"seed": self._seed(seed), **scores[seed]} for seed in seeds],
                    "training_seconds": sum(facts["training_seconds"] for facts in networks),
                }
            )
        return {
            **networks[0],
            "training_images": len(self.fold.training.labels),
            "seeds": self.recipe.seeds,
            "rounds": rounds,
            "training_seconds": sum(facts["training_seconds"] for facts in rounds),
            "seconds": time.monotonic() - started,
        }

    def rehearse(self) -> Rehearsal:
        """Return the measured speeds of the fold's first network; write nothing."""
        return NetworkTraining(
            fold=self.fold,
            recipe=self.recipe,
            name=self._names.network(1, 0),
            provenance_digest=self.provenance_digest,
            machine=self.machine,
        ).rehearse()

    @property
    def outputs(self) -> list[Path]:
        """The outputs in the stamp of the fold's run.json.

        Files of earlier rounds are not among them. Held-out predictions have their own stamp, because other
        views replace them.
        """
        last = [name.files for name in self._names.networks(self.recipe.rounds)]
        written = [path for files in last for path in (files.weights, files.log)]
        return [*written, self.fold.paths.pseudo_labels] if self.recipe.rounds > 1 else written

    def forget(self) -> None:
        """Remove checkpoints, stamps and networks that a training could resume from."""
        paths = self.fold.paths
        remove_checkpoints(paths.checkpoint)
        paths.pseudo_stamp.unlink(missing_ok=True)
        for folder in (*paths.root.glob("seed*"), *paths.root.glob("round*")):
            shutil.rmtree(folder)

    def _training_of(self, number: int) -> Samples:
        """Return the training samples of a round: the fold's, then pseudo-labelled ones sorted by path.

        Sorted by confidence, their order would depend on rounding.
        """
        training = self.fold.training
        if number == 1:
            return training
        labelled = self._label(number).sort_values("path")
        paths = list(labelled["path"])
        return Samples(
            [*training.paths, *paths],
            np.concatenate([training.rows, self.fold.cache.rows(paths)]),
            np.concatenate([training.labels, self.fold.task.targets(labelled)]),
        )

    def _train_network(self, number: int, seed: int, training: Samples) -> dict[str, Any]:
        """Train a network of a round if it is not trained yet; return its facts."""
        name, is_first = self._names.network(number, seed), self.machine.processes.is_first
        inputs = {**self._inputs, "round": number, "network": seed}
        if number > 1:
            inputs["pseudo_labels"] = digest_of_file(self._names.round_paths(number).pseudo_labels)
        stamped = {**inputs, "views": self.recipe.views}  # the stamp covers the held-out predictions too
        if name.stamp and self._is_current(name.stamp, stamped):
            if is_first:
                remove_checkpoints(
                    name.files.checkpoint
                )  # left if a process was killed after writing the stamp
            return load_json(name.stamp)["facts"]
        facts = NetworkTraining(
            fold=replace(self.fold, training=training),
            recipe=replace(self.recipe, seed=self._seed(seed)),
            name=name,
            provenance_digest=digest_of(inputs),
            machine=self.machine,
        ).train()
        self.machine.processes.share(None)  # wait until the first process has written all files
        facts["held_out"] = self._score(load_npz(name.own.heldout)[self.fold.task.predictions_key])
        if name.stamp and is_first:
            write_stamp(
                name.stamp, stamped, [name.files.weights, name.files.log, name.own.heldout], facts=facts
            )
            remove_checkpoints(name.files.checkpoint)
        return facts

    def _label(self, number: int) -> pd.DataFrame:
        """Return the pseudo-labels of a round, from their file if it is current; predict them otherwise."""
        paths, processes = self._names.round_paths(number), self.machine.processes
        teachers = self._names.networks(number - 1)
        weights = [name.files.weights for name in teachers]
        inputs = {
            **self._inputs,
            "teachers": [digest_of_file(path) for path in weights],
            "images": digest_of(list(self.test_paths)),
        }
        if not self._is_current(paths.pseudo_stamp, inputs):
            facts = load_json(teachers[0].own.run)["facts"]
            predicted = np.mean([self._predict(path, facts) for path in weights], axis=0)
            if processes.is_first:
                share, task = self.recipe.pseudo_share, self.fold.task
                labelled = choose_most_confident(self.test_paths, predicted, share, task)
                save_csv(paths.pseudo_labels, labelled)
                write_stamp(paths.pseudo_stamp, inputs, [paths.pseudo_labels])
            processes.share(None)
        labelled = load_pseudo_labels(paths.pseudo_labels)
        if processes.is_first:
            count = f"{len(labelled):,} of {len(self.test_paths):,} test images pseudo-labelled"
            say(f"fold {self.fold.number} round {number}: {count}")
        return labelled

    def _predict(self, weights: Path, facts: Mapping[str, Any]) -> np.ndarray:
        """Return a network's predictions of the test images, float64 (n, K)."""
        cache, processes = self.fold.cache, self.machine.processes
        facts = {**facts, "recipe": asdict(self.recipe)}
        model, recipe, compute = load_trained(weights, facts, self.machine.device, self.machine.precision)
        images = CachedImages.of(cache, processes.own_rows(cache.rows(self.test_paths)))
        average = ViewAverage(self.fold.task, recipe.views)
        own = predict(model, images, average, compute, self._batch_limit)
        return processes.join_rows(own).astype(np.float64)

    def _average(self, number: int) -> dict[str, float]:
        """Write the mean of a round's held-out predictions, if it has several networks; return its score."""
        key = self.fold.task.predictions_key
        own = [load_npz(name.own.heldout) for name in self._names.networks(number)]
        predicted = [held_out[key] for held_out in own]
        if len(own) == 1:
            return self._score(predicted[0])
        mean = mean_of_networks(predicted)
        if self.machine.processes.is_first:
            save_npz(self._names.round_paths(number).heldout, **{**own[0], key: mean})
        return self._score(mean)

    def _score(self, predictions: np.ndarray) -> dict[str, float]:
        """Return the mean credit, for one class the accuracy, and the loss on the held-out images."""
        loss, accuracy = self.fold.task.loss_and_credit(predictions, self.fold.held_out.labels)
        return {"accuracy": accuracy, "loss": loss}

    def _seed(self, number: int) -> int:
        """Return the training seed of a network; the first network has the recipe's."""
        return derive_seed(self.recipe.seed, "network", number) if number else self.recipe.seed

    def _is_current(self, stamp: Path, inputs: Mapping[str, Any]) -> bool:
        """Return whether a stamp is current, as the first process finds it, so that all processes agree."""
        processes = self.machine.processes
        return processes.share(is_current(stamp, inputs) if processes.is_first else None)

    @cached_property
    def _names(self) -> NetworkNames:
        return NetworkNames(self.fold.number, self.fold.paths, self.recipe.rounds, self.recipe.seeds)

    @cached_property
    def _batch_limit(self) -> BatchLimit:
        """The batch limit for test images: one instance, so that a batch size that failed is not retried."""
        return BatchLimit(self.recipe.predict_batch_size)

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        """The inputs of all networks, with the machine: as with checkpoints, another machine's are stale."""
        compute = self.machine.compute((0.5,), (0.5,), reconstructs=self.recipe.reconstruction_weight > 0)
        processes = self.machine.processes
        machine = [compute.device.type, compute.hardware, compute.precision, processes.count]
        return {"made_from": self.provenance_digest, "machine": machine}
