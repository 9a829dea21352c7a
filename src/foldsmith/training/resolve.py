"""Resolve a recipe from the dataset, once per run."""

from dataclasses import replace

import numpy as np

from foldsmith.competition.folder import Competition
from foldsmith.competition.labels import Metadata, read_metadata
from foldsmith.data.channels import most_channels
from foldsmith.data.survey import survey_images
from foldsmith.errors import InputError
from foldsmith.process.terminal import say
from foldsmith.recipes import RecipeEvidence, read_settings
from foldsmith.recipes.borrowed import BACKBONES, CPU, GPU, LARGER_SIZES, SMALL_SIDE, Backbone
from foldsmith.recipes.default import DatasetFacts, describe_recipe, wants_weights
from foldsmith.recipes.general import PROBE
from foldsmith.recipes.recipe import override
from foldsmith.run.command import Command
from foldsmith.run.tables import task_of


def resolve_recipe(command: Command, competition: Competition) -> Command:
    """Return the command with its recipe resolved from the competition's images, and print the result.

    A fixed recipe is returned unchanged, as is one that the run already has evidence for; `--again` surveys
    the images again. Raise InputError if labels or images cannot be read.
    """
    if not command.dataset_recipe:
        if command.budget is not None:
            say(f"--budget has no effect on recipe {command.recipe.name}, which plans nothing")
        return command
    if command.evidence is not None and not command.again:
        refuse_other_budget(command)
        return command
    metadata = read_metadata(competition)
    # images without a label are not trained on, so they are not surveyed
    labelled = list(metadata.samples["path"])
    channels = most_channels([*labelled, *competition.test_images])
    facts, missing = survey_images(competition.root, labelled, channels), ""
    backbone = None
    if wants_weights(command.limited(facts), command.settings):
        backbone, missing = find_backbone(command, competition, metadata, facts)
    resolved = command.resolved(RecipeEvidence(facts, backbone))
    if missing:
        say(f"{command.dataset_recipe}: trains from scratch, without pretrained weights, {missing}")
    limited = RecipeEvidence(resolved.limited(facts), backbone)
    for line in describe_recipe(resolved.recipe, limited, command.settings):
        say(f"{command.dataset_recipe}: {line}")
    return resolved


def refuse_other_budget(command: Command) -> None:
    """Raise InputError if `--budget` is not the one that the run was planned for."""
    backbone = command.evidence.backbone if command.evidence else None
    planned = backbone.minutes if backbone else None
    if command.budget is not None and command.budget != planned:
        was = f"planned for {planned:g} minutes" if planned else "planned without borrowed weights"
        raise InputError(
            f"{command.run.root} was {was}, not for --budget {command.budget:g}; leave --budget out, plan "
            "anew with --again, or choose another --name."
        )


def find_backbone(
    command: Command, competition: Competition, metadata: Metadata, facts: DatasetFacts
) -> tuple[Backbone | None, str]:
    """Return the pretrained network to use, and why there is none; one of the two is empty.

    It is that of the user's settings, or the one of BACKBONES for the kind of device. Small images are
    enlarged to the side at which a probe of a sample is better.
    """
    # importing torch takes seconds, which a run without weights should not pay
    from foldsmith.inference.compute import choose_device
    from foldsmith.models.backbone import check_named, fetch_weights
    from foldsmith.training.backbone_choice import Sample, best_size, compare_sizes, cost_of

    typed = read_settings(command.settings)
    if command.model_by_weights:
        check_named(typed)
    device = CPU if choose_device(command.device).type == "cpu" else GPU
    model = typed.get("model", BACKBONES[device])
    if not typed.get("weights"):
        missing = fetch_weights(model.removeprefix("timm:"))
        if missing and typed.get("pretrained"):
            raise InputError(
                f"pretrained=true: there are no weights, {missing}; --set weights=FILE names some."
            )
        if missing:
            return None, missing
    channels = 1 if facts.grey else facts.channels
    row = override(replace(PROBE, model=model, channels=channels), command.settings)
    size, losses = typed.get("image_size", 0), {}
    if not size and facts.side < SMALL_SIDE:
        task = task_of(metadata.task, metadata.classes)
        samples = metadata.samples
        sample = Sample(
            competition.root, list(samples["path"]), task.targets(samples), task, list(samples["group"])
        )
        losses = compare_sizes(row, sample, command.device, command.precision)
        size = best_size(losses)
    size = size or (PROBE.image_size if device == GPU else LARGER_SIZES[-1])
    gflops, any_size = cost_of(row.model, size, row.channels)
    plan = command.plan
    return Backbone(
        model=row.model,
        gflops=round(gflops, 3),
        reference=size,
        any_size=any_size,
        size=size,
        device=device,
        num_test=len(competition.test_images),
        num_folds=len(plan.folds),
        budget=command.budget or 0.0,
        losses={str(side): round(float(np.mean(loss)), 4) for side, loss in losses.items()},
    ), ""
