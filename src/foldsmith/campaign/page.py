"""The story of a campaign: a table in the terminal, and campaign.html."""

import os
import time
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from foldsmith.campaign.journal import DONE, LEFT_OUT, Entry, Journal
from foldsmith.campaign.place import Place
from foldsmith.campaign.steps import first_name
from foldsmith.campaign.written import WrittenPlans
from foldsmith.process.files import atomic_write
from foldsmith.process.terminal import format_score, in_time, show_table, with_error
from foldsmith.report.page import build_environment
from foldsmith.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, draw_axes, join

HEADER = ("step", "state", "took (planned)", "score", "gain of the answer", "verdict", "why")
LEAST_ANSWERS = 2  # of which a trend is drawn
HOUR = 3600.0


class Page:
    """Shows a campaign's journal after every step."""

    def __init__(self, place: Place, written: WrittenPlans, line: str) -> None:
        self._place, self._written, self._line = place, written, line
        self._shown: list[list[str]] = []

    def show(self, journal: Journal) -> None:
        """Print the table, and write campaign.html."""
        entries = without_planned_again(journal.entries)
        rows = [row_of(entry, journal.verdict_of(entry)) for entry in entries]
        status = status_of(journal, self._written.num_slots)
        if rows != self._shown:
            show_table(f"{self._place.contest.name}: {status}", HEADER, rows)
        self._shown = rows
        page = build_environment().get_template("campaign.html").render(
            title=self._place.contest.name,
            status=status,
            header=HEADER,
            rows=rows,
            links=[self._report_of(entry) for entry in entries],
            chart=draw_answers(journal),
            trend=trend_in_words(journal),
            luck=luck_in_words(journal),
            candidates=self._written.plans[0].candidates,
            command=self._line,
            written=time.strftime("%Y-%m-%d %H:%M"),
        )  # fmt: skip
        with atomic_write(self._place.own / "campaign.html") as temporary:
            temporary.write_text(page, encoding="utf-8")

    def _report_of(self, entry: Entry) -> str:
        """Return the link to a finished step's report; empty if there is none."""
        report = self._place.run(entry.run).report
        is_there = entry.state == DONE and report.is_file()
        return os.path.relpath(report, self._place.own) if is_there else ""


def without_planned_again(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries without those that were left out and planned again."""
    last = {first_name(entry.slot): entry for entry in entries}
    return [one for one in entries if one.state != LEFT_OUT or last[first_name(one.slot)] is one]


def row_of(entry: Entry, verdict: str) -> list[str]:
    """Return the cells of an entry below HEADER; `verdict` is what became of its run."""
    gain = "" if entry.gain is None else with_error(f"{entry.gain:+.4f}", entry.gain_error)
    if entry.p is not None:
        verdict += f" (p {entry.p:.2g} of {entry.allowed:.2g})"
    score = "" if entry.score is None else with_error(format_score(entry.score), entry.error)
    took = "" if entry.state == LEFT_OUT else f"{in_time(entry.took)} ({in_time(entry.planned)})"
    return [entry.slot, entry.state, took, score, gain, verdict, entry.why]


def status_of(journal: Journal, num_slots: int) -> str:
    """Return how far the campaign is, its answer, and the time."""
    over = sum(entry.is_over for entry in without_planned_again(journal.entries))
    said = f"{over} of {num_slots} steps, {in_time(journal.seconds)} of {in_time(journal.budget)}"
    if not journal.answers:
        return f"{said}; no answer yet"
    last = journal.answers[-1]
    runs = "run" if len(last.runs) == 1 else "runs"
    decided = "" if last.decided is None else f", {format_score(last.decided)} with its fitted decisions"
    score = with_error(format_score(last.score), last.error)
    return f"{said}; answer {score}{decided}, of {len(last.runs)} {runs}"


def trend_in_words(journal: Journal) -> str:
    """Return what another hour would bring, if scores went on along the logarithm of time.

    Of a campaign of less than an hour it is the same time again: a line carries no further.
    """
    answers = [answer for answer in journal.answers if answer.score is not None]
    if len(answers) < LEAST_ANSWERS:
        return f"No trend yet: {len(answers)} of {LEAST_ANSWERS} answers that one needs."
    # the later half of them: the step from a first quick answer to a trained one is not made again
    answers = answers[-max(LEAST_ANSWERS, len(answers) // 2) :]
    minutes = np.log([answer.seconds for answer in answers])
    slope = float(np.polyfit(minutes, [answer.score for answer in answers], 1)[0])
    further = min(HOUR, journal.seconds)
    gain = slope * np.log((journal.seconds + further) / journal.seconds)
    time = "another hour" if further == HOUR else f"another {in_time(further)}"
    return (
        f"By the trend of the last {len(answers)} answers, scores along the logarithm of time, {time} "
        f"would change the score by {gain:+.4f}. It assumes that there is as much left to try."
    )


def luck_in_words(journal: Journal) -> str:
    """Return what of the answer's score is luck in choosing."""
    if journal.luck is None:
        return ""
    last = journal.answers[-1]
    nested = with_error(format_score(journal.nested), journal.nested_error)
    return (
        f"The answer scores {format_score(last.score)} on held-out images. With the verdicts on all "
        f"{len(journal.judged)} runs, and the weights, made again for each fold on the other folds alone, it "
        f"is {nested}. The difference, {journal.luck:+.4f}, has two causes: the answer was chosen by the "
        "images that it is scored on, which flatters it, and each new choice saw fewer images. The choice of "
        "the networks that were fine-tuned, or trained with other seeds, is not made again."
    )


def draw_answers(journal: Journal) -> Markup:
    """Return the score of the answers, with their errors, over minutes; empty with none."""
    answers = [answer for answer in journal.answers if answer.score is not None]
    if not answers:
        return Markup("")
    minutes = [answer.seconds / 60 for answer in answers]
    errors = [answer.error or 0.0 for answer in answers]
    scores = [answer.score for answer in answers]
    low = min(score - error for score, error in zip(scores, errors, strict=True))
    high = max(score + error for score, error in zip(scores, errors, strict=True))
    margin = 0.08 * (high - low) or 0.01
    x = Scale(0, max(journal.seconds / 60, minutes[-1]) or 1, LEFT, WIDTH - RIGHT)
    y = Scale(low - margin, high + margin, HEIGHT - BOTTOM, TOP)
    parts = [draw_axes(x, y, "minutes"), _draw_steps(x, y, minutes, scores)]
    mark = '<path class="grid" d="M{} {}V{}"/><g class="line held"><circle cx="{}" cy="{}" r="3"/></g>'
    for minute, score, error in zip(minutes, scores, errors, strict=True):
        parts.append(Markup(mark).format(x(minute), y(score - error), y(score + error), x(minute), y(score)))
    label = f"score of the answer over time, from {scores[0]:.4f} to {scores[-1]:.4f}"
    frame = '<svg class="panel" viewBox="0 0 {} {}" role="img" aria-label="{}">\n{}\n</svg>'
    return Markup(frame).format(WIDTH, HEIGHT, label, join(parts))


def _draw_steps(x: Scale, y: Scale, minutes: Sequence[float], scores: Sequence[float]) -> Markup:
    """Return the line of the best answer so far, which stays until the next one."""
    points = []
    for index, (minute, score) in enumerate(zip(minutes, scores, strict=True)):
        until = minutes[index + 1] if index + 1 < len(minutes) else x.high
        points += [f"{x(minute)},{y(score)}", f"{x(until)},{y(score)}"]
    return Markup('<g class="line held"><polyline points="{}"/></g>').format(" ".join(points))
