"""Predict a contest's test images from a bundle, in a notebook without internet, and write submission.csv.

The mounted test images may be others, and more, than those the runs were made with.
"""

import atexit
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from foldsmith import __version__
from foldsmith.competition.folder import read_competition
from foldsmith.competition.found import load_found
from foldsmith.competition.settings import read_settings
from foldsmith.competition.submission import read_submission_form, save_submission
from foldsmith.deployment.combination import Combination
from foldsmith.deployment.image_predictor import ImagePredictor
from foldsmith.deployment.manifest import SETTINGS, Manifest, load_manifest
from foldsmith.deployment.time_limit import fit_time
from foldsmith.errors import InputError, first_of
from foldsmith.evaluation.decisions import decider
from foldsmith.inference.compute import choose_devices, choose_precision, has_bf16
from foldsmith.inference.predictor import CHUNK, RunPredictor
from foldsmith.process.files import load_json, save_npz
from foldsmith.process.terminal import progress, say
from foldsmith.run.tables import load_classes

DEPTH = 4  # folders between the mount and a contest's sample submission
USED = 0.9  # share of the time limit that is planned for
GROWTH = 4  # the speed is looked at after CHUNK images, then after four times as many, and so on
MOST_UNREADABLE = 0.5  # share of the test images; of more no submission is written
SUBMISSION, PREDICTIONS = "submission.csv", "predictions.npz"


@dataclass(frozen=True)
class HiddenTest:
    """A bundle, the folder in which contests are mounted, and where results go.

    `contest` is the contest's folder; None to find it below `mount` by its sample submission. `minutes` is
    the time limit from `begun`, a time of `time.monotonic`.
    """

    bundle: Path
    mount: Path
    output: Path
    contest: Path | None
    minutes: float
    begun: float


def predict_hidden_test(hidden: HiddenTest, device: str = "auto") -> None:
    """Write submission.csv and predictions.npz. Raise InputError for a damaged bundle or another contest."""
    say(f"foldsmith {__version__}, Python {platform.python_version()}, torch {torch.__version__}")
    manifest = load_manifest(hidden.bundle)
    contest = hidden.contest or find_contest(hidden.mount, manifest, hidden.bundle)
    settings = read_settings(hidden.bundle / SETTINGS)
    unpacked = tempfile.mkdtemp(prefix="foldsmith-")  # what is in the output folder is the notebook's output
    atexit.register(shutil.rmtree, unpacked, ignore_errors=True)
    competition = read_competition(contest, Path(unpacked), settings)
    combination = manifest.combination(hidden.bundle)
    run = combination.members[0]
    cell_form = load_found(run.found).cell_form
    form = read_submission_form(competition, load_classes(run.classes), combination.task, cell_form)
    images = list(dict.fromkeys(image for named in form.images for image in named))
    say(f"{contest}: {len(form.ids):,} rows, {len(images):,} test images")
    predictors, prior = load_predictors(combination, manifest, device), np.array(manifest.prior)
    predictor = ImagePredictor(combination, predictors)
    files, deadline = [competition.root / image for image in images], hidden.begun + 60 * hidden.minutes
    predictions = predict_in_time(predictor, files, prior, deadline)
    predicted = {"path": np.array(images, dtype=np.str_), combination.task.predictions_key: predictions}
    save_npz(hidden.output / PREDICTIONS, **predicted)
    decide = decider(combination.decision, combination.task) if combination.decision else None
    target = hidden.output / SUBMISSION
    for line in save_submission(target, form, predicted, prior, competition, decide):
        say(line)
    say(f"{target} ({len(form.ids):,} rows, checked)")


def find_contest(mount: Path, manifest: Manifest, bundle: Path) -> Path:
    """Return the folder below `mount` that holds the contest's sample submission, or has the contest's name.

    Raise InputError unless there is exactly one.
    """
    wanted = Path(manifest.sample or manifest.competition)
    found = []
    for depth in range(DEPTH + 1):
        for path in mount.glob("/".join(["*"] * depth + [str(wanted)])):
            if not path.is_relative_to(bundle):
                found.append(path.parents[len(wanted.parts) - 1] if manifest.sample else path)
    if not found:
        raise InputError(
            f"{mount} holds no {wanted}; add the contest {manifest.competition} to the notebook's inputs, or "
            "write its folder as CONTEST in the notebook."
        )
    if len(found) > 1:
        raise InputError(
            f"{mount} holds {wanted} in {first_of(list(map(str, found)))}; write the contest's folder as "
            "CONTEST in the notebook."
        )
    return found[0]


def load_predictors(combination: Combination, manifest: Manifest, device: str) -> list[RunPredictor]:
    """Return a predictor for each member, in the precision of its training where the device has it."""
    used, predictors = choose_devices(device)[0], []
    for run, folds in zip(combination.members, manifest.folds, strict=True):
        fold_runs = [load_json(run.fold_run(fold)) for fold in folds]
        emulates = fold_runs[0]["precision"] == "bf16" and not has_bf16(used)
        precision = choose_precision("auto", used) if emulates else "auto"
        predictor = RunPredictor.of_run(run, fold_runs, device, precision)
        compute = predictor.networks[0].compute
        say(
            f"{run.root.name}: {len(predictor.networks)} networks, views {', '.join(predictor.views)}, "
            f"{compute.hardware}, {compute.precision}"
        )
        predictors.append(predictor)
    return predictors


def predict_in_time(
    predictor: ImagePredictor, files: Sequence[Path], prior: np.ndarray, deadline: float
) -> np.ndarray:
    """Return combined predictions of image files, float32 (n, K), until the deadline, of time.monotonic.

    An image that cannot be read gets the `prior` (K,). Where the images so far show that all networks and
    views would take too long, fewer predict the others; images that are not reached in time get the prior.
    Raise InputError if most images cannot be read.
    """
    predictions = np.tile(prior.astype(np.float32), (len(files), 1))
    done, size, unreadable = 0, CHUNK, []
    with progress("predict", len(files), "images") as advance:
        while done < len(files) and (not done or time.monotonic() < deadline):
            begun, part = time.monotonic(), files[done : done + size]
            rows, failed = fill(predictions[done : done + size], predictor, part, advance)
            unreadable += failed
            done, size = done + rows, GROWTH * size
            # the last images have shown the speed
            available = USED * (deadline - time.monotonic()) / max(1, len(files) - done)
            seconds = (time.monotonic() - begun) / rows
            fitting, said = fit_time(predictor.predictors, seconds, available)
            if said and done < len(files):
                say(f"the time limit leaves {available:.2g} s an image: {said} from now on")
                predictor = replace(predictor, predictors=fitting)
    if done < len(files):
        share = (len(files) - done) / len(files)
        say(f"the time limit is reached: {len(files) - done:,} images ({share:.0%}) get the class prior")
    if len(unreadable) > MOST_UNREADABLE * len(files):
        raise InputError(
            f"{len(unreadable):,} of {len(files):,} test images cannot be read ({first_of(unreadable)}), so "
            "no submission is written; the mounted folder is another contest's, or not whole."
        )
    if unreadable:
        said = f"{len(unreadable):,} of {len(files):,} test images cannot be read and get the class prior"
        say(f"{said} ({first_of(unreadable)})")
    return predictions


def fill(
    predictions: np.ndarray,
    predictor: ImagePredictor,
    files: Sequence[Path],
    advance: Callable[[int], None],
) -> tuple[int, list[str]]:
    """Write the predictions of files into an array (n, K), and return how many, and which cannot be read.

    Images whose predictions are not finite, as float16 may overflow, are predicted again in fp32. Raise
    InputError if they are not finite then.
    """
    done, unreadable = 0, []
    for chunk in predictor.chunks(files, advance):
        for row, problem in enumerate(chunk.problems, start=done):
            if not problem:
                predictions[row] = chunk.predictions[row - done]
            elif np.isfinite(chunk.predictions[row - done]).all():
                unreadable.append(f"{files[row]}: {problem}")
            else:
                say(f"{files[row]}: its prediction is not finite; it is predicted again in fp32")
                (exact,) = predictor.in_fp32().chunks([files[row]])
                if exact.problems[0]:
                    raise InputError(f"{files[row]}: {exact.problems[0]}")
                predictions[row] = exact.predictions[0]
        done += len(chunk.problems)
    return done, unreadable
