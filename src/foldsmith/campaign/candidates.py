"""The networks that a campaign may use: pretrained ones that are at hand, and those from scratch."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace

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
# sides at which a pretrained network is probed and fine-tuned, by the kind of device
SIZES = {CPU: (128, 192), GPU: (224, 288)}
FROM_SCRATCH = ("pretrained=false", "validate_every=2")  # settings with which `default` borrows no weights


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
    device, precision = command.device, command.precision
    kind = CPU if choose_device(device).type == "cpu" else GPU
    channels = ("channels=1",) if facts.grey else ()
    rows: list[tuple[str, str, str, tuple[str, ...], Recipe]] = []
    for network, settings in networks_at_hand(weights, kind):
        for size in SIZES[kind]:
            words = (*settings, f"image_size={size}", *channels)
            probe = override(find_recipe("probe"), words)
            rows.append((PROBE, network, f"{network}-{size}", words, probe))
            tuned = (
                *words,
                f"train_size={share_of(size, 7 / 8)}",
                f"train_size_from={share_of(size, 5 / 8)}",
            )
            tuned = (*tuned, "validate_every=5")
            recipe = replace(override(find_recipe("finetune"), tuned), epochs=wanted_epochs(facts.num_images))
            rows.append((FINETUNE, network, f"{network}-{size}", tuned, recipe))
    # with weights nothing is trained from scratch on few images
    if rows and facts.num_images < FEW:
        return [_measured(row, num_outputs, device, precision) for row in rows]
    quick = override(find_recipe("quick"), channels)
    rows.append((SCRATCH, "quick", "small", channels, quick))
    default = resolve_default(RecipeEvidence(facts), FROM_SCRATCH)
    rows.append((SCRATCH, "default", "from-scratch", FROM_SCRATCH, default))
    if kind == GPU or seconds >= LONG:
        larger = larger_recipe(facts)
        recipe = override(find_recipe(larger), channels)
        rows.append((SCRATCH, larger, "from-scratch", channels, recipe))
    return [_measured(row, num_outputs, device, precision) for row in rows]


def loading_seconds(side: int, device: str) -> float:
    """Return the time of an image's augmentation; beside a GPU all cores share the work."""
    cores = 1 if choose_device(device).type == "cpu" else os.cpu_count() or 1
    return LOADING_SECONDS * (side / 32) ** 2 / cores


def _measured(
    row: tuple[str, str, str, tuple[str, ...], Recipe], num_outputs: int, device: str, precision: str
) -> Candidate:
    kind, network, name, settings, recipe = row
    speed = measure(recipe, num_outputs, device, precision)
    trained = "" if kind == PROBE else f", {speed.training:,.0f} in training"
    say(f"campaign: {kind} {name}: {speed.forward:,.0f} images/s{trained}")
    least = {PROBE: 0, FINETUNE: LEAST_EPOCHS, SCRATCH: math.ceil(LEAST_SCRATCH * recipe.epochs)}[kind]
    named = {PROBE: "probe", FINETUNE: "finetune"}.get(kind, network)
    return Candidate(
        name=name,
        kind=kind,
        network=network,
        recipe=named,
        settings=settings,
        size=recipe.image_size,
        epochs=recipe.epochs,
        least=least,
        forward=round(speed.forward, 1),
        training=round(speed.training, 1),
        validate_every=recipe.validate_every,
        loading=loading_seconds(recipe.train_size or recipe.image_size, device),
    )
