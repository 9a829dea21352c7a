"""A night's work on a contest: name it and a budget, and find a checked submission and the reasons for it.

./run.sh input/NAME --budget 8h                   # without --recipe: a campaign chooses recipes itself
./run.sh input/NAME --budget 20m --weights tf_efficientnet_lite0.safetensors
.venv/bin/python src/campaign.py input/NAME --budget overnight

Networks are timed, a plan is written down and followed: probes of pretrained networks at hand, fine-tuning of
the best, training from scratch, other seeds, pseudo-labels and views. A step's run is kept if it gains more
than luck explains. Results: OUTPUT/NAME/campaign/submission.csv and campaign.html. The same command goes on
after an interruption. All other words are those of ./run.sh.
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import argparse
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from foldsmith.errors import InputError
from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of, digest_of_file, load_json
from foldsmith.process.locks import lock_until_exit
from foldsmith.process.terminal import in_time, say
from foldsmith.run.command import (
    OVERNIGHT,
    SHORT_FIELDS,
    Command,
    WordParser,
    check_name,
    minutes_of,
    read_command,
)

if TYPE_CHECKING:
    from foldsmith.campaign.in_turn import Runner
    from foldsmith.campaign.place import Place
    from foldsmith.campaign.steps import Plan
    from foldsmith.campaign.written import WrittenPlans
    from foldsmith.competition.folder import Competition
    from foldsmith.competition.labels import Metadata

LEAST_MINUTES = 2.0
CHOSEN = ("--recipe", "--set", "--fold", "--until", "--limit-test", "--corrections",
          *(f"--{field.replace('_', '-')}" for field in SHORT_FIELDS))  # fmt: skip
NEUTRAL = ("--output", "--device", "--workers", "--metric")  # words that do not change what is trained


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    typed, others = read_words(words)
    command = read_command(others, __doc__)
    if not command.folder.is_dir():
        raise InputError(f"{command.folder} is not a folder; name a competition folder.")
    if Path(others[0], "identity.json").is_file():
        raise InputError(
            f"{others[0]} is the folder of a run; name the competition folder, {command.folder}."
        )
    place = place_of(typed, command, others)
    if (place.own / "identity.json").is_file():
        raise InputError(f"{place.own} is a run's folder; choose another --name for the campaign.")
    place.own.mkdir(parents=True, exist_ok=True)
    lock_until_exit(place.own / ".lock", f"the campaign {place.own}")
    # imported here: torch and scipy take seconds, and --help does not need them
    from foldsmith.campaign.journal import Journal
    from foldsmith.campaign.page import Page, luck_in_words
    from foldsmith.campaign.work import Campaign

    written = written_plan(typed, command, place)
    journal = Journal.load(place.own / "journal.json", 60 * typed.budget)
    page = Page(place, written, shlex.join(["./run.sh", *words]))
    Campaign(place, written, journal, runner_of(typed, place, written.plans[0]), page.show).work()
    if journal.luck is not None:
        say(f"campaign: {luck_in_words(journal)}")
    say(f"campaign: {place.submission} (checked), {place.own / 'campaign.html'}")
    return 0


def read_words(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the words of the campaign, and those of its runs. Raise InputError for wrong values."""
    parser = WordParser(
        usage="campaign.py FOLDER --budget 8h [--weights FILE …] [words below, or of ./run.sh]",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    budget = f"the time that the campaign may take: 20m, 8h, or overnight ({OVERNIGHT / 60:g} hours)"
    add("--budget", metavar="TIME", type=budget_of, required=True, help=budget)
    weights = "pretrained weights at hand, named after timm's networks; repeatable"
    add("--weights", metavar="FILE", nargs="+", action="extend", default=[], help=weights)
    add("--name", metavar="NAME", default="campaign", help="name of the campaign's folder (campaign)")
    add("--address", metavar="ADDRESS", help="a Ray cluster, on which steps run side by side")
    add("--again", action="store_true", help="plan anew, in place of a campaign of the same name")
    typed, others = parser.parse_known_args(words)
    for word in others:
        if word.partition("=")[0] in CHOSEN:
            raise InputError(
                f"{word}: a campaign chooses it, or leaves it out; for a single run write --recipe NAME."
            )
    if not others or others[0].startswith("-"):
        raise InputError("the first word of a campaign is the competition folder, such as input/tiny80.")
    check_name(typed.name)
    typed.weights = [os.path.abspath(file) if Path(file).exists() else file for file in typed.weights]
    return typed, others


def budget_of(text: str) -> float:
    """Return the minutes of a budget. Raise ArgumentTypeError for one that is no time, or too short."""
    minutes = minutes_of(text)
    if minutes < LEAST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text}: a campaign needs at least {LEAST_MINUTES:g} minutes")
    return minutes


def place_of(typed: argparse.Namespace, command: Command, others: list[str]) -> "Place":
    """Return where the campaign works, with the words that its runs share."""
    from foldsmith.campaign.place import Place

    # absolute paths: a machine of a cluster has another current folder; the last --output counts
    output = os.path.abspath(command.output)
    shared = [*others[1:], "--output", output]
    runs = Path(output) / command.competition
    contest = Path(os.path.abspath(command.folder))
    return Place(contest, runs, typed.name, tuple(shared), command.metric, variant_of(others[1:]))


def variant_of(words: list[str]) -> str:
    """Return what the names of runs with these words end with; empty if none is about images or folds."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for word in NEUTRAL:
        parser.add_argument(word)
    others = parser.parse_known_args(words)[1]
    return digest_of(others)[:6] if others else ""


def written_plan(typed: argparse.Namespace, command: Command, place: "Place") -> "WrittenPlans":
    """Return the plans: that of plan.json, or one that is made by measured speeds and written there.

    Raise InputError if the campaign of this name has another budget, other words, images, labels or weights.
    """
    # imported here: pandas takes a second, and --help does not need it
    from foldsmith import __version__
    from foldsmith.campaign.journal import Journal
    from foldsmith.campaign.written import WrittenPlans
    from foldsmith.competition.folder import read_competition
    from foldsmith.competition.labels import read_metadata

    begun = time.monotonic()
    path, seconds = place.own / "plan.json", 60 * typed.budget
    competition = read_competition(command.folder, command.run.cache_root)
    metadata = read_metadata(competition)
    inputs = {
        "version": __version__,
        "budget": seconds,
        "words": digest_of([str(place.contest), *place.shared]),
        "weights": [digest_of_file(Path(file)) if Path(file).is_file() else file for file in typed.weights],
        "contest": digest_of([metadata.samples.to_csv(), metadata.classes.to_csv(), competition.test_images]),
    }
    if path.is_file() and not typed.again:
        held = load_json(path)
        earlier = held["inputs"] if isinstance(held["inputs"], dict) else {}  # a digest in earlier versions
        changed = [key for key, value in inputs.items() if earlier.get(key) != value]
        if changed:
            raise InputError(
                f"{path} was planned for {in_time(held['budget'])}; what has changed: {', '.join(changed)}. "
                "Type words as they were, plan another campaign with --name NAME, or plan anew with --again."
            )
        return WrittenPlans.load(path)
    plan = make(typed, command, competition, metadata, seconds - (time.monotonic() - begun))
    (place.own / "journal.json").unlink(missing_ok=True)
    written = WrittenPlans(path, inputs, seconds, [plan])
    written.save()
    planning = time.monotonic() - begun
    Journal(place.own / "journal.json", seconds, spent=planning, planning=planning).save()
    say(f"campaign: {path}: {len(plan.slots)} steps in {in_time(seconds)}")
    return written


def make(
    typed: argparse.Namespace,
    command: Command,
    competition: "Competition",
    metadata: "Metadata",
    seconds: float,
) -> "Plan":
    """Return the plan of a contest's images and the networks at hand, by their speeds on this machine.

    It is one for the rest of `seconds`: measuring takes its share of a short budget.
    """
    from foldsmith.campaign.candidates import find_candidates
    from foldsmith.campaign.costs import Contest
    from foldsmith.campaign.plan import make_plan
    from foldsmith.data.survey import survey_images
    from foldsmith.run.tables import task_of

    begun = time.monotonic()
    facts = command.limited(survey_images(competition.root, list(metadata.samples["path"])))
    task = task_of(metadata.task, metadata.classes)
    candidates = find_candidates(facts, task.num_outputs, typed.weights, command, seconds)
    split = command.plan
    held_out = split.holdout if split.holdout is not None else 1 / split.num_folds
    num_test = len(competition.test_images)
    contest = Contest(
        facts.num_images, num_test, len(split.folds), facts.side, held_out, "rounds" not in task.refusals
    )
    return make_plan(contest, candidates, seconds - (time.monotonic() - begun))


def runner_of(typed: argparse.Namespace, place: "Place", plan: "Plan") -> "Runner":
    """Return what runs the steps: this machine in turn, or a Ray cluster."""
    if typed.address:
        from foldsmith.campaign.side_by_side import SideBySide

        return SideBySide(place, plan.one_fold, typed.address)
    from foldsmith.campaign.in_turn import InTurn

    return InTurn(place, plan.one_fold)


if __name__ == "__main__":
    run_main(main)
