"""albumentations pipelines in a recipe: their serialised text, their random numbers, and refusals."""

import inspect
import json
import random
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import albumentations
import numpy as np
import pytest
import scipy.stats
from albumentations.core.serialization import SERIALIZABLE_REGISTRY
from conftest import MakeCompetition
from torchvision.transforms import v2

import prepare
import split
import train
from foldsmith.augment.albumentations_file import (
    apply_pipeline,
    describe_augment,
    is_pipeline,
    load_pipeline,
    pipeline_text,
)
from foldsmith.augment.rows import build_augmentation
from foldsmith.comparison.leaderboard import differing_fields
from foldsmith.data.loader import AugmentedBatches, EpochBatches, build_loader
from foldsmith.errors import InputError
from foldsmith.process.files import digest_of
from foldsmith.recipes import DatasetFacts, Recipe, RecipeEvidence, find_recipe, override
from foldsmith.recipes.default import describe_recipe
from foldsmith.recipes.neutral import read_drops
from foldsmith.recipes.words import in_distinct_words, in_words
from foldsmith.report.provenance import facts_of
from foldsmith.run.command import FoldPlan
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import check_identity
from foldsmith.training.check import check_recipe

SIZE = 16


def make_images(count: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def example(limit: float = 15, p: float = 0.5) -> albumentations.Compose:
    return albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=p),
            albumentations.OneOf(
                [
                    albumentations.Sequential([albumentations.Blur(p=0.5), albumentations.GaussNoise(p=0.5)]),
                    albumentations.RandomBrightnessContrast(p=1.0),
                ],
                p=0.8,
            ),
            albumentations.SomeOf([albumentations.VerticalFlip(), albumentations.Transpose()], n=1, p=0.7),
            albumentations.Affine(rotate=(-limit, limit), p=0.9),
        ]
    )


def recipe_of(augment: object, **fields: object) -> Recipe:
    return Recipe(name="mine", image_size=SIZE, augment=augment, **fields)


# --- text


def test_a_pipeline_serialised_in_a_recipe_gives_the_same_images() -> None:
    images, recipe = make_images(), recipe_of(example())
    assert isinstance(recipe.augment, str) and is_pipeline(recipe.augment)
    rebuilt = build_augmentation(recipe.augment, SIZE)
    for seed in (0, 2**62 + 7):
        pipeline = example()  # the oracle: albumentations itself
        pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        expected = np.stack([pipeline(image=image)["image"] for image in images])
        np.testing.assert_array_equal(apply_pipeline(rebuilt, images, seed), expected)
        assert not np.array_equal(expected, images)


def test_equal_pipelines_are_equal_recipes_and_other_arguments_are_not() -> None:
    one = recipe_of(example())
    assert one == recipe_of(example()) and hash(one) == hash(recipe_of(example()))
    assert digest_of(asdict(one)) == digest_of(asdict(recipe_of(example())))
    for other in (example(limit=16), example(p=0.6), albumentations.HorizontalFlip()):
        assert recipe_of(other) != one
    assert recipe_of(albumentations.HorizontalFlip()) == recipe_of(
        albumentations.Compose([albumentations.HorizontalFlip()], seed=3)
    )


def test_the_text_of_a_pipeline_is_canonical_and_round_trips() -> None:
    text = pipeline_text(example())
    assert text == json.dumps(json.loads(text), sort_keys=True)
    assert albumentations.__version__ not in text
    assert pipeline_text(text) == text and Recipe(**json.loads(json.dumps({"name": "a", "augment": text})))
    assert replace(recipe_of(text), epochs=3).augment == text


def simple_transforms() -> list[type]:
    """Return every transform of albumentations that takes only an image and needs no argument."""
    base, found = albumentations.ImageOnlyTransform, []
    for kind in SERIALIZABLE_REGISTRY.values():
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        needs_none = all(parameter.default is not inspect.Parameter.empty for parameter in parameters)
        own = kind.__module__.startswith("albumentations.")
        if own and needs_none and issubclass(kind, base) and kind is not base:
            found.append(kind)
    return found


def test_every_simple_transform_of_albumentations_survives_as_text() -> None:
    """A deserialised transform gives the same images, or it does not keep uint8 and is refused."""
    images, kept = make_images(2), []
    for kind in simple_transforms():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated aliases
            transform = kind(p=1.0)
        try:
            rebuilt = load_pipeline(pipeline_text(transform), SIZE)
        except InputError:
            continue
        kept.append(kind.__name__)
        original = albumentations.Compose([transform])
        np.testing.assert_array_equal(
            apply_pipeline(rebuilt, images, 5), apply_pipeline(original, images, 5), err_msg=kind.__name__
        )
    assert len(kept) > 40 and {"ColorJitter", "RGBShift", "Equalize"} <= set(kept)


def test_arguments_that_only_a_parent_class_takes_are_left_out() -> None:
    transforms = albumentations.PadIfNeeded(SIZE, SIZE), albumentations.SafeRotate(limit=20)
    load_pipeline(pipeline_text(albumentations.Compose(transforms)), SIZE)  # warnings are errors here


def test_a_pipeline_is_described_by_the_names_of_its_transforms() -> None:
    words = "Compose(HorizontalFlip, OneOf(Sequential(Blur, GaussNoise), RandomBrightnessContrast), "
    words += "SomeOf(VerticalFlip, Transpose), Affine)"
    assert describe_augment(pipeline_text(example())) == in_words(recipe_of(example()).augment) == words
    assert [in_words(value) for value in ("photo", "a.json", 0.1, ("a", "b"))] == [
        "photo",
        "a.json",
        "0.1",
        "a,b",
    ]
    one, other = in_distinct_words([pipeline_text(example(limit)) for limit in (5, 6)])
    assert one != other and one.startswith(words) and other.startswith(words)
    assert in_distinct_words([pipeline_text(example())] * 2 + ["photo"]) == [words, words, "photo"]
    assert describe_augment(pipeline_text(albumentations.Compose([]))) == "Compose()"


# --- what is refused


class OwnTransform(albumentations.ImageOnlyTransform):
    def apply(self, img: np.ndarray, **params: object) -> np.ndarray:
        return img


def unchanged(image: np.ndarray, **params: object) -> np.ndarray:
    return image


@pytest.mark.parametrize(
    ("augment", "named"),
    [
        (albumentations.Lambda(image=unchanged), "Lambda"),
        (albumentations.OneOf([albumentations.Lambda(image=unchanged, name="mine")]), "Lambda 'mine'"),
        (OwnTransform(), "OwnTransform"),
        (albumentations.Equalize(mask=np.zeros((4, 4))), "Equalize"),
        (
            albumentations.SelectiveChannelTransform([albumentations.InvertImg()], channels=(0,)),
            "SelectiveChannelTransform loses channels",
        ),
        (v2.RandomHorizontalFlip(), "torchvision.*RandomHorizontalFlip"),
        (None, "NoneType"),
        ('{"no": "pipeline"}', "KeyError"),
        ('{"transforms', "JSONDecodeError"),
    ],
    # without the addresses of objects, which differ from process to process
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_a_run_cannot_record_is_refused_by_name_in_one_line(augment: object, named: str) -> None:
    with pytest.raises(InputError, match=named) as refused:
        recipe_of(augment)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_an_argument_that_albumentations_ignored_is_refused() -> None:
    with pytest.warns(UserWarning, match="rotat"):
        transform = albumentations.Affine(rotat=3)
    with pytest.raises(InputError, match="Affine .*rotat"):
        recipe_of(transform)


@pytest.mark.parametrize(
    ("field", "value"),
    [("views", (albumentations.HorizontalFlip(),)), ("pretrain_augment", albumentations.Compose([]))],
)
def test_only_augment_takes_a_pipeline(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{field} .*augment"):
        recipe_of("flip", **{field: value})


@pytest.mark.parametrize(
    "setting", ["train_size=8", "alternating_flip=true", "erase=0.5", "augment_on=device"]
)
def test_what_a_pipeline_cannot_do_is_refused_without_its_text(setting: str) -> None:
    recipe = override(recipe_of(example(), model="quick-cnn"), [setting])
    field = setting.partition("=")[0]
    with pytest.raises(InputError, match=field) as refused:
        check_recipe(recipe, "cpu", "fp32")
    assert "__class_fullname__" not in str(refused.value) and f"--set {field}=" in str(refused.value)


def test_the_transform_that_changes_the_size_of_some_images_is_named() -> None:
    pipeline = albumentations.Compose(
        [
            albumentations.RandomCrop(8, 8),
            albumentations.Resize(SIZE, SIZE),  # undoes the size change of the crop
            albumentations.OneOf([albumentations.Blur(p=0.9), albumentations.Resize(9, 9, p=0.1)], p=1.0),
            albumentations.HorizontalFlip(),
        ],
        p=0.9,
    )
    assert build_augmentation(pipeline_text(pipeline), SIZE)
    with pytest.raises(InputError, match=r"OneOf.* 16 x 16 .*\(9, 9, 3\)"):
        apply_pipeline(pipeline, make_images(200), 3)
    # refused before anything is trained
    with pytest.raises(InputError, match=r"OneOf.* 16 x 16 .*\(9, 9, 3\)"):
        check_recipe(recipe_of(pipeline, model="quick-cnn"), "cpu", "fp32")


# --- random numbers


def test_flips_of_one_pipeline_are_drawn_independently() -> None:
    pipeline = albumentations.Compose([albumentations.HorizontalFlip(), albumentations.VerticalFlip()])
    image = np.arange(SIZE * SIZE * 3, dtype=np.uint16).reshape(SIZE, SIZE, 3).astype(np.uint8)
    changed = np.concatenate(
        [apply_pipeline(pipeline, np.repeat(image[None], 8, 0), seed) for seed in range(250)]
    )
    forms = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    counts = [int((changed == form).all(axis=(1, 2, 3)).sum()) for form in forms]
    assert sum(counts) == len(changed)
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def batches_of(workers: int, epochs: tuple[int, ...], start: int = 0, fold: int = 0) -> list[list[bytes]]:
    pixels, rows = make_images(30), np.arange(30)
    dataset = AugmentedBatches(pixels, rows, rows, build_augmentation(pipeline_text(example()), SIZE))
    batches = EpochBatches(len(rows), 6, 0, fold)
    loader, loaded = build_loader(dataset, batches, workers, pin_memory=False), []
    for epoch in epochs:
        batches.epoch, batches.start = epoch, start
        loaded.append([images.numpy().tobytes() for images, _ in loader])
    return loaded


def test_images_depend_on_neither_the_number_of_workers_nor_earlier_batches() -> None:
    alone = batches_of(0, (0, 1))
    for workers in (1, 2):
        assert batches_of(workers, (0, 1)) == alone
    assert batches_of(0, (1,), start=2)[0] == alone[1][2:]  # as a resumed epoch does
    different = {batch for epoch in alone for batch in epoch} | set(batches_of(0, (0,), fold=1)[0])
    assert len(different) == 15


def test_augmentation_uses_no_global_random_state() -> None:
    random.seed(1), np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    batches_of(0, (0,))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


# --- recipe files, reports and explanations


def write_recipe(path: Path, pipeline: str, more: str = "") -> str:
    path.write_text(
        "from dataclasses import replace\n"
        "import albumentations as A\n"
        "from foldsmith.recipes import RECIPES\n"
        f"RECIPE = replace(RECIPES['quick'], name='mine', augment={pipeline}{more})\n"
    )
    return str(path)


def test_a_recipe_file_may_hold_a_pipeline(tmp_path: Path) -> None:
    recipe = find_recipe(write_recipe(tmp_path / "mine.py", "A.Compose([A.HorizontalFlip()])"))
    assert recipe.augment == pipeline_text(albumentations.HorizontalFlip()) and recipe.name == "mine"
    with pytest.raises(InputError, match=r"wrong\.py: augment: Lambda"):
        find_recipe(write_recipe(tmp_path / "wrong.py", "A.Lambda(image=abs)"))


def test_a_recipe_file_imports_albumentations_without_asking_the_network(tmp_path: Path) -> None:
    file = write_recipe(tmp_path / "mine.py", "A.HorizontalFlip()")
    program = (
        "import os, socket, sys, urllib.request\n"
        "os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "def refuse(*words, **named): raise SystemExit(f'the network is asked for {words}')\n"
        "socket.getaddrinfo = socket.create_connection = urllib.request.urlopen = refuse\n"
        "from foldsmith.recipes import find_recipe\n"
        "assert not {'albumentations', 'torch'} & set(sys.modules)\n"
        f"print(find_recipe({file!r}).augment)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(__file__).parents[1] / "src"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == pipeline_text(albumentations.HorizontalFlip())


def test_a_pipeline_is_dropped_by_an_ablation_and_replaced_by_a_setting() -> None:
    recipe = recipe_of(example())
    (drop,) = read_drops(["augment"], recipe)
    assert override(recipe, [drop.setting]).augment == "none"
    assert override(recipe, ["augment=other.json"]).augment == "other.json"


def test_a_run_name_that_belongs_to_another_pipeline_is_refused(tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    run.root.mkdir()
    run.identity.write_text(json.dumps({"recipe": asdict(recipe_of(example(5)))}))
    assert not check_identity(run, recipe=asdict(recipe_of(example(5))))
    for other in (example(6), "photo"):
        with pytest.raises(InputError, match=r"augment Compose\(Hor.* there, .* here") as refused:
            check_identity(run, recipe=asdict(recipe_of(other)))
        assert "__class_fullname__" not in str(refused.value)


def test_pipelines_with_other_arguments_differ_between_runs() -> None:
    recipes = [asdict(recipe_of(example(limit))) for limit in (5, 6)]
    assert differing_fields(recipes) == ["augment"]
    assert differing_fields([recipes[0]] * 2) == []


def test_report_and_explanation_name_the_transforms() -> None:
    recipe = recipe_of(example())
    fold = {
        "recipe": asdict(recipe), "command": "train", "seed": 0, "seeds": 1, "rounds": [{}], "parameters": 3,
        "hardware": "a processor", "precision": "fp32", "finished": "today", "versions": {},
    }  # fmt: skip
    fact = facts_of(FoldPlan(5, None, 0, None), [fold], 1.0, recipe.views)["recipe"]
    explanation = " ".join(describe_recipe(recipe, RecipeEvidence(DatasetFacts(60, 16, False))))
    for text in (fact, explanation):
        assert describe_augment(recipe.augment) in text and "__class_fullname__" not in text


WORDS = ["--holdout", "0.3", "--device", "cpu", "--precision", "fp32", "--fold", "0"]
SMALL = ", image_size=16, batch_size=4, epochs=2"


def train_fold(folder: Path, recipe: str, output: Path, workers: int = 0) -> Path:
    words = [str(folder), "--recipe", recipe, *WORDS, "--workers", str(workers), "--output", str(output)]
    for stage in (prepare, split, train):
        assert stage.main(words) == 0
    return output / folder.name / "mine" / "fold0"


def test_a_fold_of_a_recipe_file_has_the_same_bytes_for_any_number_of_workers(
    make_competition: MakeCompetition,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_competition()
    pipeline = "A.Compose([A.HorizontalFlip(), A.OneOf([A.Blur(), A.Affine(rotate=(-15, 15))])])"
    recipe = write_recipe(tmp_path / "mine.py", pipeline, SMALL)
    fold = train_fold(folder, recipe, tmp_path / "one")
    weights = (fold / "weights.safetensors").read_bytes()
    assert json.loads((fold / "run.json").read_text())["recipe"]["augment"] == find_recipe(recipe).augment
    assert (train_fold(folder, recipe, tmp_path / "two", 2) / "weights.safetensors").read_bytes() == weights
    capsys.readouterr()
    train_fold(folder, recipe, tmp_path / "one")
    assert "is up to date" in capsys.readouterr().out  # the same pipeline, built again
