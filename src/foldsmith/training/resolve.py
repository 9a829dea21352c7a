"""Resolve a recipe from the dataset, once per run."""

from foldsmith.competition.folder import Competition
from foldsmith.competition.labels import read_metadata
from foldsmith.data.channels import most_channels
from foldsmith.data.survey import survey_images
from foldsmith.process.terminal import say
from foldsmith.recipes import RecipeEvidence
from foldsmith.recipes.default import TUNED_MODEL, describe_recipe, wants_weights
from foldsmith.run.command import Command


def resolve_recipe(command: Command, competition: Competition) -> Command:
    """Return the command with its recipe resolved from the competition's images, and print the result.

    A fixed recipe is returned unchanged, as is one that the run already has evidence for; `--again` surveys
    the images again. Raise InputError if labels or images cannot be read.
    """
    if not command.dataset_recipe or (command.evidence is not None and not command.again):
        return command
    # images without a label are not trained on, so they are not surveyed
    labelled = list(read_metadata(competition).samples["path"])
    channels = most_channels([*labelled, *competition.test_images])
    facts, missing = survey_images(competition.root, labelled, channels), ""
    uses_weights = wants_weights(facts, command.settings)
    if uses_weights:
        # importing torch takes seconds, which small images should not pay
        from foldsmith.models.backbone import fetch_weights

        missing = fetch_weights(TUNED_MODEL.removeprefix("timm:"))
    resolved = command.resolved(RecipeEvidence(facts, pretrained=uses_weights and not missing))
    if missing:
        say(f"{command.dataset_recipe}: no pretrained weights, {missing}")
    for line in describe_recipe(resolved.recipe, resolved.limited(facts), command.settings):
        say(f"{command.dataset_recipe}: {line}")
    return resolved
