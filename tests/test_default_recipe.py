"""The recipe `default`: its arithmetic, computed by hand, and settings of the user."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import albumentations
import pytest
import timm
from conftest import naming
from hypothesis import given
from hypothesis import strategies as st

from foldsmith.errors import InputError
from foldsmith.recipes import DATASET_RECIPES, RECIPES, DatasetFacts, RecipeEvidence, find_recipe
from foldsmith.recipes.default import (
    LEAST_TUNED_SIDE,
    TUNED_MODEL,
    describe_recipe,
    resolve_default,
    wants_weights,
)
from foldsmith.run.command import read_command
from foldsmith.training.check import check_recipe


def evidence_of(num_images: int, side: int, grey: bool = False, pretrained: bool = False) -> RecipeEvidence:
    return RecipeEvidence(DatasetFacts(num_images, side, grey), pretrained)


@pytest.mark.parametrize(
    ("num_images", "side", "size", "epochs", "batch_size", "lr", "ema_decay"),
    [
        # 6e5 / 1,020 = 588 epochs, at most 80; batches of 10, at least 32: 32 steps, 2,560 in all
        (1_020, 64, 64, 80, 32, 0.0088294, 0.9922),
        # 10 epochs; 600 images a step, at most 256: 235 steps, 2,350 in all
        (60_000, 28, 28, 10, 256, 0.0148492, 0.9915),
        (50_000, 32, 32, 12, 256, 0.0148492, 0.9915),  # 196 steps, 2,352 in all
        (40_000, 64, 64, 15, 256, 0.0148492, 0.9915),  # 157 steps, 2,355 in all
        (8_000, 30, 32, 75, 64, 0.0105, 0.9979),  # 80 images a step; 125 steps, 9,375 in all
        (6_399, 40, 40, 80, 32, 0.0088294, 0.9988),  # 63 images a step; 200 steps, 16,000 in all
        (6_400, 41, 44, 80, 64, 0.0105, 0.9975),  # 64 images a step; 100 steps, 8,000 in all
        (9_200, 60, 60, 65, 64, 0.0105, 0.9979),  # 65.2 epochs; 144 steps, 9,360 in all
        (70_000, 127, 128, 10, 256, 0.0148492, 0.9927),  # 8.6 epochs, at least 10; 274 steps, 2,740 in all
        (10_000_000, 5_000, 128, 10, 256, 0.0148492, 0.9998),  # 390,630 steps in all, .99995, at most .9998
        (1, 1, 28, 80, 32, 0.0088294, 0.75),  # 80 steps in all
    ],
)  # fmt: skip
def test_from_scratch_the_hyperparameters_follow_from_the_images(
    num_images: int, side: int, size: int, epochs: int, batch_size: int, lr: float, ema_decay: float
) -> None:
    recipe = resolve_default(evidence_of(num_images, side))
    assert (recipe.name, recipe.pretrained, recipe.channels) == ("default", False, 3)
    assert (recipe.image_size, recipe.epochs, recipe.batch_size) == (size, epochs, batch_size)
    assert (recipe.lr, recipe.ema_decay) == (pytest.approx(lr, rel=1e-4), ema_decay)
    assert (recipe.optimizer, recipe.nesterov, recipe.weight_decay) == ("muon", True, 0.05)
    assert (recipe.schedule, recipe.alternating_flip) == ("one-cycle", True)


@pytest.mark.parametrize(("num_images", "cutmix"), [(1_020, 1.0), (5_000, 1.0), (5_001, 0.0)])
def test_cutmix_is_used_up_to_5_000_images(num_images: int, cutmix: float) -> None:
    recipe = resolve_default(evidence_of(num_images, 64))
    assert recipe.cutmix == cutmix and (not cutmix or recipe.mix_share == 0.5)
    assert resolve_default(evidence_of(num_images, 200, pretrained=True)).cutmix == 0


@pytest.mark.parametrize(
    ("num_images", "side", "epochs", "batch_size", "lr", "ema_decay"),
    [
        (1_020, 500, 30, 32, 1.41421356e-4, 0.9792),  # 196 epochs, at most 30; 32 steps, 960 in all
        (4_000, 300, 30, 32, 1.41421356e-4, 0.9947),  # 50 epochs; 40 images a step; 125 steps, 3,750 in all
        (12_000, 224, 17, 64, 2e-4, 0.9937),  # 16.7 epochs; 188 steps, 3,196 in all
        (40_000, 96, 10, 64, 2e-4, 0.9968),  # 5 epochs, at least 10; 625 steps, 6,250 in all
    ],
)
def test_fine_tuned_the_hyperparameters_follow_from_the_images(
    num_images: int, side: int, epochs: int, batch_size: int, lr: float, ema_decay: float
) -> None:
    recipe = resolve_default(evidence_of(num_images, side, pretrained=True))
    assert (recipe.model, recipe.pretrained, recipe.image_size) == (TUNED_MODEL, True, 224)
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer) == (epochs, batch_size, "adamw")
    assert (recipe.lr, recipe.ema_decay) == (pytest.approx(lr), ema_decay)


@pytest.mark.parametrize(
    ("side", "model", "augment"),
    [
        (1, "whitened-cnn", "pad-crop-flip"),
        (40, "whitened-cnn", "pad-crop-flip"),
        (41, "whitened-cnn", "photo"),
        (64, "whitened-cnn", "photo"),
        (65, "timm:resnet18", "photo"),
        (95, "timm:resnet18", "photo"),
        (96, TUNED_MODEL, "photo"),
    ],
)
def test_the_image_size_decides_the_network_even_if_weights_are_available(
    side: int, model: str, augment: str
) -> None:
    recipe = resolve_default(evidence_of(5_000, side, pretrained=True))
    assert (recipe.model, recipe.augment) == (model, augment)
    assert recipe.pretrained == (side >= LEAST_TUNED_SIDE)


@pytest.mark.parametrize("pretrained", [False, True])
def test_grey_images_have_one_channel(pretrained: bool) -> None:
    assert resolve_default(evidence_of(5_000, 200, grey=True, pretrained=pretrained)).channels == 1


@pytest.mark.parametrize("side", [10, 64, 300])
@pytest.mark.parametrize("grey", [False, True])
def test_the_resolved_recipe_can_be_trained(side: int, grey: bool) -> None:
    check_recipe(resolve_default(evidence_of(100, side, grey)), "cpu", "fp32")


def test_a_recipe_file_cannot_vary_a_recipe_that_the_images_decide(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import replace\nfrom foldsmith.recipes import RECIPES\n"
        "RECIPE = replace(RECIPES['default'], name='mine', epochs=3)\n"
    )
    with pytest.raises(InputError, match=naming(path, "default", "--set")):
        find_recipe(str(path))
    resolved = resolve_default(evidence_of(100, 30))
    assert type(resolved) is type(RECIPES["quick"]) is not type(RECIPES["default"])


def test_the_weights_exist_and_may_be_used_for_anything() -> None:
    name = TUNED_MODEL.removeprefix("timm:")
    assert name in timm.list_pretrained()
    assert timm.get_pretrained_cfg(name).license == "apache-2.0"
    # the weights themselves are not at hand
    recipe = replace(resolve_default(evidence_of(100, 300, pretrained=True)), pretrained=False)
    check_recipe(recipe, "cpu", "fp32")


# --- settings of the user


SETTINGS = st.lists(
    st.sampled_from(
        ["image_size=32", "image_size=160", "epochs=3", "batch_size=128", "lr=0.3", "augment=none", "seed=4",
         "channels=3", "ema_decay=0", "pretrained=true", "pretrained=false", "model=timm:resnet34",
         "weights=mine.pth"]
    ),
    max_size=4,
)  # fmt: skip
EVIDENCE = st.builds(
    evidence_of, st.integers(1, 10**7), st.integers(1, 5_000), grey=st.booleans(), pretrained=st.booleans()
)


@given(EVIDENCE, SETTINGS)
def test_settings_override_the_resolved_recipe(evidence: RecipeEvidence, settings: list[str]) -> None:
    recipe = asdict(resolve_default(evidence, settings))
    for field, value in dict(setting.split("=") for setting in settings).items():
        kind = type(recipe[field])
        assert recipe[field] == (value == "true" if kind is bool else kind(value))


@given(EVIDENCE, SETTINGS)
def test_available_weights_change_the_recipe_only_where_it_wants_weights(
    evidence: RecipeEvidence, settings: list[str]
) -> None:
    recipes = [resolve_default(RecipeEvidence(evidence.facts, there), settings) for there in (False, True)]
    assert (recipes[0] != recipes[1]) == wants_weights(evidence.facts, settings)
    for recipe in recipes:
        said = [*settings, f"pretrained={str(recipe.pretrained).lower()}"]
        assert resolve_default(evidence, said) == recipe


def test_settings_are_applied_before_the_rest_is_resolved() -> None:
    photos = evidence_of(5_000, 500)
    assert resolve_default(photos, ["image_size=32"]).model == "whitened-cnn"
    assert resolve_default(photos, ["batch_size=128"]).lr == pytest.approx(0.0105 * 2**0.25)
    # 5 epochs of 157 steps
    assert resolve_default(photos, ["epochs=5"]).ema_decay == pytest.approx(1 - 20 / 785, abs=1e-4)
    enlarged = resolve_default(evidence_of(5_000, 64, pretrained=True), ["image_size=128"])
    assert (enlarged.model, enlarged.image_size) == (TUNED_MODEL, 128)


def test_a_weights_file_is_fine_tuned_at_any_size_without_internet() -> None:
    recipe = resolve_default(evidence_of(5_000, 64, pretrained=True), ["weights=mine.pth"])
    assert (recipe.model, recipe.image_size, recipe.pretrained) == (TUNED_MODEL, 224, False)
    assert not wants_weights(DatasetFacts(5_000, 500, False), ["weights=mine.pth"])


def test_with_pretrain_set_no_published_weights_are_used() -> None:
    photos = evidence_of(5_000, 500, pretrained=True)
    settings = ["pretrain=autoencoder", "model=autoencoder-lenet"]
    recipe = resolve_default(photos, settings)
    assert (recipe.pretrain, recipe.pretrained, recipe.model) == ("autoencoder", False, "autoencoder-lenet")
    assert resolve_default(photos, ["pretrain=none"]).pretrained
    for start in ("pretrained=true", "weights=mine.pth"):
        with pytest.raises(InputError, match=naming("pretrain", "autoencoder", "none")):
            resolve_default(photos, [*settings, start])


@pytest.mark.parametrize(
    "settings",
    [
        ["train_size=176"],  # valid for images of 224 pixels, not for those of the row `default`
        ["mean=0.5", "std=0.25"],  # valid for one channel, not for the three of the row
        ["momentum=0"],
        ["augment=mine.json"],
    ],
)
def test_settings_that_fit_the_resolved_recipe_are_accepted(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    albumentations.save(albumentations.Compose([albumentations.HorizontalFlip()]), "mine.json")
    command = read_command(["input/nowhere", *(word for text in settings for word in ("--set", text))], "")
    for pretrained in (False, True):
        if pretrained or settings != ["train_size=176"]:
            evidence = evidence_of(500, 300, grey=True, pretrained=pretrained)
            check_recipe(replace(command.resolved(evidence).recipe, pretrained=False), "cpu", "fp32")


@pytest.mark.parametrize("setting", ["epoch=3", "epochs=many", "epochs=0"])
def test_invalid_settings_are_refused(setting: str) -> None:
    with pytest.raises(InputError, match="epochs"):
        resolve_default(evidence_of(5_000, 64), [setting])


# --- the command line and the explanation


def test_only_the_recipe_default_depends_on_the_images() -> None:
    assert list(DATASET_RECIPES) == ["default"] and find_recipe("default") == RECIPES["default"]
    assert read_command(["input/nowhere"], "").dataset_recipe == "default"
    assert read_command(["input/nowhere", "--recipe", "quick"], "").dataset_recipe == ""


def test_a_limit_is_the_number_of_images() -> None:
    command = read_command(["input/nowhere", "--limit", "8000", "--epochs", "3"], "")
    chosen = command.resolved(evidence_of(60_000, 28))
    assert chosen.recipe == resolve_default(evidence_of(8_000, 28), ["epochs=3"])
    assert chosen.evidence == evidence_of(60_000, 28)
    assert command.resolved(evidence_of(5_000, 28)).recipe == resolve_default(
        evidence_of(5_000, 28), ["epochs=3"]
    )


def test_the_evidence_says_whether_weights_are_used() -> None:
    command = read_command(["input/nowhere", "--set", "pretrained=true"], "")
    assert command.resolved(evidence_of(500, 28)).evidence.pretrained
    assert (
        not read_command(["input/nowhere"], "")
        .resolved(evidence_of(500, 28, pretrained=True))
        .evidence.pretrained
    )


def test_the_explanation_states_the_evidence_and_the_resolved_recipe() -> None:
    evidence = evidence_of(1_020, 64)
    dataset, schedule = describe_recipe(resolve_default(evidence), evidence.facts)
    for value in ("1,020", "64 x 64 pixels", "in colour", "whitened-cnn", "from scratch", "photo"):
        assert value in dataset
    assert re.findall(r"[0-9.,]*[0-9]", schedule) == [
        "80", "81,600", "600,000", "10", "80", "32", "32", "100", "32", "256", "0.00883", "0.0105", "64"
    ]  # fmt: skip
    assert "muon" in schedule
    evidence, settings = evidence_of(1_020, 300, grey=True, pretrained=True), ["epochs=5", "seed=2"]
    dataset, schedule = describe_recipe(resolve_default(evidence, settings), evidence.facts, settings)
    for value in ("300 x 300 pixels", "grey", "timm:convnext_tiny", "fine-tuned", "224", "epochs=5, seed=2"):
        assert value in dataset
    assert re.findall(r"[0-9.,]*[0-9]", schedule)[:5] == ["5", "5,100", "200,000", "10", "30"]
