"""A recipe that the images decide, chosen once for a run."""

from foldsmith.competition.folder import Competition
from foldsmith.competition.labels import read_metadata
from foldsmith.data.survey import survey_images
from foldsmith.process.terminal import say
from foldsmith.recipes import Grounds
from foldsmith.recipes.default import TUNED_MODEL, explain_choice, wants_weights
from foldsmith.run.command import Command


def settle(command: Command, competition: Competition) -> Command:
    """The command with a recipe that the competition's images decided, which is told.

    It is the same command where none is to be chosen, or the run holds what it was chosen by; `--again`
    chooses anew. Raises InputError if labels or images cannot be read.
    """
    if not command.chooser or (command.grounds is not None and not command.again):
        return command
    # not every image needs a label: what is not trained on decides nothing
    labelled = list(read_metadata(competition).samples["path"])
    facts, missing = survey_images(competition.folder, labelled), ""
    wanted = wants_weights(facts, command.settings)
    if wanted:
        # importing torch takes seconds, which small images should not pay
        from foldsmith.models.backbone import fetch_weights

        missing = fetch_weights(TUNED_MODEL.removeprefix("timm:"))
    chosen = command.chosen(Grounds(facts, pretrained=wanted and not missing))
    if missing:
        say(f"{command.chooser}: no pretrained weights, {missing}")
    for line in explain_choice(chosen.recipe, chosen.limited(facts), command.settings):
        say(f"{command.chooser}: {line}")
    return chosen
