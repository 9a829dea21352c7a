"""The networks that a campaign may use: pretrained ones that are at hand, and those from scratch."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from foldsmith.campaign.costs import FINETUNE, PROBE, SCRATCH, Candidate
from foldsmith.campaign.plan import FEW
from foldsmith.campaign.speeds import measure
from foldsmith.inference.compute import choose_device
from foldsmith.models.backbone import check_named, fetch_weights
from foldsmith.process.terminal import say
from foldsmith.recipes import DatasetFacts, Recipe, RecipeEvidence, find_recipe, override
from foldsmith.recipes.borrowed import BACKBONES, CPU, GPU, LEAST_EPOCHS, share_of, wanted_epochs
from foldsmith.recipes.default import FEW_IMAGES, SMALL_SIDE, resolve_default
from foldsmith.recipes.weight_names import TIMM, check_weights_file, network_of
from foldsmith.run.command import Command

LEAST_SCRATCH = 1 / 4  # of the epochs from scratch that a recipe aims at; fewer are not worth their time
LOADING_SECONDS = 0.0002  # of the augmentation of 32 x 32 pixels, on one busy core
LONG = 2 * 3600.0  # seconds of a budget on a CPU from which the recipes for a GPU are timed too
# sides at which a pretrained network is probed, and fine-tuned, by the kind of device
PROBED = {CPU: (128, 224, 288), GPU: (224, 288, 384)}
TUNED = {CPU: (128, 192), GPU: (224, 288)}
# images in all epochs of a fold; after fewer, such as five epochs of 144 images, a fine-tuned network is far
# worse than its probe
LEAST_TUNED = 4_000
FROM_SCRATCH = ("pretrained=false", "validate_every=2")  # settings with which `default` borrows no weights


@dataclass(frozen=True)
class Use:
    """A way to use a network, before it is measured; `least` are the epochs that are worth their time."""

    kind: str
    network: str
    name: str
    settings: tuple[str, ...]
    recipe: Recipe
    least: int


def networks_at_hand(weights: Sequence[str], device: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the pretrained networks and the settings that name them, by the kind of device.

    They are those of the typed weights, or else the one that `default` uses, if its weights are here or can
    be downloaded. Raise InputError for a file that names no network of timm.
    """
    if weights:
        named = []
        for file in weights:
            check_weights_file(file)
            model = f"{TIMM}{network_of(file)}"
            check_named({"model": model, "weights": file})
            named.append((model.removeprefix(TIMM), (f"model={model}", f"weights={file}")))
        return named
    model = BACKBONES[device]
    if fetch_weights(model.removeprefix(TIMM)):
        say(
            f"campaign: no pretrained weights: those of {model.removeprefix(TIMM)} are in no cache and could "
            "not be fetched; networks are trained from scratch. Name a file at hand with --weights FILE."
        )
        return []
    return [(model.removeprefix(TIMM), (f"model={model}",))]


def larger_recipe(facts: DatasetFacts) -> str:
    """Return the recipe from scratch that gives the best score for such images where there is time."""
    if facts.side <= SMALL_SIDE:
        return "small-images-best"
    return "photos-best" if facts.num_images >= FEW_IMAGES else "fine-grained-few"


def find_candidates(
    facts: DatasetFacts, num_outputs: int, weights: Sequence[str], command: Command, seconds: float
) -> list[Candidate]:
    """Return all candidates for a budget, with their speeds on this machine: some seconds for each."""
    kind = CPU if choose_device(command.device).type == "cpu" else GPU
    uses = borrowed_uses(facts, weights, kind)
    if not uses or facts.num_images >= FEW:  # with weights nothing is trained from scratch on few images
        uses += scratch_uses(facts, kind == GPU or seconds >= LONG)
    return [measured(use, num_outputs, command) for use in uses]


def borrowed_uses(facts: DatasetFacts, weights: Sequence[str], kind: str) -> list[Use]:
    """Return the probes and the fine-tunings of the pretrained networks at hand."""
    uses, channels = [], channel_settings(facts)
    least = max(LEAST_EPOCHS, math.ceil(LEAST_TUNED / facts.num_images))
    for network, settings in networks_at_hand(weights, kind):
        for size in PROBED[kind]:
            words = (*settings, f"image_size={size}", *channels)
            probe = override(find_recipe("probe"), words)
            uses.append(Use(PROBE, network, f"{network}-{size}", words, probe, 0))
        for size in TUNED[kind]:
            words = (
                *settings,
                f"image_size={size}",
                f"train_size={share_of(size, 7 / 8)}",
                f"train_size_from={share_of(size, 5 / 8)}",
                "validate_every=5",
                *channels,
            )
            recipe = replace(override(find_recipe("finetune"), words), epochs=wanted_epochs(facts.num_images))
            uses.append(Use(FINETUNE, network, f"{network}-{size}", words, recipe, min(least, recipe.epochs)))
    return uses


def scratch_uses(facts: DatasetFacts, there_is_time: bool) -> list[Use]:
    """Return the networks from scratch; those that take long where there is time."""
    channels = channel_settings(facts)
    recipes = [("quick", "small", channels, override(find_recipe("quick"), channels))]
    default = resolve_default(RecipeEvidence(facts), FROM_SCRATCH)
    recipes.append(("default", "from-scratch", FROM_SCRATCH, default))
    if there_is_time:
        larger = larger_recipe(facts)
        recipes.append((larger, "from-scratch", channels, override(find_recipe(larger), channels)))
    return [
        Use(SCRATCH, network, name, settings, recipe, math.ceil(LEAST_SCRATCH * recipe.epochs))
        for network, name, settings, recipe in recipes
    ]


def channel_settings(facts: DatasetFacts) -> tuple[str, ...]:
    return ("channels=1",) if facts.grey else ()


def measured(use: Use, num_outputs: int, command: Command) -> Candidate:
    """Return the candidate of a use, with its speeds."""
    recipe = use.recipe
    speed = measure(recipe, num_outputs, command.device, command.precision)
    trained = "" if use.kind == PROBE else f", {speed.training:,.0f} in training"
    say(f"campaign: {use.kind} {use.name}: {speed.forward:,.0f} images/s{trained}")
    side = recipe.train_size or recipe.image_size
    # beside a GPU all cores share the augmentation
    cores = 1 if choose_device(command.device).type == "cpu" else os.cpu_count() or 1
    return Candidate(
        name=use.name,
        kind=use.kind,
        network=use.network,
        recipe=use.network if use.kind == SCRATCH else use.kind,
        settings=use.settings,
        size=recipe.image_size,
        epochs=recipe.epochs,
        least=use.least,
        forward=round(speed.forward, 1),
        training=round(speed.training, 1),
        validate_every=recipe.validate_every,
        usual=recipe.image_size == find_recipe("probe").image_size,
        loading=LOADING_SECONDS * (side / 32) ** 2 / cores,
        views=recipe.views,
    )
