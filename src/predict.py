"""Predict new images as a run predicts its test images, into a table: answers, probabilities, how unknown.

.venv/bin/python src/predict.py output/tiny80/resnet64 photos more/cat.jpg --output photos.csv
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from foldsmith.deployment.new_images import find_images
from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.terminal import progress, say
from foldsmith.run.command import WordParser, add_prediction_words
from foldsmith.run.paths import RunPaths
from foldsmith.run.tables import save_table_in_chunks

if TYPE_CHECKING:
    from foldsmith.deployment.image_predictor import Chunk, ImagePredictor
    from foldsmith.deployment.unknown import UnknownMeasure

FEW_KNOWN = 100  # held-out images; a share of fewer is told as rough


def main(argv: list[str] | None = None) -> int:
    typed = read_words(argv)
    run = RunPaths(typed.run)
    if not run.identity.is_file():
        raise InputError(f"{run.root} is no run; name a run's folder, output/<competition>/<run>.")
    if typed.output is not None and typed.output.is_dir():
        raise InputError(
            f"--output {typed.output} is a folder; name the table, such as {typed.output}/new.csv."
        )
    # imported here: scipy and torch take seconds, which a wrong word should not pay
    from foldsmith.deployment.combination import read_combination

    images = find_images(typed.images, read_combination(run).members[0])
    for note in images.notes:
        say(f"predict: {note}")
    from foldsmith.deployment.answers import AnswerForm
    from foldsmith.deployment.image_predictor import ImagePredictor

    predictor = ImagePredictor.of_run(run, typed.device, typed.precision)
    form = AnswerForm.of_run(run, predictor.combination)
    measure = find_measure(predictor)
    problems: list[str] = []

    def tables(advance: Callable[[int], None]) -> Iterator[pd.DataFrame]:
        start = 0
        for chunk in predictor.chunks(images.paths, advance):
            paths = images.paths[start : start + len(chunk.problems)]
            problems.extend(f"{path}: {why}" for path, why in zip(paths, chunk.problems, strict=True) if why)
            yield rows_of(paths, chunk, form.table(chunk.predictions, chunk.problems), measure)
            start += len(paths)

    output = typed.output or run.root / "predictions.csv"
    with progress("predict", len(images.paths), "images") as advance:
        save_table_in_chunks(output, tables(advance))
    if problems:
        say(
            f"predict: {len(problems):,} of {len(images.paths):,} images have no answer; the column problem "
            f"says why (first: {problems[0]})"
        )
    say(f"predict: {output} ({len(images.paths):,} images, {describe(predictor)})")
    if len(problems) == len(images.paths):
        raise InputError(f"no image has an answer; {output} says why of each.")
    return 0


def read_words(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line. Raise InputError for wrong words."""
    parser = WordParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run, a blend or an average")
    parser.add_argument(
        "images", metavar="FOLDER|FILE", type=path_of, nargs="+", help="image files, and folders of them"
    )
    parser.add_argument(
        "--output", metavar="FILE.csv", type=Path, help="the table that is written (RUN/predictions.csv)"
    )
    add_prediction_words(parser)
    return parser.parse_args(argv)


def path_of(word: str) -> Path:
    """Return a word as a path. Raise ArgumentTypeError for an empty one, which would be this folder."""
    if not word:
        raise argparse.ArgumentTypeError("an empty word names no image; write a dot for this folder")
    return Path(word)


def find_measure(predictor: "ImagePredictor") -> "UnknownMeasure | None":
    """Return the measure of the column `unknown`, by the main member; None without its features."""
    from foldsmith.deployment.unknown import UnknownMeasure

    member = predictor.combination.members[predictor.main]
    measure = UnknownMeasure.of_run(member, predictor.predictors[predictor.main])
    if measure is None:
        say(
            "predict: no column unknown, which needs the features of held-out images: "
            f"src/examine.py {member.root} stores them"
        )
        return None
    if len(predictor.predictors) > 1:
        say(f"predict: unknown is by the features of {member.root}, the member of the largest weight")
    count = len(measure.known.distances)
    if count < FEW_KNOWN:
        say(f"predict: unknown is rough: it is a share of only {count} held-out images")
    return measure


def rows_of(
    paths: Sequence[Path], chunk: "Chunk", answers: pd.DataFrame, measure: "UnknownMeasure | None"
) -> pd.DataFrame:
    """Return the rows of a chunk: path, the answers, unknown, problem."""
    unreadable = [bool(problem) for problem in chunk.problems]
    table = pd.DataFrame({"path": [path.as_posix() for path in paths]}).join(answers)
    if measure is not None:
        table["unknown"] = pd.Series(measure.unknown(chunk.pixels).round(4)).mask(unreadable)
    return table.assign(problem=chunk.problems)


def describe(predictor: "ImagePredictor") -> str:
    """Return the networks and views that predicted, in words."""
    counts = [len(member.networks) for member in predictor.predictors]
    described = [
        f"{count} network{'s' if count > 1 else ''}, views {', '.join(member.views)}"
        for count, member in zip(counts, predictor.predictors, strict=True)
    ]
    return " and ".join(described)


if __name__ == "__main__":
    run_main(main, stopped="stopped; no table is written\n")
