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
from foldsmith.process.files import load_json
from foldsmith.recipes import CHOOSERS, RECIPES, DataFacts, Grounds, Recipe, find_recipe, read_settings
from foldsmith.run.paths import RunPaths

DEMO = Path("input/demo80")
FOLDS = 5


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
    """What a person typed, checked.

    A recipe that the images decide has the name of its chooser, and the grounds that its run was chosen on;
    None: nobody has looked at them yet, and `recipe` is its row as it stands, without the settings.
    """

    folder: Path
    recipe: Recipe
    settings: tuple[str, ...]
    chooser: str
    grounds: Grounds | None
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
    def is_decided(self) -> bool:
        """Whether the recipe is known: that of a run which is not prepared may be left to the images."""
        return not self.chooser or self.grounds is not None

    @property
    def folds_to_train(self) -> list[int]:
        """The fold asked for, or all."""
        return list(self.plan.folds) if self.fold is None else [self.fold]

    @property
    def folds_to_use(self) -> list[int]:
        """The folds that are scored and predict: all, or with `--fold` those that are trained so far.

        So a fold trained alone never replaces the results of more folds.
        """
        if self.fold is None:
            return list(self.plan.folds)
        trained = [fold for fold in self.plan.folds if self.run.fold_run(fold).is_file()]
        return sorted({self.fold, *trained})

    def line(self, stage: str) -> str:
        """The command that runs one stage with these words."""
        return shlex.join(["python", f"src/{stage}.py", *self.words])

    @property
    def identity(self) -> dict[str, object]:
        """What the run's name stands for, besides the data."""
        parts = {"recipe": asdict(self.recipe), "folds": asdict(self.plan)}
        return parts if self.grounds is None else {**parts, "grounds": asdict(self.grounds)}

    def limited(self, facts: DataFacts) -> DataFacts:
        """The facts of the images that are used."""
        return replace(facts, num_images=min(facts.num_images, self.plan.limit or facts.num_images))

    def chosen(self, grounds: Grounds) -> "Command":
        """The same words with the recipe that they give on these grounds; of the weights, if it uses them."""
        used = replace(grounds, facts=self.limited(grounds.facts))
        recipe = CHOOSERS[self.chooser](used, self.settings)
        return replace(self, recipe=recipe, grounds=replace(grounds, pretrained=recipe.pretrained))


class WordParser(argparse.ArgumentParser):
    """Tells of wrong words in one sentence, with the nearest right one."""

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
    """The command at the end of a stage's docstring, alone and with the words that are used most."""
    stage = description.split("src/")[-1].split()[0] if "src/" in description else "STAGE.py"
    lines = (
        f"python src/{stage}                                        the demo",
        f"python src/{stage} input/tiny80 --recipe resnet64 --folds 5",
        f"python src/{stage} input/tiny80 --limit 8000 --epochs 8 --set lr=0.01 --name slow",
        f"python src/{stage} input/tiny80 --fold 2 --device cuda    one fold, on a GPU",
    )
    return "\n  ".join(["examples:", *lines])


def _parser(description: str) -> argparse.ArgumentParser:
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
    add = parser.add_argument
    add(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        default=DEMO,
        help=f"the competition folder ({DEMO})",
    )
    add(
        "--recipe",
        metavar="NAME|FILE.py",
        help="one of the recipes below, or a file (quick for the demo, else default)",
    )
    add(
        "--set",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="overrides a field of the recipe; repeatable",
    )
    for short in ("epochs", "batch-size", "image-size", "seed", "rounds"):
        add(f"--{short}", metavar="N", help=f"short for --set {short.replace('-', '_')}=N")
    add("--folds", metavar="K", type=int, help=f"number of stratified folds ({FOLDS})")
    add("--holdout", metavar="F", type=float, help="one held-out share F instead of folds, for example 0.3")
    add("--fold", metavar="K", type=int, help="only fold K, counted from 0 (all)")
    add(
        "--fold-seed",
        metavar="N",
        type=int,
        default=0,
        help="seed of folds and --limit, never of training (0)",
    )
    add("--limit", metavar="N", type=int, help="use only N training images, stratified (all)")
    add(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:1 …; several with commas train folds at once (auto: all GPUs)",
    )
    add(
        "--precision",
        default="auto",
        choices=["auto", "fp32", "bf16", "fp16"],
        help="(auto: by the hardware)",
    )
    add(
        "--workers",
        metavar="N",
        type=int,
        help="threads that prepare batches, processes for albumentations; never changes a result (auto)",
    )
    add("--name", metavar="RUN", help="name of the run (the recipe's)")
    add(
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("output"),
        help="results go to DIR/FOLDER-NAME/RUN (output)",
    )
    add(
        "--again",
        action="store_true",
        help="do it again, even if it is done; replace another run of this name",
    )
    return parser


def read_command(argv: list[str] | None, description: str) -> Command:
    """Reads the words of a stage (`sys.argv` for None). Raises InputError for words nobody understands."""
    words = sys.argv[1:] if argv is None else argv
    typed = _parser(description).parse_args(words)
    # `.` and `..` have a name too
    folder = Path(os.path.abspath(typed.folder)) if typed.folder.name in ("", "..") else typed.folder
    short = {
        "epochs": typed.epochs,
        "batch_size": typed.batch_size,
        "image_size": typed.image_size,
        "seed": typed.seed,
        "rounds": typed.rounds,
    }
    recipe_word = typed.recipe or ("quick" if folder.name == DEMO.name else "default")
    settings = [*typed.set, *(f"{field}={value}" for field, value in short.items() if value is not None)]
    recipe, given = find_recipe(recipe_word), read_settings(settings)
    chooser = recipe_word if recipe_word in CHOOSERS else ""
    if not chooser:  # else what is set goes with what the images decide
        recipe = replace(recipe, **given)
    if typed.folds is not None and typed.holdout is not None:
        raise InputError("--folds and --holdout are two ways to split; give one of them.")
    num_folds = FOLDS if typed.folds is None else typed.folds
    plan = FoldPlan(num_folds, typed.holdout, typed.fold_seed, typed.limit)
    name = recipe.name if typed.name is None else typed.name
    if not folder.name:
        raise InputError(f"{typed.folder} has no name; FOLDER is a competition folder such as {DEMO}.")
    _check(plan, typed.fold, name, typed.workers)
    command = Command(
        folder=folder,
        recipe=recipe,
        settings=tuple(settings),
        chooser=chooser,
        grounds=None,
        plan=plan,
        fold=typed.fold,
        device=typed.device,
        precision=typed.precision,
        workers=typed.workers,
        name=name,
        output=typed.output,
        again=typed.again,
        words=tuple(words),
    )
    grounds = _held_grounds(command.run) if command.chooser else None
    return command if grounds is None else command.chosen(grounds)


def _held_grounds(run: RunPaths) -> Grounds | None:
    """What the run's recipe was chosen by: chosen anew, with the network gone, it could be another one."""
    held = load_json(run.identity).get("grounds", {}) if run.identity.is_file() else {}
    if set(held.get("facts", {})) != {field.name for field in fields(DataFacts)}:
        return None  # of a recipe that was not chosen, or by a version that asked for other facts
    return Grounds(DataFacts(**held["facts"]), held["pretrained"])


def _check(plan: FoldPlan, fold: int | None, name: str, workers: int | None) -> None:
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
    check_name(name)


def check_name(name: str) -> None:
    """Raises InputError for what cannot name a run."""
    if name in ("", ".", "..", "cache") or "/" in name or "\\" in name or name.startswith("."):
        raise InputError(f"--name {name}: a run is named like a folder, and not 'cache'.")
