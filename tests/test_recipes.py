"""Recipes: typed overrides, impossible values, and recipe files."""

from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path
from typing import Any

import albumentations
import pytest
from conftest import naming

from foldsmith.augment.rows import AUGMENTATIONS
from foldsmith.errors import InputError
from foldsmith.inference.views import VIEWS
from foldsmith.process.files import digest_of
from foldsmith.recipes import RECIPES, Recipe, find_recipe, override
from foldsmith.recipes.recipe import training_fields, use_fields
from foldsmith.training.check import check_recipe
from foldsmith.training.optimizer import OPTIMIZERS
from foldsmith.training.schedule import SCHEDULES

BASE = Recipe(name="base")
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("epochs=7", "epochs", 7),
        ("batch_size=128", "batch_size", 128),
        ("seed=12345678901234", "seed", 12345678901234),
        ("lr=5e-4", "lr", 0.0005),
        ("lr=1", "lr", 1.0),
        ("weight_decay=0", "weight_decay", 0.0),
        ("model=timm:convnext_tiny", "model", "timm:convnext_tiny"),
        ("weights=/data/a=b.pth", "weights", "/data/a=b.pth"),
        ("weights=", "weights", ""),
        ("pretrained=true", "pretrained", True),
        ("pretrained=YES", "pretrained", True),
        ("pretrained=1", "pretrained", True),
        ("nesterov=false", "nesterov", False),
        ("deterministic=No", "deterministic", False),
        ("deterministic=0", "deterministic", False),
        ("views=identity", "views", ("identity",)),
        ("views=identity, hflip,rot90", "views", ("identity", "hflip", "rot90")),
        ("mean=.5,.4,.3", "mean", (0.5, 0.4, 0.3)),
        ("mean=", "mean", ()),
        ("std=0.2, 0.2, 0.2", "std", (0.2, 0.2, 0.2)),
    ],
)
def test_an_override_has_the_type_of_its_field(setting: str, field: str, value: Any) -> None:
    changed = override(BASE, [setting])
    assert getattr(changed, field) == value
    assert type(getattr(changed, field)) is type(value)
    assert replace(changed, **{field: getattr(BASE, field)}) == BASE


@pytest.mark.parametrize("rounds", [1, 2])
def test_every_field_is_for_training_or_for_use_and_views_are_both_with_pseudo_labels(
    rounds: int,
) -> None:
    later = {
        "least_steps": 1,
        "head": "probe",
        "layer_decay": 0.5,
        "freeze_norm": True,
        "grad_checkpointing": True,
    }
    recipe = {**asdict(replace(BASE, model="timm:resnet18", rounds=rounds, **later)), "join": ["other"]}
    training, used = set(training_fields(recipe)), set(use_fields(rounds))
    assert training | used == {field.name for field in fields(Recipe)} and not training & used
    assert ("views" in training) == (rounds > 1)
    assert {"seed", "model", "lr", "near_duplicates", "deterministic", "cache"} <= training
    assert {"micro_batch", "augment_on", "compile", "validate_every"} <= used


def test_what_changes_with_a_field_of_use_is_a_stage_of_a_run() -> None:
    stages = {stage for stages in use_fields().values() for stage in stages}
    assert all((ROOT / "src" / f"{stage}.py").is_file() for stage in stages)


def written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def test_every_field_of_every_recipe_can_be_set_to_its_own_value() -> None:
    for name, recipe in RECIPES.items():
        settings = [f"{field.name}={written(getattr(recipe, field.name))}" for field in fields(Recipe)]
        assert vars(override(replace(BASE, name=name), settings[1:])) == vars(recipe), name


def test_the_last_of_two_settings_of_one_field_counts() -> None:
    assert override(BASE, ["epochs=3", "lr=0.1", "epochs=5"]).epochs == 5


@pytest.mark.parametrize(
    ("setting", "keys"),
    [
        ("epochs=many", ["epochs", "many"]),
        ("epochs=1e3", ["epochs", "1e3"]),
        ("epochs=2.5", ["epochs", "2.5"]),
        ("lr=fast", ["lr", "fast"]),
        ("pretrained=maybe", ["pretrained", "true", "false", "maybe"]),
        ("pretrained=", ["pretrained", "true", "false"]),
        ("mean=.5,x,.5", ["mean", ".5,x,.5"]),
        ("epochs", ["epochs", "FIELD=VALUE"]),
        ("epoch=3", ["'epoch'", "'epochs'", "image_size", "views"]),
        ("Epochs=3", ["'Epochs'", "'epochs'"]),
        ("name=mine", ["'name'"]),
        ("=3", ["''"]),
    ],
)
def test_an_invalid_override_is_refused_with_the_reason(setting: str, keys: list[str]) -> None:
    with pytest.raises(InputError, match=naming(*keys)):
        override(BASE, [setting])


IMPOSSIBLE = [
    "image_size=0", "epochs=0", "epochs=-1", "batch_size=0", "lr=0", "lr=-1", "lr=nan", "lr=inf",
    "momentum=1", "momentum=-0.1", "momentum=nan", "weight_decay=-1", "weight_decay=inf", "warmup=-1",
    "warmup=1", "warmup=nan", "label_smoothing=1", "label_smoothing=-0.1", "class_weights=some",
    "ema_decay=1", "ema_decay=nan", "validate_every=0", "max_unreadable=2", "max_unreadable=nan",
    "mean=0.5", "mean=1,2", "mean=nan,nan,nan", "mean=inf,0,0", "std=0,1,1", "std=-1,1,1",
    "mixup=-1", "mixup=inf", "cutmix=-0.1", "cutmix=nan", "mix_share=1.1", "mix_until=-0.1", "loss=hinge",
    "std=nan,1,1", "erase=1.5", "erase=nan", "clip_grad=-1", "train_size=-1", "train_size=65",
    "train_size_from=65", "sampling=some", "logit_adjustment=-1", "recalibrate=-1",
    "sam=-0.1", "sam=nan", "drop_path=1",
    "seeds=0", "rounds=0", "pseudo_share=0", "pseudo_share=1.1", "pseudo_share=nan",
    "augment_strength=2", "augment_strength=-1",
    "std=inf,1,1", "views=", "views=,",
]  # fmt: skip


def test_an_impossible_value_is_refused_by_name() -> None:
    for setting in IMPOSSIBLE:
        with pytest.raises(InputError, match=rf"\b{setting.partition('=')[0]}\b"):
            override(BASE, [setting])
            pytest.fail(f"{setting} is taken")


@pytest.mark.parametrize("other", ["loss=bce", "sampling=balanced"])
def test_logits_are_adjusted_for_cross_entropy_of_natural_samples_alone(other: str) -> None:
    with pytest.raises(InputError, match=naming("logit_adjustment", "1.0", "loss", "sampling")):
        override(BASE, ["logit_adjustment=1", other])


@pytest.mark.parametrize("other", ["logit_adjustment=0.5", "sampling=balanced"])
def test_two_remedies_for_rare_classes_are_refused(other: str) -> None:
    with pytest.raises(InputError, match=naming("class_weights", "auto", "none")):
        override(BASE, ["class_weights=auto", other])


@pytest.mark.parametrize("setting", ["train_size=32", "train_size_from=32", "alternating_flip=true"])
def test_what_a_pipeline_cannot_do_is_refused(setting: str, tmp_path: Path) -> None:
    albumentations.save(albumentations.HorizontalFlip(), tmp_path / "flip.json")
    recipe = override(BASE, [f"augment={tmp_path / 'flip.json'}", setting])
    with pytest.raises(InputError, match=naming(setting.partition("=")[0], "flip.json")):
        check_recipe(recipe, "cpu", "fp32")


def test_a_pipeline_accepts_the_recipe_that_its_refusal_suggests(tmp_path: Path) -> None:
    pipeline = albumentations.Compose([albumentations.Resize(128, 128)])
    albumentations.save(pipeline, tmp_path / "flip.json")
    recipe = override(RECIPES["photos-best"], [f"augment={tmp_path / 'flip.json'}"])
    with pytest.raises(InputError) as refused:
        check_recipe(recipe, "cpu", "fp32")
    words = str(refused.value).split(": ")[-1].split()
    assert words[::2] == ["--set"] * 3
    check_recipe(override(recipe, words[1::2]), "cpu", "fp32")


def test_a_train_size_that_is_too_large_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match=naming("train_size", 112, "image_size", 64)) as refused:
        override(RECIPES["photos-best"], ["image_size=64"])
    words = str(refused.value).rstrip(".").split(": ")[-1].split()
    assert override(RECIPES["photos-best"], ["image_size=64", *words[1::2]]).train_size == 0


def test_every_recipe_is_frozen_and_has_known_names_only() -> None:
    with pytest.raises(FrozenInstanceError):
        BASE.epochs = 1
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert recipe.augment in AUGMENTATIONS, name
        assert recipe.optimizer in OPTIMIZERS and recipe.schedule in SCHEDULES, name
        assert set(recipe.views) <= set(VIEWS), name
        assert digest_of(asdict(recipe)), name


def test_study_1_has_the_published_values() -> None:
    recipe = RECIPES["resnet"]
    assert (recipe.model, recipe.image_size, recipe.augment) == ("bottleneck-resnet", 224, "study-resnet")
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.nesterov) == ("sgd", 0.01, 0.9, False)
    assert (recipe.batch_size, recipe.epochs, recipe.weight_decay) == (32, 80, 0.0)
    assert (recipe.schedule, recipe.warmup, recipe.label_smoothing) == ("constant", 0.0, 0.0)
    assert (recipe.mean, recipe.std, recipe.views) == ((), (), ("identity",))
    assert (recipe.ema_decay, recipe.class_weights) == (0.0, "none")


def test_resnet64_is_the_same_network_at_64_pixels() -> None:
    assert (RECIPES["resnet64"].model, RECIPES["resnet64"].image_size) == ("bottleneck-resnet", 64)


def test_an_unknown_recipe_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(InputError, match=naming("'quik'", "'quick'", *RECIPES)):
        find_recipe("quik")


def write(path: Path, text: str) -> str:
    path.write_text("from dataclasses import replace\nfrom foldsmith.recipes import RECIPES, Recipe\n" + text)
    return str(path)


def test_a_recipe_file_defines_its_recipe(tmp_path: Path) -> None:
    text = 'RECIPE = replace(RECIPES["resnet64"], name="mine", epochs=60, label_smoothing=0.05)\n'
    recipe = find_recipe(write(tmp_path / "file.py", text))
    assert recipe == replace(RECIPES["resnet64"], name="mine", epochs=60, label_smoothing=0.05)


def test_a_recipe_file_without_a_name_of_its_own_is_named_like_the_file(tmp_path: Path) -> None:
    recipe = find_recipe(write(tmp_path / "longer.py", 'RECIPE = replace(RECIPES["quick"], epochs=60)\n'))
    assert (recipe.name, recipe.epochs) == ("longer", 60)


@pytest.mark.parametrize("text", ["recipe = 3\n", "RECIPE = {'epochs': 3}\n", ""])
def test_a_recipe_file_without_a_recipe_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=naming("file.py", "RECIPE")):
        find_recipe(write(tmp_path / "file.py", text))


def test_a_missing_recipe_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing.py"):
        find_recipe(str(tmp_path / "nothing.py"))


def test_weights_do_not_depend_on_a_later_field_at_its_default() -> None:
    saved = vars(RECIPES["quick"])
    earlier = {name: value for name, value in saved.items() if name != "least_steps"}
    assert training_fields({**saved, "least_steps": 0}) == training_fields(earlier)
    assert training_fields(saved) != training_fields(earlier)
