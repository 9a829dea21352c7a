"""Check a competition folder and decode its images: samples.csv, problems.csv and the pixel cache.

.venv/bin/python src/prepare.py input/tiny80 --recipe resnet64
.venv/bin/python src/prepare.py input/tiny80 --explain    # only print what was found and how it is read
"""

if __name__ == "__main__":  # before the imports below, which take a second
    from foldsmith.process.signals import stop_at_once

    stop_at_once()

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pandas as pd

from foldsmith.competition.folder import Competition, read_competition
from foldsmith.competition.found import Found, explain, save_found
from foldsmith.competition.labels import Metadata, read_metadata
from foldsmith.competition.submission import SubmissionForm, read_submission_form
from foldsmith.competition.subsets import folders_of
from foldsmith.data.cache import (
    PixelCache,
    build_cache,
    cache_name,
    changed_files,
    is_cached,
    listing_digest,
    open_cache,
    run_cache_path,
)
from foldsmith.data.channels import check_channels, describe_dropped
from foldsmith.data.corrections import (
    Corrected,
    Labelled,
    apply_corrections,
    describe_corrections,
    digest_of_corrections,
    read_corrections,
    refuse_other_corrections,
)
from foldsmith.data.depth import find_depth
from foldsmith.data.duplicates import join_pairs, name_groups, release_large
from foldsmith.data.images import DEPTH, collected_warnings
from foldsmith.data.known_images import find_known_images, find_trained_images
from foldsmith.data.near_duplicates import MAX_COPIES, ORIENTATIONS, find_near_duplicates
from foldsmith.data.problems import find_problems, keep_readable, summarise
from foldsmith.data.sources import changed_sources, sources_digest
from foldsmith.data.stale_caches import find_stale_caches, removal_advice
from foldsmith.errors import InputError, first_of
from foldsmith.process.exit import run_main
from foldsmith.process.files import digest_of, digest_of_file, load_json
from foldsmith.process.locks import wait_for_lock
from foldsmith.process.terminal import progress, say
from foldsmith.recipes import Recipe
from foldsmith.recipes.for_task import check_for_task, notes_for_task
from foldsmith.recipes.weight_names import in_words
from foldsmith.run.command import Command, read_command
from foldsmith.run.identity import as_saved, load_identity
from foldsmith.run.paths import RunPaths
from foldsmith.run.stamps import check_claimable, claim_run, is_current, write_stamp
from foldsmith.run.tables import save_table, task_of
from foldsmith.tasks.metrics import find_metric, is_custom
from foldsmith.tasks.own_metric import choose_metric
from foldsmith.training.resolve import resolve_recipe

OUTPUTS = {"multilabel": "labels", "regression": "numbers"}  # of a task that has no classes


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    explained = "--explain" in arguments
    command = read_command([word for word in arguments if word != "--explain"], __doc__)
    competition = read_competition(command.folder, command.run.cache_root)
    if command.metric and not is_custom(command.metric):  # the form of the submission depends on it
        try:
            find_metric(command.metric)
        except InputError as error:
            raise InputError(f"--metric {command.metric}: {error}") from error
        settings = replace(competition.settings, metric=command.metric)
        competition = replace(competition, settings=settings)
    if explained:
        for line in explain(found_in(competition, *read_labels_and_form(competition))):
            say(line)
        return 0
    command = resolve_recipe(command, competition)
    run, recipe = command.run, command.recipe
    lines = read_corrections(command.corrections) if command.corrections else None
    inputs = inputs_of(competition, recipe, lines)
    current = not command.again and is_current(run.stamp("prepare"), inputs) and is_decoded(run, competition)
    if not current or load_identity(run).get("recipe") != as_saved(command.identity["recipe"]):
        # importing torch takes seconds, which a stage that is up to date should not pay
        from foldsmith.training.check import check_recipe

        if command.model_by_weights:
            from foldsmith.models.backbone import check_named

            check_named({"model": recipe.model, "weights": recipe.weights})
        check_recipe(recipe, command.device, command.precision)
    check_claimable(run, command.again, **command.identity)
    refuse_other_corrections(command, lines)
    if current:
        claim_run(run, command.again, **command.identity)  # other views, say, than the run had
        say(f"prepare: {run.samples} is up to date")
    else:
        prepare(command, competition, inputs, lines)
    stale = find_stale_caches(command.run.cache_root)
    if stale:
        say(f"prepare: {removal_advice(stale)}")
    return 0


def prepare(
    command: Command, competition: Competition, inputs: dict[str, object], lines: pd.DataFrame | None
) -> None:
    """Read the labels, decode the images, and write the tables of the stage; `lines` are corrections."""
    run, recipe = command.run, command.recipe
    metadata, form = read_labels_and_form(competition)
    task = task_of(metadata.task, metadata.classes)
    choose_metric(task, command.metric, metadata.target.metric)  # raises InputError for another task's
    check_for_task(recipe, task)
    found = found_in(competition, metadata, form)
    for line in explain(found):
        say(f"prepare: {line}")
    images = [*metadata.samples["path"], *competition.test_images]
    check_channels(recipe, images)
    outputs = OUTPUTS.get(metadata.task, "classes")
    say(
        f"prepare: {len(metadata.samples):,} images of {len(metadata.classes)} {outputs} by "
        f"{metadata.source}; {len(competition.test_images):,} test images"
    )
    depth, usual = find_depth(competition.root, list(metadata.samples["path"]))
    if depth < DEPTH:
        say(f"prepare: the training images use {depth} of their 16 bits, which are mapped to 8")
    if usual < depth - 1:
        say(
            f"prepare: most 16-bit images use {usual} bits and some {depth}, so that most become dark: save "
            "them in 8 bits, or all with as many, if that is not their brightness"
        )
    cache_path = command.run.cache_root / cache_name(
        inputs["images"], images, recipe.image_size, recipe.cache, depth, recipe.cached_channels
    )
    cache = decode(command, competition.root, cache_path, images)
    samples = keep_readable(metadata.samples, cache.index, recipe.max_unreadable, competition)
    near = group_near_duplicates(cache, recipe.near_duplicates)
    index = cache.index.assign(near=near)
    labels = correct(command, lines, Labelled(samples, metadata.classes, index, task))
    samples, classes, index = labels.samples, labels.classes, labels.index
    problems = find_problems(competition, metadata, form, index, list(index["near"]), samples)
    for line in [*notes_for_task(recipe, task), *describe_dropped(recipe, images), *summarise(problems)]:
        say(f"prepare: {line}")

    facts = index.set_index("path")[["digest", "width", "height", "near"]]
    samples = samples.join(facts, on="path")
    borrowed = weights_of(command, samples, classes)
    test_samples = facts.loc[competition.test_images].reset_index()
    data = digest_of([table.to_csv() for table in (samples, test_samples, classes)])
    # only now that the new input is known to be good may --again remove an old run
    claim_run(run, command.again, **command.identity, data=data, task=metadata.task)
    tables = {run.samples: samples, run.test_samples: test_samples, run.classes: classes}
    run.corrections.unlink(missing_ok=True)
    if lines is not None:
        tables[run.corrections] = labels.applied
    for path, table in {**tables, run.problems: problems}.items():
        save_table(path, table)
    save_found(run.found, found)
    write_stamp(
        run.stamp("prepare"),
        inputs,
        [*tables, run.problems, run.found],
        cache=cache_path.name,
        sources=sources_digest(cache_path),
        folder=str(command.folder.absolute()),
        **borrowed,
        **({} if lines is None else {"corrections": inputs["corrections"]}),
    )
    say(f"prepare: {run.samples}, {run.problems} ({len(problems):,} rows)")


def weights_of(command: Command, samples: pd.DataFrame, classes: pd.DataFrame) -> dict[str, Any]:
    """Print where the initial weights are from, and whether they may know the images; return the facts.

    `samples` has the digests of the images. Nothing is returned for random weights. Raise InputError if the
    weights cannot be had.
    """
    recipe = command.recipe
    if not (recipe.pretrained or recipe.weights):
        return {}
    from foldsmith.models.weight_sources import describe_weights

    if command.model_by_weights:
        say(f"prepare: model={recipe.model}, which weights={recipe.weights} names")
    weights = describe_weights(recipe)
    say(f"prepare: weights: {in_words(weights)}")
    known = find_trained_images(Path(weights["file"]), samples["digest"])
    known = known or find_known_images(samples["path"], classes)
    if known:
        say(f"prepare: {known}")
    return {"weights": weights, "known_images": known}


def correct(command: Command, lines: pd.DataFrame | None, labelled: Labelled) -> Corrected | Labelled:
    """Return the labels with the corrections `lines`, and print how many there are; unchanged without any."""
    if lines is None:
        return labelled
    corrected = apply_corrections(command.corrections, lines, labelled)
    say(f"prepare: corrections of {command.corrections}: {describe_corrections(corrected.applied)}")
    return corrected


def inputs_of(
    competition: Competition, recipe: Recipe, lines: pd.DataFrame | None = None
) -> dict[str, object]:
    """Return the stage's inputs: image files, tables, the settings used here, and corrections if any."""
    tables = {path: competition.root / path for path in competition.catalog.paths}
    if competition.settings_path.is_file():
        tables[competition.settings_path.name] = competition.settings_path
    return {
        # written only where there are any, so that runs without them stay current
        **({} if lines is None else {"corrections": digest_of_corrections(lines)}),
        "images": listing_digest(competition.root, [*competition.train_images, *competition.test_images]),
        "other files": list(competition.other_files),
        "metric": competition.settings.metric,
        "tables": {name: digest_of_file(path) for name, path in tables.items()},
        "settings": [
            recipe.image_size,
            recipe.cache,
            recipe.max_unreadable,
            recipe.near_duplicates,
            cv2.__version__,
            *([recipe.channels] if recipe.channels > 3 else []),
        ],
    }


def read_labels_and_form(competition: Competition) -> tuple[Metadata, SubmissionForm]:
    """Return the labels and the form of the submission. Raise InputError if they cannot be read."""
    metadata = read_metadata(competition)
    task, cell_form = task_of(metadata.task, metadata.classes), metadata.target.cell_form
    return metadata, read_submission_form(competition, metadata.classes, task, cell_form)


def found_in(competition: Competition, metadata: Metadata, form: SubmissionForm) -> Found:
    """Return the roles of the competition's files and columns."""
    labels, target, settings = metadata.labels, metadata.target, competition.settings
    return Found(
        root=competition.unpacked.name if competition.unpacked else "",
        train_images=folders_of(competition.train_images),
        test_images=folders_of(competition.test_images),
        labels=labels.source,
        id_column=labels.id_column,
        label_columns=labels.columns if labels.id_column else (),
        sample=form.sample,
        test_list=form.test_list,
        task=metadata.task,
        metric=target.metric,
        submission=target.submission,
        separator=target.separator,
        positive=target.positive,
        group_column=settings.group_column,
        files=settings.files,
        evidence=[*competition.evidence, *metadata.notes, *form.notes],
    )


def is_decoded(run: RunPaths, competition: Competition) -> bool:
    """Return whether the run's cache is whole, and was decoded from the present bytes of the images."""
    cache, stamped = run_cache_path(run), load_json(run.stamp("prepare")).get("sources", "")
    return (
        is_whole(cache)
        and not changed_sources(cache, competition.root)
        # of a stamp of an older version nothing is known
        and stamped in ("", sources_digest(cache))
    )


def is_whole(cache_path: Path) -> bool:
    """Return whether the cache is complete and unchanged."""
    return is_cached(cache_path) and not changed_files(cache_path)


def decode(command: Command, root: Path, cache_path: Path, images: list[str]) -> PixelCache:
    """Return the cache of these images of `root`; build it if it is missing, one process at a time."""
    with wait_for_lock(cache_path.with_name(f".{cache_path.name}.lock"), "decodes these images"):
        replaced = changed_sources(cache_path, root)
        if is_whole(cache_path) and not replaced and not command.again:
            say(f"prepare: {cache_path} exists already")
            return open_cache(cache_path, root, command.recipe.image_size)
        if replaced:
            say(f"prepare: {len(replaced):,} image files were replaced by others of the same length and time "
                f"({first_of(replaced)}); all are decoded again")  # fmt: skip
        with progress("decoding", len(images), "images") as advance, collected_warnings() as warnings:
            cache = build_cache(cache_path, root, images, command.recipe.image_size, advance)
    streamed = "" if command.recipe.cache else " (index only; pixels are streamed from the files)"
    say(f"prepare: decoded {len(images):,} images into {cache_path}{streamed}")
    if warnings:
        say(f"prepare: the decoders warned {len(warnings):,} times of flaws that they tolerate; "
            f"they do not name the file (first: {warnings[0]})")  # fmt: skip
    return cache


def group_near_duplicates(cache: PixelCache, bits: int) -> list[str]:
    """Return for every cached image the path of its near-duplicate group's first image; empty without any."""
    with progress("near-duplicates", ORIENTATIONS * len(cache.index), "hashes") as advance:
        pairs = find_near_duplicates(cache.thumbnails, bits, advance)
    names = name_groups(join_pairs(pairs, len(cache.index)), list(cache.index["path"]))
    near = release_large(names, MAX_COPIES)
    similar = sum(map(bool, names)) - sum(map(bool, near))
    if similar:
        say(f"prepare: {similar:,} images are in groups of more than {MAX_COPIES} similar ones; "
            "they do not count as near-duplicates")  # fmt: skip
    return near


if __name__ == "__main__":
    run_main(main)
