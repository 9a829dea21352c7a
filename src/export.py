"""Export a run as a folder that predicts elsewhere, without torch: ONNX, weights, settings, a model card.

.venv/bin/python src/export.py output/tiny80/resnet64 --output tiny80-model

The export is refused if its predictions of held-out images are not those of the run.
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
from pathlib import Path

from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.files import atomic_folder, load_json
from foldsmith.process.terminal import say
from foldsmith.run.command import WordParser
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import require_trained

MARK = "parity.json"  # a folder with this file is an export, which another one may replace


def main(argv: list[str] | None = None) -> int:
    typed = read_words(argv)
    run = RunPaths(typed.run)
    refuse_others(run)

    # imported here: torch takes seconds, which a wrong word should not pay
    from foldsmith.deployment.answers import AnswerForm
    from foldsmith.deployment.export_folder import ExportedRun, write_export
    from foldsmith.deployment.image_predictor import ImagePredictor, folds_of
    from foldsmith.deployment.onnx_graph import require_packages

    require_packages()
    predictor = ImagePredictor.of_run(run, "cpu", "fp32")
    fold_runs = require_trained(run, folds_of(run))
    form = AnswerForm.of_run(run, predictor.combination)
    exported = ExportedRun(run, fold_runs, predictor.predictors[0], predictor.combination, form)
    output = typed.output or run.root / "export"
    with atomic_folder(output, MARK) as folder:
        parity = write_export(exported, folder, typed.folds == "each")
    worst = max(parity.differences.values())
    say(
        f"export: {output}; on {parity.images} held-out images its predictions differ from the run's in fp32 "
        f"by at most {worst:.1e} (refused above {parity.tolerance:.0e})"
    )
    return 0


def read_words(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line. Raise InputError for wrong words."""
    parser = WordParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder, output/<competition>/<run>")
    parser.add_argument(
        "--folds",
        default="one",
        choices=["one", "each"],
        help="one graph that averages the folds, or a graph for each fold (one)",
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help="the folder that is written (RUN/export)")
    return parser.parse_args(argv)


def refuse_others(run: RunPaths) -> None:
    """Raise InputError for a folder that is no run, and for a blend or an average."""
    if not run.identity.is_file():
        raise InputError(f"{run.root} is no run; name a run's folder, output/<competition>/<run>.")
    if run.blend.is_file():
        from foldsmith.deployment.combination import used_members

        facts = load_json(run.blend)
        used, adjustment = used_members(facts), facts.get("adjustment") or {}
        adjusted = adjustment.get("value") is not None
        if len(used) == 1 and not adjusted:
            raise InputError(f"{run.root} uses {used[0][0]} alone, as no blend was a gain; export that run.")
        weighted = ", ".join(f"{name} ({weight:.3g})" for name, weight in used)
        then = f", then {adjustment['name']} as in {run.blend}" if adjusted else ""
        raise InputError(
            f"{run.root} combines other runs, whose images may differ in size; export each, and take the "
            f"mean of their predictions by weight: {weighted}{then}."
        )


if __name__ == "__main__":
    run_main(main, stopped="stopped; nothing is exported\n")
