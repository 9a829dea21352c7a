"""The command line, which is the same for every stage."""

import argparse
import os
import shlex
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NoReturn

from foldsmith.errors import InputError, unknown_name
from foldsmith.recipes import (
    DATASET_RECIPES,
    RECIPES,
    DatasetFacts,
    Recipe,
    RecipeEvidence,
    find_recipe,
    read_settings,
)
from foldsmith.run.identity import load_identity
from foldsmith.run.paths import RunPaths

DEMO = Path("input/demo80")
FOLDS = 5
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
    words: tuple[str, ...]

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
        return shlex.join(["python", f"src/{stage}.py", *self.words])

    @property
    def identity(self) -> dict[str, object]:
        """Return the run's identity besides the data: recipe, folds, evidence."""
        parts = {"recipe": asdict(self.recipe), "folds": asdict(self.plan)}
        return parts if self.evidence is None else {**parts, "evidence": asdict(self.evidence)}

    def limited(self, facts: DatasetFacts) -> DatasetFacts:
        """Return the facts with the number of images that `--limit` leaves."""
        return replace(facts, num_images=min(facts.num_images, self.plan.limit or facts.num_images))

    def resolved(self, evidence: RecipeEvidence) -> "Command":
        """Return the command with its recipe resolved from this evidence.

        The evidence kept in it says whether the pretrained weights are used, not whether they are available.
        """
        used = replace(evidence, facts=self.limited(evidence.facts))
        recipe = DATASET_RECIPES[self.dataset_recipe](used, self.settings)
        return replace(self, recipe=recipe, evidence=replace(evidence, pretrained=recipe.pretrained))


class WordParser(argparse.ArgumentParser):
    """An argument parser that raises InputError in one sentence, with the nearest known option."""

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            word = message.removeprefix(prefix).split()[0].partition("=")[0]
            raise unknown_name("argument", word, [*self._option_string_actions, "FOLDER"])
        raise InputError(f"{message} (--help lists all options).")


def _listed(names: Iterable[str]) -> str:
    return textwrap.fill(
        ", ".join(names), width=78, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )


def _examples(description: str) -> str:
    """Return example commands for the stage whose docstring this is."""
    stage = description.split("src/")[-1].split()[0] if "src/" in description else "STAGE.py"
    lines = (
        f"python src/{stage}                                        the demo",
        f"python src/{stage} input/tiny80 --recipe resnet64 --folds 5",
        f"python src/{stage} input/tiny80 --limit 8000 --epochs 8 --set lr=0.01 --name slow",
        f"python src/{stage} input/tiny80 --fold 2 --device cuda    one fold, on a GPU",
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
        "fields of a recipe, for --set (explained in src/foldsmith/recipes/recipe.py):\n"
        + _listed(field.name for field in fields(Recipe) if field.name != "name"),
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        default=DEMO,
        help=f"the competition folder ({DEMO})",
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


def _add_fold_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--folds", metavar="K", type=int, help=f"number of stratified folds ({FOLDS})")
    add("--holdout", metavar="F", type=float, help="hold out the share F once instead of folds, e.g. 0.3")
    add("--fold", metavar="K", type=int, help="train only fold K, counted from 0 (all)")
    seed = "seed of the folds and of --limit; --seed is that of training (0)"
    add("--fold-seed", metavar="N", type=int, default=0, help=seed)
    add("--limit", metavar="N", type=int, help="use only N training images, stratified (all)")


def _add_machine_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    devices = "auto, cpu, cuda, cuda:1 …; several, with commas, train folds in parallel (auto: all GPUs)"
    add("--device", default="auto", help=devices)
    precisions = ["auto", "fp32", "bf16", "fp16"]
    add("--precision", default="auto", choices=precisions, help="(auto: the best of the hardware)")
    workers = "threads (for albumentations: processes) that prepare batches; changes no result (auto)"
    add("--workers", metavar="N", type=int, help=workers)


def _add_run_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--name", metavar="RUN", help="name of the run (the recipe's name)")
    output = "write results to DIR/FOLDER-NAME/RUN (output)"
    add("--output", metavar="DIR", type=Path, default=Path("output"), help=output)
    metric = "the metric, or a function of your own (that of competition.toml)"
    add("--metric", metavar="NAME|FILE.py:NAME", default="", help=metric)
    again = "run again even if up to date; replace a different run of the same name"
    add("--again", action="store_true", help=again)


def read_command(argv: list[str] | None, description: str) -> Command:
    """Return the command of `argv` (None: `sys.argv`). Raise InputError for unknown options and values."""
    words = sys.argv[1:] if argv is None else argv
    typed = _parser(description).parse_args(words)
    folder, settings = _folder_of(typed), _settings_of(typed)
    recipe_word = typed.recipe or ("quick" if folder.name == DEMO.name else "default")
    recipe, values = find_recipe(recipe_word), read_settings(settings)
    dataset_recipe = recipe_word if recipe_word in DATASET_RECIPES else ""
    if not dataset_recipe:  # the settings of a dataset's recipe are applied when it is resolved
        recipe = replace(recipe, **values)
    command = Command(
        folder=folder,
        recipe=recipe,
        settings=tuple(settings),
        dataset_recipe=dataset_recipe,
        evidence=None,
        plan=_plan_of(typed),
        fold=typed.fold,
        device=typed.device,
        precision=typed.precision,
        workers=typed.workers,
        name=recipe.name if typed.name is None else typed.name,
        output=typed.output,
        metric=typed.metric,
        again=typed.again,
        words=tuple(words),
    )
    _check(command)
    evidence = _held_evidence(command.run) if dataset_recipe else None
    return command if evidence is None else command.resolved(evidence)


def _folder_of(typed: argparse.Namespace) -> Path:
    """Return the competition folder; `.` and `..` become absolute paths, which have a name."""
    folder = Path(os.path.abspath(typed.folder)) if typed.folder.name in ("", "..") else typed.folder
    if not folder.name:
        raise InputError(f"{typed.folder} has no name; write a competition folder, such as {DEMO}.")
    return folder


def _settings_of(typed: argparse.Namespace) -> list[str]:
    """Return the FIELD=VALUE settings; options such as `--epochs` come last and override `--set`."""
    short = {field: getattr(typed, field) for field in SHORT_FIELDS}
    return [*typed.set, *(f"{field}={value}" for field, value in short.items() if value is not None)]


def _plan_of(typed: argparse.Namespace) -> FoldPlan:
    """Return the fold plan. Raise InputError for both `--folds` and `--holdout`."""
    if typed.folds is not None and typed.holdout is not None:
        raise InputError("--folds and --holdout exclude each other; use one of them.")
    num_folds = FOLDS if typed.folds is None else typed.folds
    return FoldPlan(num_folds, typed.holdout, typed.fold_seed, typed.limit)


def _held_evidence(run: RunPaths) -> RecipeEvidence | None:
    """Return the evidence stored in the run.

    Surveyed again, it could differ: without internet, for example, the pretrained weights are not available.
    """
    held = load_identity(run).get("evidence", {})
    if set(held.get("facts", {})) != {field.name for field in fields(DatasetFacts)}:
        return None  # a fixed recipe, or a version with other facts
    return RecipeEvidence(DatasetFacts(**held["facts"]), held["pretrained"])


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
    if plan.limit is not None and plan.limit < 1:
        raise InputError(f"--limit {plan.limit}: must be at least 1 image.")
    if fold is not None and fold not in plan.folds:
        raise InputError(f"--fold {fold}: the folds are {plan.folds[0]} to {plan.folds[-1]}.")
    if workers is not None and workers < 0:
        raise InputError(f"--workers {workers}: must be 0 or more.")
    check_name(command.name)


def check_name(name: str) -> None:
    """Raise InputError if a run cannot have this name."""
    if name in ("", ".", "..", "cache") or "/" in name or "\\" in name or name.startswith("."):
        raise InputError(f"--name {name}: must be a visible folder's name without slashes, and not 'cache'.")
