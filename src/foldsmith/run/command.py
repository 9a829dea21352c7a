"""The command line, which is the same for every stage."""

import argparse
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from foldsmith.errors import InputError, unknown_name
from foldsmith.recipes import (
    DATASET_RECIPES,
    RECIPES,
    SYNONYMS,
    DatasetFacts,
    Recipe,
    RecipeEvidence,
    find_recipe,
    read_settings,
    recipe_of,
)
from foldsmith.recipes.weight_names import MODEL_BY_WEIGHTS, TIMM, check_weights_file, network_of
from foldsmith.run.fields import describe_fields
from foldsmith.run.first_word import DEMO, check_only_word, competition_folder
from foldsmith.run.identity import competition_folder_of, fold_of, load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.seeding import derive_seed

STAGES = (
    "demo", "prepare", "split", "pretrain", "train", "validate", "infer", "submit", "examine",
    "report", "score",
)  # fmt: skip
OTHER_COMMANDS = """other commands, each with its own --help:
  ./run.sh study NAME                             the recipes of a study, beside its own figures
  ./run.sh kaggle SLUG                            a contest of Kaggle: downloaded, then every stage
  ./run.sh FOLDER --budget 8h                     a campaign: recipes chosen, timed and judged
  .venv/bin/python src/submit.py RUN --kaggle SLUG -m TEXT     send its submission, and wait for the score
  .venv/bin/python src/look.py RUN IMAGE…         predict single images, and draw what the network sees
  .venv/bin/python src/predict.py RUN FOLDER      answers for new images, and how unknown they are
  .venv/bin/python src/export.py RUN              a folder that predicts elsewhere: ONNX, weights, model card
  .venv/bin/python src/compare.py OUTPUT/NAME     the runs of a competition on the same images
  .venv/bin/python src/blend.py RUN RUN…          a weighted mean of several runs
  .venv/bin/python src/grid.py FOLDER --recipes … many recipes, settings and seeds, here or on a cluster
  .venv/bin/python src/ablate.py RECIPE FOLDER    what each field of a recipe gains
  .venv/bin/python src/bundle.py RUN…             a data set and a notebook for a contest without internet"""
FOLDS = 5
CORRECTED = "-corrected"  # ends the name of a run with --corrections, unless --name is typed
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
TRACKERS = ("wandb", "trackio")
# a field of a recipe, or another word for it -> the field
FIELD_WORDS = {**SYNONYMS, **{field.name: field.name for field in fields(Recipe) if field.name != "name"}}
OVERNIGHT = 8 * 60.0  # minutes of a budget
SHORT_FIELDS = ("epochs", "batch_size", "image_size", "seed", "rounds")  # recipe fields with an option


@dataclass(frozen=True)
class FoldPlan:
    """The split of the training images: `num_folds` folds, or one hold-out of the share `holdout`.

    `limit` is the number of training images that are used, stratified; None: all.
    """

    num_folds: int
    holdout: float | None
    seed: int
    limit: int | None

    @property
    def folds(self) -> range:
        """Return the numbers of the folds: 0 … num_folds - 1, or only 0 for a hold-out."""
        return range(1 if self.holdout is not None else self.num_folds)

    @property
    def num_parts(self) -> int:
        """Return the number of subsets: the folds, or 2 for a hold-out, held-out and training images."""
        return 2 if self.holdout is not None else self.num_folds


@dataclass(frozen=True)
class Command:
    """The checked command line.

    `dataset_recipe` is the name of a recipe that is resolved from the images; empty for a fixed recipe.
    `evidence` is what it was resolved from; None for a fixed recipe, and before the images are surveyed.
    `settings` are applied to a dataset's recipe when it is resolved; until then `recipe` is the table's row.
    """

    folder: Path
    recipe: Recipe
    settings: tuple[str, ...]
    dataset_recipe: str
    evidence: RecipeEvidence | None
    plan: FoldPlan
    fold: int | None
    device: str
    precision: str
    workers: int | None
    name: str
    output: Path
    metric: str
    again: bool
    why: bool  # whether the report has heat maps
    budget: float | None  # minutes that `default` plans for; None: those of its device
    limit_test: int | None  # number of test images that are predicted; None: all
    until: str | None  # name of the last stage that src/run.py runs; None: all
    words: tuple[str, ...]
    corrections: Path | None = None  # the file of corrected labels
    model_by_weights: bool = False  # whether the recipe's weights name its network
    tracker: str = ""  # the library that mirrors logs, scores and report; empty: none

    @property
    def competition(self) -> str:
        return self.folder.name

    @property
    def run(self) -> RunPaths:
        return RunPaths(self.output / self.competition / self.name)

    @property
    def is_resolved(self) -> bool:
        """Return whether the recipe is final. One that depends on the images is not until src/prepare.py."""
        return not self.dataset_recipe or self.evidence is not None

    @property
    def folds_to_train(self) -> list[int]:
        """Return the fold of `--fold`, or all."""
        return list(self.plan.folds) if self.fold is None else [self.fold]

    @property
    def folds_to_use(self) -> list[int]:
        """Return the folds that later stages score and predict with.

        These are all folds, or with `--fold` that fold and those trained so far. So results of one fold never
        replace those of several.
        """
        if self.fold is None:
            return list(self.plan.folds)
        trained = [fold for fold in self.plan.folds if self.run.fold_run(fold).is_file()]
        return sorted({self.fold, *trained})

    def line(self, stage: str) -> str:
        """Return the shell command that runs one stage with this command line."""
        return shlex.join([".venv/bin/python", f"src/{stage}.py", *self.words])

    @property
    def identity(self) -> dict[str, object]:
        """Return the run's identity besides the data: recipe, folds, evidence."""
        parts = {"recipe": asdict(self.recipe), "folds": asdict(self.plan)}
        return parts if self.evidence is None else {**parts, "evidence": self.evidence.as_entry()}

    def limited(self, facts: DatasetFacts) -> DatasetFacts:
        """Return the facts with the number of images that `--limit` leaves."""
        return replace(facts, num_images=min(facts.num_images, self.plan.limit or facts.num_images))

    def limited_test(self, paths: list[str]) -> list[str]:
        """Return the test images to predict: all, or a sample of `--limit-test`, in the same order."""
        if self.limit_test is None:
            return paths
        order = np.random.default_rng(derive_seed(self.plan.seed, "limit-test")).permutation(len(paths))
        return [paths[index] for index in np.sort(order[: self.limit_test])]

    def resolved(self, evidence: RecipeEvidence) -> "Command":
        """Return the command with its recipe resolved from this evidence.

        The evidence kept in it says whether a pretrained network is used, not whether one is available.
        """
        used = replace(evidence, facts=self.limited(evidence.facts))
        recipe = DATASET_RECIPES[self.dataset_recipe](used, self.settings)
        if not (recipe.pretrained or recipe.weights):
            evidence = replace(evidence, backbone=None)
        return replace(self, recipe=recipe, evidence=evidence)


class WordParser(argparse.ArgumentParser):
    """An argument parser that raises InputError in one sentence, with the nearest known option."""

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            word, *rest = message.removeprefix(prefix).split()
            word, _, value = word.partition("=")
            self._suggest_setting(word, value or (rest or ["VALUE"])[0])
            raise unknown_name("argument", word, [*self._option_string_actions, "FOLDER"])
        raise InputError(f"{message} (--help lists all options).")

    def _suggest_setting(self, word: str, value: str) -> None:
        """Raise InputError if a word is a field of a recipe, which --set sets, or another word for one."""
        field = FIELD_WORDS.get(word.lstrip("-").replace("-", "_").lower())
        if "--set" in self._option_string_actions and word.startswith("--") and field:
            raise InputError(
                f"unknown argument '{word}'; a field of the recipe is set by --set {field}={value}."
            )


class ShowFields(argparse.Action):
    """An option that prints every field of a recipe and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(describe_fields())
        parser.exit()


def _listed(names: Iterable[str]) -> str:
    return textwrap.fill(
        ", ".join(names), width=78, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )


def _examples(description: str) -> str:
    """Return example commands for the stage whose docstring this is."""
    stage = description.split("src/")[-1].split()[0] if "src/" in description else "STAGE.py"
    python = ".venv/bin/python"
    lines = (
        f"{python} src/{stage}                                        the demo",
        f"{python} src/{stage} input/tiny80 --recipe resnet64 --folds 5",
        f"{python} src/{stage} input/tiny80 --limit 8000 --epochs 8 --set lr=0.01 --name slow",
        f"{python} src/{stage} input/tiny80 --fold 2 --device cuda    one fold, on a GPU",
        f"{python} src/{stage} output/tiny80/resnet64                 a run that exists, as it was",
    )
    return "\n  ".join(["examples:", *lines])


def _parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the command line, with a stage's docstring as its description."""
    parser = WordParser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Every stage accepts the same options and uses those it needs.\n\n"
        f"{_examples(description)}\n\n"
        f"recipes (explained in src/foldsmith/recipes/):\n{_listed(RECIPES)}\n\n"
        "fields of a recipe, for --set (./run.sh --fields explains them):\n"
        + _listed(field.name for field in fields(Recipe) if field.name != "name")
        + f"\n\n{OTHER_COMMANDS}",
    )
    parser.add_argument(
        "--fields", action=ShowFields, nargs=0, help="explain every field of a recipe, and exit"
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        default=DEMO,
        help=f"the competition folder, or the folder of a run that exists ({DEMO})",
    )
    _add_recipe_words(parser)
    _add_fold_words(parser)
    _add_machine_words(parser)
    _add_run_words(parser)
    return parser


def _add_recipe_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    recipes = "a recipe listed below, or a file (quick for the demo, else default)"
    add("--recipe", metavar="NAME|FILE.py", help=recipes)
    overrides = "overrides a field of the recipe; repeatable"
    add("--set", metavar="FIELD=VALUE", action="append", default=[], help=overrides)
    for field in SHORT_FIELDS:
        add(f"--{field.replace('_', '-')}", metavar="N", help=f"short for --set {field}=N")

    budget = (
        "minutes that the recipe default plans for, with units 90s, 20m or 2h (30 on a CPU, 120 on a GPU)"
    )
    add("--budget", metavar="MINUTES", type=minutes_of, help=budget)


def minutes_of(text: str) -> float:
    """Return the minutes of a duration: 20, 20m, 90s, 2h30m, overnight; ArgumentTypeError for other text."""
    if text == "overnight":
        return OVERNIGHT
    number = r"(?:([0-9]*\.?[0-9]+)"
    pattern = rf"{number}h(?:ours?)?)?{number}m(?:in(?:utes)?)?)?{number}s(?:ec)?)?"
    squeezed = text.replace(" ", "")
    plain = re.fullmatch(rf"{number})", squeezed)
    match = re.fullmatch(pattern, f"{squeezed}m" if plain else squeezed)
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = 60 * hours + minutes + seconds / 60
    if not total:
        raise argparse.ArgumentTypeError(f"{text}: write minutes, units such as 20m or 2h30m, or overnight")
    return total


def _add_fold_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--folds", metavar="K", type=int, help=f"number of stratified folds ({FOLDS})")
    add("--holdout", metavar="F", type=float, help="hold out the share F once instead of folds, e.g. 0.3")
    add("--fold", metavar="K", type=int, help="train only fold K, counted from 0 (all)")
    seed = "seed of the folds and of --limit; --seed is that of training (0)"
    add("--fold-seed", metavar="N", type=int, help=seed)
    add("--limit", metavar="N", type=int, help="use only N training images, stratified (all)")
    first = "predict only N test images, for a first look; no submission is written (all)"
    add("--limit-test", metavar="N", type=int, help=first)


def _add_machine_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    devices = "auto, cpu, cuda, cuda:1 …; several, with commas, train folds in parallel (auto: all GPUs)"
    add("--device", default="auto", help=devices)
    add("--precision", default="auto", choices=PRECISIONS, help="(auto: the best of the hardware)")
    workers = "threads (for albumentations: processes) that prepare batches; changes no result (auto)"
    add("--workers", metavar="N", type=int, help=workers)


def add_prediction_words(parser: argparse.ArgumentParser) -> None:
    """Add device and precision, as commands take them that predict with a trained run."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (auto)")
    precision = "auto is the precision of the training on a device of the same type (auto)"
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help=precision)


def _add_run_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--name", metavar="RUN", help="name of the run (the recipe's name)")
    output = "write results to DIR/FOLDER-NAME/RUN (output)"
    add("--output", metavar="DIR", type=Path, default=Path("output"), help=output)
    corrections = "corrected labels, as a report saves them; the run is then RECIPE-corrected"
    add("--corrections", metavar="FILE", type=Path, help=corrections)
    metric = "the metric, or a function of your own (that of competition.toml)"
    add("--metric", metavar="NAME|FILE.py:NAME", default="", help=metric)
    track = f"mirror logs, scores and report to {' or '.join(TRACKERS)}; changes no result (no tracker)"
    add("--track", metavar="LIBRARY", choices=TRACKERS, default="", help=track)
    again = "run again even if up to date; replace a different run of the same name"
    add("--again", action="store_true", help=again)
    why = "show in the report which places of an image speak for its decision; a backward pass an image"
    add("--why", action="store_true", help=why)
    add("--until", metavar="STAGE", choices=STAGES, help=f"./run.sh stops after it: {', '.join(STAGES)}")


def read_command(argv: list[str] | None, description: str) -> Command:
    """Return the command of `argv` (None: `sys.argv`). Raise InputError for unknown options and values.

    Where the first word is a run's folder, or `--name` is that of a run and no recipe is typed, recipe and
    folds are those of the run, as far as no word sets them.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = _parser(description)
    typed, unknown = parser.parse_known_args(words)
    if unknown:
        check_only_word(typed.folder, unknown[0])
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    typed = _located(typed)
    folder, settings = competition_folder(typed.folder), _settings_of(typed)
    recipe_word = typed.recipe or ("quick" if folder.name == DEMO.name else "default")
    held = _held_identity(typed, folder)
    recipe = recipe_of(held["recipe"]) if held else find_recipe(recipe_word)
    model_by_weights = not held and _weights_name_model(recipe, settings)
    if model_by_weights:
        check_weights_file(read_settings(settings)["weights"])
        settings.append(f"model={TIMM}{network_of(read_settings(settings)['weights'])}")
    values = read_settings(settings)
    corrections, name = _corrections_of(typed, recipe, bool(held))
    dataset_recipe = recipe_word if recipe_word in DATASET_RECIPES and not held else ""
    if not dataset_recipe:  # the settings of a dataset's recipe are applied when it is resolved
        recipe = replace(recipe, **values)
    command = Command(
        folder=folder,
        recipe=recipe,
        settings=tuple(settings),
        dataset_recipe=dataset_recipe,
        evidence=_evidence_of(held),
        plan=_plan_of(typed, held.get("folds", {})),
        fold=typed.fold,
        device=typed.device,
        precision=typed.precision,
        workers=typed.workers,
        name=name,
        output=typed.output,
        metric=typed.metric,
        again=typed.again,
        why=typed.why,
        budget=typed.budget,
        limit_test=typed.limit_test,
        until=typed.until,
        words=tuple(words),
        corrections=corrections,
        model_by_weights=model_by_weights,
        tracker=typed.track,
    )
    _check(command)
    evidence = _evidence_of(load_identity(command.run)) if dataset_recipe else None
    return command if evidence is None else command.resolved(evidence)


def _located(typed: argparse.Namespace) -> argparse.Namespace:
    """Return the words with a run's folder replaced by its competition folder, output folder, name and fold.

    `source` is the name of the run whose recipe and folds are taken; with `--corrections` the run that is
    trained has another name. Raise InputError for a blend, for a competition folder that has moved, and for
    words that name two runs.
    """
    run = RunPaths(Path(os.path.abspath(typed.folder)))
    typed.source = typed.name
    if not run.identity.is_file():
        return typed
    if "made_of" in load_identity(run)["recipe"]:
        raise InputError(
            f"{typed.folder} combines other runs and has no stages; name one of its runs, or for its "
            f"score write src/score.py FOLDER --name {run.root.name}."
        )
    if typed.name is not None and not typed.corrections:
        raise InputError(f"{typed.folder} is a run's folder, so --name {typed.name} names a second run; "
                         "leave --name out, or name the competition folder first.")  # fmt: skip
    folder = competition_folder_of(run)
    if not folder.is_dir():
        raise InputError(
            f"{typed.folder} is a run on {folder}, which is not there; write the competition folder, and the "
            f"run with --name {run.root.name} --output {run.root.parents[1]}."
        )
    output = os.path.relpath(run.root.parents[1])
    typed.folder, typed.output, typed.source = folder, Path(output), run.root.name
    if not typed.corrections:
        typed.name = run.root.name
    typed.fold = fold_of(run) if typed.fold is None else typed.fold
    return typed


def _corrections_of(typed: argparse.Namespace, recipe: Recipe, is_held: bool) -> tuple[Path | None, str]:
    """Return the file of corrections, and the run's name.

    A run that is named without a recipe keeps its own corrections. With `--corrections` and no name it is
    called like the run or recipe that it repeats, with CORRECTED at the end.
    """
    if typed.corrections:
        repeated = (typed.source if is_held else recipe.name).removesuffix(CORRECTED)
        return typed.corrections, repeated + CORRECTED if typed.name is None else typed.name
    name = recipe.name if typed.name is None else typed.name
    own = RunPaths(typed.output / competition_folder(typed.folder).name / name).corrections
    return own if is_held and own.is_file() else None, name


def _held_identity(typed: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the identity of the run that `--name` names; empty without one, or if a recipe is typed."""
    if typed.recipe or typed.source is None:
        return {}
    held = load_identity(RunPaths(typed.output / folder.name / typed.source))
    return held if "made_of" not in held.get("recipe", {"made_of": ""}) else {}


def _settings_of(typed: argparse.Namespace) -> list[str]:
    """Return the FIELD=VALUE settings, those of options such as `--epochs` last.

    Raise InputError if an option and `--set` give a field two values.
    """
    short = {field: getattr(typed, field) for field in SHORT_FIELDS}
    for setting in typed.set:
        field, _, value = setting.partition("=")
        if short.get(field) not in (None, value):
            option = f"--{field.replace('_', '-')}"
            raise InputError(f"{option} {short[field]} and --set {setting} differ; write one of them.")
    return [*typed.set, *(f"{field}={value}" for field, value in short.items() if value is not None)]


def _weights_name_model(recipe: Recipe, settings: list[str]) -> bool:
    """Return whether typed weights name the recipe's network, as no other one is typed."""
    typed = read_settings(settings)
    return recipe.name in MODEL_BY_WEIGHTS and bool(typed.get("weights")) and "model" not in typed


def _plan_of(typed: argparse.Namespace, held: dict[str, Any]) -> FoldPlan:
    """Return the fold plan; `held` are values for words that are not typed, such as those of the run.

    Raise InputError for both `--folds` and `--holdout`.
    """
    if typed.folds is not None and typed.holdout is not None:
        raise InputError("--folds and --holdout exclude each other; use one of them.")
    default = FoldPlan(**{"num_folds": FOLDS, "holdout": None, "seed": 0, "limit": None, **held})
    split = {"num_folds": default.num_folds, "holdout": default.holdout}
    if typed.folds is not None:
        split = {"num_folds": typed.folds, "holdout": None}
    elif typed.holdout is not None:
        split = {"num_folds": FOLDS, "holdout": typed.holdout}
    seed = default.seed if typed.fold_seed is None else typed.fold_seed
    return FoldPlan(**split, seed=seed, limit=default.limit if typed.limit is None else typed.limit)


def _evidence_of(identity: dict[str, Any]) -> RecipeEvidence | None:
    """Return the evidence stored in a run's identity.

    Surveyed again, it could differ: without internet, for example, the pretrained weights are not available.
    """
    return RecipeEvidence.of_entry(identity.get("evidence", {}))  # a fixed recipe has none


def _check(command: Command) -> None:
    """Raise InputError for values out of range."""
    plan, fold, workers = command.plan, command.fold, command.workers
    if plan.num_folds < 2:
        raise InputError(
            f"--folds {plan.num_folds}: cross-validation needs at least 2 folds; or use --holdout F."
        )
    if plan.holdout is not None and not 0 < plan.holdout < 1:
        raise InputError(
            f"--holdout {plan.holdout}: the held-out share must be between 0 and 1, for example 0.3."
        )
    above = next((path for path in (command.output, *command.output.parents) if path.exists()), None)
    if above is not None and not above.is_dir():
        raise InputError(f"--output {command.output}: {above} is a file; name a folder.")
    if plan.limit is not None and plan.limit < 1:
        raise InputError(f"--limit {plan.limit}: must be at least 1 image.")
    if command.limit_test is not None and command.limit_test < 1:
        raise InputError(f"--limit-test {command.limit_test}: must be at least 1 image.")
    if fold is not None and fold not in plan.folds:
        raise InputError(f"--fold {fold}: the folds are {plan.folds[0]} to {plan.folds[-1]}.")
    if workers is not None and workers < 0:
        raise InputError(f"--workers {workers}: must be 0 or more.")
    check_name(command.name)


def check_name(name: str) -> None:
    """Raise InputError if a run cannot have this name."""
    if name in ("", ".", "..", "cache") or "/" in name or "\\" in name or name.startswith("."):
        raise InputError(f"--name {name}: must be a visible folder's name without slashes, and not 'cache'.")
