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
from foldsmith.recipes.borrowed import BACKBONES, Backbone, affordable_epochs
from foldsmith.recipes.default import describe_recipe, resolve_default, wants_weights
from foldsmith.run.command import read_command
from foldsmith.training.check import check_recipe

# a network that costs 1 GFLOP at 224 pixels, on a CPU; 1,000 test images, 5 folds
BORROWED = Backbone(BACKBONES["cpu"], 1.0, 224, 192, "cpu", 1_000, 5, 0.0)


def evidence_of(num_images: int, side: int, grey: bool = False, pretrained: bool = False) -> RecipeEvidence:
    return RecipeEvidence(DatasetFacts(num_images, side, grey), BORROWED if pretrained else None)


@pytest.mark.parametrize(
    ("num_images", "side", "size", "epochs", "batch_size", "lr", "ema_decay"),
    [
        # 6e5 / 1,020 = 588 epochs, at most 80; batches of 10, at least 32: 32 steps, 2,560 in all
        (1_020, 64, 64, 80, 32, 0.0088294, 0.9922),
        # 4e5 / 60,000 = 6.7 epochs, at least 8; 600 images a step, at most 256: 235 steps, 1,880 in all
        (60_000, 28, 28, 8, 256, 0.0148492, 0.9894),
        (50_000, 32, 32, 8, 256, 0.0148492, 0.9872),  # 196 steps, 1,568 in all
        (40_000, 64, 64, 15, 256, 0.0148492, 0.9915),  # 157 steps, 2,355 in all
        (8_000, 30, 32, 50, 64, 0.0105, 0.9968),  # 80 images a step; 125 steps, 6,250 in all
        (6_399, 40, 40, 63, 32, 0.0088294, 0.9984),  # 63 images a step; 200 steps, 12,600 in all
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
    assert recipe.validate_every == (1 if size > 40 else 2)
    assert (recipe.schedule, recipe.alternating_flip) == ("one-cycle", True)


@pytest.mark.parametrize(("num_images", "cutmix"), [(1_020, 1.0), (5_000, 1.0), (5_001, 0.0)])
def test_cutmix_is_used_up_to_5_000_images(num_images: int, cutmix: float) -> None:
    recipe = resolve_default(evidence_of(num_images, 64))
    assert recipe.cutmix == cutmix and (not cutmix or recipe.mix_share == 0.5)
    assert resolve_default(evidence_of(num_images, 200, pretrained=True)).cutmix == 0


@pytest.mark.parametrize(
    ("num_images", "budget", "epochs"),
    [
        # an image of 192 pixels takes (192 / 224)^2 / 19 = 0.038668 s. Features: 2,000 images x 2 views:
        # 155 s; an epoch of 5 folds: 4,000 images x 3: 464 s; test images: 5 folds x 2 views x 1,000: 387 s
        (1_000, 30, 0),  # (1,800 - 155 - 387) / 464 = 2.7 epochs, fewer than 5
        (1_000, 60, 6),  # 3,058 / 464 = 6.6
        (1_000, 600, 30),  # 76, at most 30
        (12_000, 6_000, 5),  # 60,000 / 12,000 = 5 epochs are aimed at
        (40_000, 30, 0),
    ],
)
def test_the_budget_decides_between_a_probe_and_fine_tuning(
    num_images: int, budget: float, epochs: int
) -> None:
    backbone = replace(BORROWED, budget=budget)
    assert affordable_epochs(backbone, num_images, 192) == epochs
    recipe = resolve_default(RecipeEvidence(DatasetFacts(num_images, 300, False), backbone))
    assert (recipe.model, recipe.head, recipe.image_size) == (BORROWED.model, "probe", 192)
    assert (recipe.epochs, recipe.name) == (epochs, "default")
    assert recipe.layer_decay == RECIPES["finetune" if epochs else "probe"].layer_decay
    typed = resolve_default(RecipeEvidence(DatasetFacts(num_images, 300, False), backbone), ["epochs=7"])
    assert typed.epochs == 7 and typed.layer_decay == RECIPES["finetune"].layer_decay


@pytest.mark.parametrize(
    ("num_images", "side", "grey", "wanted"),
    [(50, 96, True, True), (10**6, 500, False, True), (15_000, 64, False, True), (15_001, 64, False, False),
     (500, 28, True, False)],
)  # fmt: skip
def test_photographs_and_few_small_images_in_colour_want_weights(
    num_images: int, side: int, grey: bool, wanted: bool
) -> None:
    facts = DatasetFacts(num_images, side, grey)
    assert wants_weights(facts, []) == wanted
    assert wants_weights(facts, ["weights=mine.pth"]) and wants_weights(facts, ["pretrained=true"])
    assert not wants_weights(facts, ["image_size=32"]) and not wants_weights(facts, ["model=timm:resnet18"])
    recipe = resolve_default(evidence_of(num_images, side, grey, pretrained=True))
    assert recipe.pretrained == wanted


@pytest.mark.parametrize(
    ("side", "model", "augment"),
    [
        (1, "whitened-cnn", "slight-shift-flip"),
        (40, "whitened-cnn", "slight-shift-flip"),
        (41, "whitened-cnn", "photo"),
        (64, "whitened-cnn", "photo"),
        (65, "timm:resnet18", "photo"),
        (95, "timm:resnet18", "photo"),
    ],
)
def test_the_image_size_decides_the_network_from_scratch(side: int, model: str, augment: str) -> None:
    recipe = resolve_default(evidence_of(5_000, side))
    assert (recipe.model, recipe.augment) == (model, augment)


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


@pytest.mark.parametrize("model", BACKBONES.values())
def test_the_weights_exist_and_may_be_used_for_anything(model: str) -> None:
    name = model.removeprefix("timm:")
    assert name in timm.list_pretrained()
    assert timm.get_pretrained_cfg(name).license == "apache-2.0"


def test_the_borrowed_recipe_can_be_trained() -> None:
    for budget in (1, 600):  # the weights themselves are not at hand
        recipe = resolve_default(
            RecipeEvidence(DatasetFacts(100, 300, False), replace(BORROWED, budget=budget, size=64))
        )
        check_recipe(replace(recipe, pretrained=False), "cpu", "fp32")


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
    there = resolve_default(RecipeEvidence(evidence.facts, BORROWED), settings)
    without = resolve_default(RecipeEvidence(evidence.facts), settings)
    assert (there.head == "probe") == wants_weights(evidence.facts, settings) and without.head == "new"
    assert (there == without) == (there.head == "new")


def test_settings_are_applied_before_the_rest_is_resolved() -> None:
    photos = evidence_of(5_000, 500)
    assert resolve_default(photos, ["image_size=32"]).model == "whitened-cnn"
    assert resolve_default(photos, ["batch_size=128"]).lr == pytest.approx(0.0105 * 2**0.25)
    # 5 epochs of 157 steps
    assert resolve_default(photos, ["epochs=5"]).ema_decay == pytest.approx(1 - 20 / 785, abs=1e-4)
    enlarged = resolve_default(evidence_of(5_000, 64, pretrained=True), ["image_size=128"])
    assert (enlarged.model, enlarged.image_size) == (BORROWED.model, 128)


def test_with_pretrain_set_no_published_weights_are_used() -> None:
    photos = evidence_of(5_000, 500, pretrained=True)
    settings = ["pretrain=autoencoder", "model=autoencoder-lenet"]
    recipe = resolve_default(photos, settings)
    assert (recipe.pretrain, recipe.pretrained, recipe.model) == ("autoencoder", False, "autoencoder-lenet")
    assert resolve_default(photos, ["pretrain=none"]).pretrained
    for start in ("pretrained=true", "weights=mine.pth"):
        with pytest.raises(InputError, match="autoencoder"):
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


@pytest.mark.parametrize("setting", ["epoch=3", "epochs=many", "epochs=0", "epochs=-1"])
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


def test_the_evidence_names_a_backbone_only_if_it_is_used() -> None:
    command = read_command(["input/nowhere", "--set", "pretrained=true"], "")
    assert command.resolved(evidence_of(500, 28, pretrained=True)).evidence.backbone == BORROWED
    from_scratch = read_command(["input/nowhere", "--image-size", "32"], "")
    evidence = from_scratch.resolved(evidence_of(500, 28, pretrained=True)).evidence
    assert evidence.backbone is None and evidence.as_entry()["pretrained"] is False


@given(EVIDENCE)
def test_evidence_is_read_back_from_its_entry(evidence: RecipeEvidence) -> None:
    assert RecipeEvidence.of_entry(evidence.as_entry()) == evidence


def test_the_explanation_states_the_evidence_and_the_resolved_recipe() -> None:
    evidence = evidence_of(1_020, 64)
    dataset, *schedule = describe_recipe(resolve_default(evidence), evidence)
    for value in ("1,020", "64 x 64 pixels", "in colour", "whitened-cnn", "from scratch", "photo"):
        assert value in dataset
    assert re.findall(r"[0-9.,]*[0-9]", " ".join(schedule)) == [
        "80", "81,600", "600,000", "10", "80", "32", "32", "100", "32", "256", "0.00883", "0.0105", "64"
    ]  # fmt: skip
    assert "muon" in " ".join(schedule)
    evidence, settings = evidence_of(1_020, 300, grey=True, pretrained=True), ["seed=2"]
    evidence = replace(evidence, backbone=replace(BORROWED, losses={"128": 1.5, "192": 1.25}))
    text = " ".join(describe_recipe(resolve_default(evidence, settings), evidence, settings))
    for value in (
        "300 x 300 pixels",
        "grey",
        BORROWED.model,
        "192",
        "seed=2",
        "1.500",
        "1.250",
        "30 minutes",
    ):
        assert value in text
