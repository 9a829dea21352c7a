"""The folder that an export is: graphs, weights, settings, golden images and a model card.

n images · K outputs.
"""

import runpy
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foldsmith.competition.found import load_found
from foldsmith.data import arrays, dicom
from foldsmith.data.cache import PixelCache, open_run_cache
from foldsmith.data.corrections import describe_corrections
from foldsmith.data.images import DEPTH, image_files
from foldsmith.deployment.answers import AnswerForm
from foldsmith.deployment.combination import Combination
from foldsmith.deployment.exported_script import script_of
from foldsmith.deployment.image_predictor import folds_of
from foldsmith.deployment.model_card import CardFacts, score_by_class, write_card
from foldsmith.deployment.onnx_graph import save_graph
from foldsmith.deployment.parity import Parity, largest_difference, require_parity, tolerance_of
from foldsmith.deployment.weights_folder import save_network
from foldsmith.errors import InputError
from foldsmith.evaluation.predictions import average_predictions
from foldsmith.inference.predictor import RunPredictor
from foldsmith.process.files import atomic_copy, load_json, load_npz, save_json, save_png
from foldsmith.run.identity import competition_folder_of, load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import digests_of_trained, is_from
from foldsmith.run.tables import load_corrections, load_folds, load_samples

COMPARED = 64  # held-out images, and test images
GOLDEN = 8  # of them are copied into the export


@dataclass(frozen=True)
class ExportedRun:
    """A run whose networks are on the CPU in fp32; `fold_runs` are run.json of the folds of the predictor."""

    run: RunPaths
    fold_runs: Sequence[dict[str, Any]]
    predictor: RunPredictor
    combination: Combination
    form: AnswerForm

    @property
    def networks_of_folds(self) -> list[list[int]]:
        """Return the indices of each fold's networks in the predictor."""
        seeds = len(self.predictor.networks) // len(self.fold_runs)
        return [list(range(fold * seeds, (fold + 1) * seeds)) for fold in range(len(self.fold_runs))]


@dataclass(frozen=True)
class Sample:
    """Held-out images by path, with the folds that they were held out of, and their pixels (n, H, W, C)."""

    paths: list[str]
    folds: np.ndarray
    pixels: np.ndarray


def write_export(exported: ExportedRun, folder: Path, fold_files: bool) -> Parity:
    """Write all files of an export, with a graph for each fold if `fold_files`, and return its parity.

    Raise InputError if the graphs predict otherwise than the run.
    """
    predictor, run = exported.predictor, exported.run
    cache = open_run_cache(run, competition_folder_of(run), predictor.form.size)
    sample = sample_held_out(exported, cache)
    by_network = predictor.predict(sample.pixels)
    expected = average_predictions(by_network, predictor.task)
    graphs = write_graphs(exported, folder, fold_files)
    tolerance = tolerance_of(predictor.networks)
    parity = require_parity(graphs, sample.pixels, expected, predictor.task, tolerance)
    write_networks(exported, folder)
    write_settings(exported, folder, graphs)
    write_golden(exported, folder, sample, expected)
    facts = {**parity.facts(), "run": differences_to_run(exported, cache, sample, by_network)}
    save_json(folder / "parity.json", facts)
    (folder / "README.md").write_text(write_card(card_facts(exported, facts)), encoding="utf-8")
    return parity


def sample_held_out(exported: ExportedRun, cache: PixelCache) -> Sample:
    """Return COMPARED held-out images, spread evenly over those of the trained folds."""
    folds = load_folds(exported.run.folds)
    held_out = folds[folds["fold"].isin([facts["fold"] for facts in exported.fold_runs])]
    chosen = held_out.iloc[np.unique(np.linspace(0, len(held_out) - 1, COMPARED).round().astype(int))]
    paths = list(chosen["path"])
    return Sample(paths, chosen["fold"].to_numpy(), np.asarray(cache.pixels[cache.rows(paths)]))


def write_graphs(exported: ExportedRun, folder: Path, fold_files: bool) -> list[Path]:
    """Write one graph of all networks, or one for each fold, and return their paths."""
    predictor = exported.predictor
    groups = {"model.onnx": list(range(len(predictor.networks)))}
    if fold_files:
        numbers = [facts["fold"] for facts in exported.fold_runs]
        files = [f"model-fold{number}.onnx" for number in numbers]
        groups = dict(zip(files, exported.networks_of_folds, strict=True))
    for name, indices in groups.items():
        networks = [predictor.networks[index] for index in indices]
        save_graph(folder / name, networks, predictor.views, predictor.task, predictor.form)
    return [folder / name for name in groups]


def write_networks(exported: ExportedRun, folder: Path) -> None:
    """Write the weights: the first network's into the folder itself, each other's into one of its own."""
    for facts, indices in zip(exported.fold_runs, exported.networks_of_folds, strict=True):
        for seed, index in enumerate(indices):
            name = f"fold{facts['fold']}" + (f"-seed{seed}" if seed else "")
            inside = folder / name if index else folder
            save_network(inside, exported.predictor.networks[index].model, facts, exported.form.names)


def write_settings(exported: ExportedRun, folder: Path, graphs: Sequence[Path]) -> None:
    """Write preprocess.json, decision.json, classes.csv and predict.py."""
    form, task, decision = exported.predictor.form, exported.predictor.task, exported.combination.decision
    several = len(image_files(Path(load_samples(exported.run.samples)["path"].iloc[0]))) > 1
    settings = {
        "models": [graph.name for graph in graphs],
        "task": task.name,
        "output": task.predictions_key,
        "names": list(exported.form.names),
        "image_size": form.size,
        "channels": form.channels,
        "colours": "files of an image" if several else "RGB",
        "values": "uint8, 0 to 255",
        "decoder": "OpenCV, EXIF orientation applied",
        "reduced_jpeg": form.streamed,
        "bits_of_16_bit_images": form.depth if form.depth < DEPTH else DEPTH,
        "resize": "the whole image to a square: OpenCV's INTER_AREA if it has more pixels, else INTER_CUBIC",
        "views": list(exported.predictor.views),
    }
    save_json(folder / "preprocess.json", settings)
    save_json(folder / "decision.json", asdict(decision) if decision else {"kind": task.name, "values": []})
    atomic_copy(exported.run.classes, folder / "classes.csv")
    (folder / "predict.py").write_text(script_of(exported.form, form, decision, several), encoding="utf-8")


def write_golden(exported: ExportedRun, folder: Path, sample: Sample, expected: np.ndarray) -> None:
    """Write GOLDEN images with their predictions: the run's files, or pixels where OpenCV reads none.

    Raise InputError if the export's predict.py reads other pixels than the run.
    """
    unpacked = load_found(exported.run.found).root
    root = exported.run.cache_root / unpacked if unpacked else competition_folder_of(exported.run)
    script = runpy.run_path(str(folder / "predict.py"))
    rows = np.unique(np.linspace(0, len(sample.paths) - 1, GOLDEN).round().astype(int))
    entries = []
    (folder / "golden").mkdir()
    for number, row in enumerate(rows):
        name = copy_golden(root / sample.paths[row], folder / "golden", number, sample.pixels[row])
        if not np.array_equal(script["read"](str(folder / "golden" / name)), sample.pixels[row]):
            raise InputError(
                f"{sample.paths[row]}: the export's predict.py reads other pixels than the run, whose image "
                "may have changed since (src/prepare.py tells); nothing is exported."
            )
        predictions = expected[row].tolist()
        entries.append({"image": f"golden/{name}", "of": sample.paths[row], "predictions": predictions})
    save_json(folder / "golden.json", entries)


def copy_golden(source: Path, folder: Path, number: int, pixels: np.ndarray) -> str:
    """Copy an image into a folder and return its name; `pixels` (H, W, C) stand for a file that is gone."""
    files = image_files(source)
    others = {*dicom.SUFFIXES, arrays.SUFFIX}
    if all(file.is_file() and file.suffix.lower() not in others for file in files):
        for file in files:
            shutil.copyfile(file, folder / f"{number}-{file.name}")
        return f"{number}-{source.name}"
    if len(files) == 1:
        save_png(folder / f"{number}.png", pixels)
        return f"{number}.png"
    words = [str(channel) for channel in range(len(files))]
    for word, layer in zip(words, np.moveaxis(pixels, 2, 0), strict=False):
        save_png(folder / f"{number}_{word}.png", np.repeat(layer[..., None], 3, axis=2))
    return f"{number}_{{{','.join(words[: pixels.shape[2]])}}}.png"


def differences_to_run(
    exported: ExportedRun, cache: PixelCache, sample: Sample, by_network: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Return the largest differences of predictions in fp32 to oof.npz and test.npz, and their precisions.

    `by_network` are the predictions of the sample, (n, K) of each network. A difference is None where the
    file is absent or of other weights.
    """
    run, task, predictor = exported.run, exported.predictor.task, exported.predictor
    trained = digests_of_trained(run, folds_of(run))
    held_out = test = None
    if is_from(run.stamp("validate"), trained):
        stored = by_path(load_npz(run.oof), task.predictions_key)
        own = np.empty_like(by_network[0])
        for facts, indices in zip(exported.fold_runs, exported.networks_of_folds, strict=True):
            rows = sample.folds == facts["fold"]
            own[rows] = average_predictions([by_network[index] for index in indices], task)[rows]
        held_out = largest_difference(own, np.stack([stored[path] for path in sample.paths]), task)
    if is_from(run.stamp("infer"), trained):
        stored = by_path(load_npz(run.test), task.predictions_key)
        paths = list(stored)[:: max(1, len(stored) // COMPARED)][:COMPARED]
        rows = cache.rows(paths)
        readable = cache.index["problem"].to_numpy()[rows] == ""
        rows, paths = rows[readable], np.array(paths)[readable]
        if len(rows):
            predicted = predictor.mean(np.asarray(cache.pixels[rows]))
            test = largest_difference(predicted, np.stack([stored[path] for path in paths]), task)
    precisions = sorted({facts["precision"] for facts in exported.fold_runs})
    return {"precision": ", ".join(precisions), "held_out": held_out, "test": test}


def by_path(predicted: dict[str, np.ndarray], key: str) -> dict[str, np.ndarray]:
    """Return the rows of stored predictions by path."""
    return dict(zip(predicted["path"].tolist(), predicted[key], strict=True))


def card_facts(exported: ExportedRun, parity: dict[str, Any]) -> CardFacts:
    """Return the facts of the model card; the figures by class are those of oof.npz, if it is current."""
    run, form = exported.run, exported.form
    cv, by_class = {}, None
    if is_from(run.stamp("validate"), digests_of_trained(run, folds_of(run))):
        cv, oof = load_json(run.cv), load_npz(run.oof)
        predictions = oof[form.task.predictions_key]
        decided = form.decide(predictions)[1]
        by_class = score_by_class(form.task, oof["label"], predictions, decided, form.names)
    views, decision = exported.predictor.views, exported.combination.decision
    corrected = describe_corrections(load_corrections(run.corrections))
    return CardFacts(load_identity(run), cv, exported.fold_runs, views, by_class, parity, decision, corrected)
