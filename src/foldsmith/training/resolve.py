"""A recipe that the dataset resolves, once for a run."""

from foldsmith.competition.folder import Competition
from foldsmith.competition.labels import read_metadata
from foldsmith.data.survey import survey_images
from foldsmith.process.terminal import say
from foldsmith.recipes import RecipeEvidence
from foldsmith.recipes.default import TUNED_MODEL, describe_recipe, wants_weights
from foldsmith.run.command import Command


def resolve_recipe(command: Command, competition: Competition) -> Command:
    """Return the command with its recipe resolved from the competition's images, and say what they resolve.

    A fixed recipe, and one whose run holds its evidence, stay as they are; `--again` surveys anew. Raises
    InputError if labels or images cannot be read.
    """
    if not command.dataset_recipe or (command.evidence is not None and not command.again):
        return command
    # not every image needs a label: what is not trained on decides nothing
    labelled = list(read_metadata(competition).samples["path"])
    facts, missing = survey_images(competition.folder, labelled), ""
    wanted = wants_weights(facts, command.settings)
    if wanted:
        # importing torch takes seconds, which small images should not pay
        from foldsmith.models.backbone import fetch_weights

        missing = fetch_weights(TUNED_MODEL.removeprefix("timm:"))
    resolved = command.resolved(RecipeEvidence(facts, pretrained=wanted and not missing))
    if missing:
        say(f"{command.dataset_recipe}: no pretrained weights, {missing}")
    for line in describe_recipe(resolved.recipe, resolved.limited(facts), command.settings):
        say(f"{command.dataset_recipe}: {line}")
    return resolved
