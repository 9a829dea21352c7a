"""The words every stage understands, read once and in one way."""

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
SHORT_FIELDS = ("epochs", "batch_size", "image_size", "seed", "rounds")  # with a word of their own


@dataclass(frozen=True)
class FoldPlan:
    """How the training images are split. `holdout` is a share, or None for `num_folds` folds."""

    num_folds: int
    holdout: float | None
    seed: int
    limit: int | None

    @property
    def folds(self) -> range:
        """The folds that are held out once: 0 … num_folds - 1, or only 0 for a hold-out."""
        return range(1 if self.holdout is not None else self.num_folds)

    @property
    def num_parts(self) -> int:
        """Into how many parts the images are split: folds, or held out and trained."""
        return 2 if self.holdout is not None else self.num_folds


@dataclass(frozen=True)
class Command:
    """What a user typed, checked.

    `dataset_recipe` names a recipe that the images resolve, else it is empty; `evidence` is what the run's
    was resolved from. Without evidence nobody has surveyed the images yet, and `recipe` is its row as it
    stands, without the settings.
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
        """Whether the recipe is known; before a run is prepared, it may still depend on the images."""
        return not self.dataset_recipe or self.evidence is not None

    @property
    def folds_to_train(self) -> list[int]:
        """Return the fold of `--fold`, or all."""
        return list(self.plan.folds) if self.fold is None else [self.fold]

    @property
    def folds_to_use(self) -> list[int]:
        """Return the folds that are scored and predict: all, or with `--fold` those trained so far.

        So a fold trained alone never replaces the results of more folds.
        """
        if self.fold is None:
            return list(self.plan.folds)
        trained = [fold for fold in self.plan.folds if self.run.fold_run(fold).is_file()]
        return sorted({self.fold, *trained})

    def line(self, stage: str) -> str:
        """Return the command that runs one stage with these words."""
        return shlex.join(["python", f"src/{stage}.py", *self.words])

    @property
    def identity(self) -> dict[str, object]:
        """Return what the run's name stands for, besides the data: recipe, folds, evidence."""
        parts = {"recipe": asdict(self.recipe), "folds": asdict(self.plan)}
        return parts if self.evidence is None else {**parts, "evidence": asdict(self.evidence)}

    def limited(self, facts: DatasetFacts) -> DatasetFacts:
        """Return the facts of the images that are used, where there is a limit."""
        return replace(facts, num_images=min(facts.num_images, self.plan.limit or facts.num_images))

    def resolved(self, evidence: RecipeEvidence) -> "Command":
        """Return the same words with the recipe resolved from this evidence.

        The evidence held says whether the weights are used, not whether they could be had.
        """
        used = replace(evidence, facts=self.limited(evidence.facts))
        recipe = DATASET_RECIPES[self.dataset_recipe](used, self.settings)
        return replace(self, recipe=recipe, evidence=replace(evidence, pretrained=recipe.pretrained))


class WordParser(argparse.ArgumentParser):
    """A parser that refuses wrong words in one sentence, with the nearest right one."""

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            word = message.removeprefix(prefix).split()[0].partition("=")[0]
            raise unknown_name("word", word, [*self._option_string_actions, "FOLDER"])
        raise InputError(f"{message} (--help explains every word).")


def _listed(names: Iterable[str]) -> str:
    return textwrap.fill(
        ", ".join(names), width=78, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )


def _examples(description: str) -> str:
    """Return the command at the end of a stage's docstring, alone and with common words."""
    stage = description.split("src/")[-1].split()[0] if "src/" in description else "STAGE.py"
    lines = (
        f"python src/{stage}                                        the demo",
        f"python src/{stage} input/tiny80 --recipe resnet64 --folds 5",
        f"python src/{stage} input/tiny80 --limit 8000 --epochs 8 --set lr=0.01 --name slow",
        f"python src/{stage} input/tiny80 --fold 2 --device cuda    one fold, on a GPU",
    )
    return "\n  ".join(["examples:", *lines])


def _parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of every stage's words."""
    parser = WordParser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Every stage understands the same words and takes those it needs.\n\n"
        f"{_examples(description)}\n\n"
        f"recipes (src/foldsmith/recipes/ explains each):\n{_listed(RECIPES)}\n\n"
        "fields of a recipe, for --set (src/foldsmith/recipes/recipe.py explains each):\n"
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
    recipes = "one of the recipes below, or a file (quick for the demo, else default)"
    add("--recipe", metavar="NAME|FILE.py", help=recipes)
    overrides = "overrides a field of the recipe; repeatable"
    add("--set", metavar="FIELD=VALUE", action="append", default=[], help=overrides)
    for field in SHORT_FIELDS:
        add(f"--{field.replace('_', '-')}", metavar="N", help=f"short for --set {field}=N")


def _add_fold_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--folds", metavar="K", type=int, help=f"number of stratified folds ({FOLDS})")
    add("--holdout", metavar="F", type=float, help="one held-out share F instead of folds, for example 0.3")
    add("--fold", metavar="K", type=int, help="only fold K, counted from 0 (all)")
    seed = "seed of folds and --limit, never of training (0)"
    add("--fold-seed", metavar="N", type=int, default=0, help=seed)
    add("--limit", metavar="N", type=int, help="use only N training images, stratified (all)")


def _add_machine_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    devices = "auto, cpu, cuda, cuda:1 …; several with commas train folds at once (auto: all GPUs)"
    add("--device", default="auto", help=devices)
    precisions = ["auto", "fp32", "bf16", "fp16"]
    add("--precision", default="auto", choices=precisions, help="(auto: by the hardware)")
    workers = "threads that prepare batches, processes for albumentations; never changes a result (auto)"
    add("--workers", metavar="N", type=int, help=workers)


def _add_run_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--name", metavar="RUN", help="name of the run (the recipe's)")
    output = "results go to DIR/FOLDER-NAME/RUN (output)"
    add("--output", metavar="DIR", type=Path, default=Path("output"), help=output)
    again = "do it again, even if it is done; replace another run of this name"
    add("--again", action="store_true", help=again)


def read_command(argv: list[str] | None, description: str) -> Command:
    """Return the words of a stage (`sys.argv` for None), checked.

    Raises InputError for words nobody understands.
    """
    words = sys.argv[1:] if argv is None else argv
    typed = _parser(description).parse_args(words)
    folder, settings = _folder_of(typed), _settings_of(typed)
    recipe_word = typed.recipe or ("quick" if folder.name == DEMO.name else "default")
    recipe, values = find_recipe(recipe_word), read_settings(settings)
    dataset_recipe = recipe_word if recipe_word in DATASET_RECIPES else ""
    if not dataset_recipe:  # else the settings are applied with what the images resolve
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
        again=typed.again,
        words=tuple(words),
    )
    _check(command)
    evidence = _held_evidence(command.run) if dataset_recipe else None
    return command if evidence is None else command.resolved(evidence)


def _folder_of(typed: argparse.Namespace) -> Path:
    """Return the competition folder; `.` and `..` by the name they have."""
    folder = Path(os.path.abspath(typed.folder)) if typed.folder.name in ("", "..") else typed.folder
    if not folder.name:
        raise InputError(f"{typed.folder} has no name; FOLDER is a competition folder such as {DEMO}.")
    return folder


def _settings_of(typed: argparse.Namespace) -> list[str]:
    """Return the FIELD=VALUE settings; the short words stand above `--set`."""
    short = {field: getattr(typed, field) for field in SHORT_FIELDS}
    return [*typed.set, *(f"{field}={value}" for field, value in short.items() if value is not None)]


def _plan_of(typed: argparse.Namespace) -> FoldPlan:
    if typed.folds is not None and typed.holdout is not None:
        raise InputError("--folds and --holdout are two ways to split; give one of them.")
    num_folds = FOLDS if typed.folds is None else typed.folds
    return FoldPlan(num_folds, typed.holdout, typed.fold_seed, typed.limit)


def _held_evidence(run: RunPaths) -> RecipeEvidence | None:
    """Return what the run's recipe was resolved from: without a network, say, it could be another one now."""
    held = load_identity(run).get("evidence", {})
    if set(held.get("facts", {})) != {field.name for field in fields(DatasetFacts)}:
        return None  # of a recipe that no dataset resolved, or of a version with other facts
    return RecipeEvidence(DatasetFacts(**held["facts"]), held["pretrained"])


def _check(command: Command) -> None:
    """Raise InputError for values out of range."""
    plan, fold, workers = command.plan, command.fold, command.workers
    if plan.num_folds < 2:
        raise InputError(
            f"--folds {plan.num_folds}: cross-validation needs at least 2 folds (or --holdout F)."
        )
    if plan.holdout is not None and not 0 < plan.holdout < 1:
        raise InputError(
            f"--holdout {plan.holdout}: the held-out share lies between 0 and 1, for example 0.3."
        )
    if plan.limit is not None and plan.limit < 1:
        raise InputError(f"--limit {plan.limit}: at least 1 image.")
    if fold is not None and fold not in plan.folds:
        raise InputError(f"--fold {fold}: the folds are {plan.folds[0]} to {plan.folds[-1]}.")
    if workers is not None and workers < 0:
        raise InputError(f"--workers {workers}: 0 or more.")
    check_name(command.name)


def check_name(name: str) -> None:
    """Raises InputError for what cannot name a run."""
    if name in ("", ".", "..", "cache") or "/" in name or "\\" in name or name.startswith("."):
        raise InputError(f"--name {name}: a run is named like a folder, and not 'cache'.")
