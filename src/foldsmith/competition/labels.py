"""Read labels of every form into one table of samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from foldsmith.competition import class_folders, labels_json
from foldsmith.competition.class_folders import NameLabels
from foldsmith.competition.class_names import find_class_names
from foldsmith.competition.folder import Competition
from foldsmith.competition.groups import find_group_candidates, read_groups
from foldsmith.competition.label_tables import (
    SAMPLE,
    USUAL,
    LabelTable,
    candidate_tables,
    choose_table,
    find_columns,
    find_label_tables,
    read_label_rows,
)
from foldsmith.competition.roles import LABEL_COLUMNS, column
from foldsmith.competition.sample import Sample, find_sample
from foldsmith.competition.spellings import match_ids
from foldsmith.competition.subsets import folder_names, folder_subset
from foldsmith.competition.target import Target, categories_of, read_target
from foldsmith.errors import Entries, InputError, first_of
from foldsmith.natural_order import natural_key
from foldsmith.tasks import TASKS

CLASS_FOLDERS = ("folders", "train")  # values of `labels` for one folder per class; "train" is the older one
FILE_NAMES = "names"
FOLDER_SOURCE = "the folders under train/"
JSON_COLUMN = "category"
FEW_IMAGES = 4  # a folder with fewer on average may be a patient's


@dataclass(frozen=True)
class Labels:
    """The labels as text. `rows` has `path`, the label columns and `group`, in the order of the source.

    `source` names the label file or the folders, `path` where an error in them lies. `names` are the names
    of the classes by category, empty if nothing lists them.
    """

    source: str
    path: Path
    rows: pd.DataFrame
    columns: tuple[str, ...]
    names: dict[str, str]
    id_column: str = ""
    evidence: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Metadata:
    """The labelled training images.

    `samples` has `path`, `label` (class index), `class_name`, `category` (as the label file writes it) and
    `group`, in natural order of the path. `classes` has `label`, `category` and `class_name`, one row per
    class. `repeated` are the images named more than once, always with the same label. `target` is what
    is predicted and how it is submitted. `notes` are sentences on how the labels were found and read.
    """

    task: str
    source: str
    samples: pd.DataFrame
    classes: pd.DataFrame
    repeated: list[str]
    notes: list[str] = field(default_factory=list)
    labels: Labels | None = None
    target: Target | None = None


def read_metadata(competition: Competition) -> Metadata:
    """Read the labels of a competition folder. Raise InputError if they are incomplete or inconsistent."""
    labels, sample = read_labels(competition), find_sample(competition)
    cells = labels.rows[list(labels.columns)]
    asked = None if sample is None else sample.table.iloc[:, 1:]
    is_empty = (cells == "").any(axis=1)
    if is_empty.all():
        _refuse_empty(labels, cells)
    try:
        target = read_target(cells[~is_empty], labels.names, asked, competition.settings)
        if target.task != "multilabel" or len(labels.columns) > 1:
            _refuse_empty(labels, cells)
        rows = labels.rows[["path", "group"]].assign(category=list(categories_of(cells, target)))
    except InputError as error:
        named = str(error).startswith(str(labels.path))
        raise error if named else InputError(f"{labels.path}: {error}") from error
    encoded = TASKS[target.task].encode(rows, target.names, labels.path)
    notes = [*labels.evidence, *target.evidence]
    return Metadata(
        target.task, labels.source, encoded.samples, encoded.classes, encoded.repeated, notes, labels, target
    )


def _refuse_empty(labels: Labels, cells: pd.DataFrame) -> None:
    """Raise InputError if a label is empty, which only a set of labels may be."""
    for name in cells:
        empty = cells.index[cells[name] == ""]
        remedy = 'fill them in, or set task = "multilabel" in competition.toml for images without a label.'
        Entries(labels.path, len(cells), "line").refuse(empty, f"have an empty '{name}'", remedy)


def read_labels(competition: Competition) -> Labels:
    """Return the labels from the source that competition.toml names, or that the evidence speaks for."""
    sample = find_sample(competition)
    labels = _named_source(competition, sample) or _found_source(competition, sample)
    rows, evidence = read_groups(labels.rows, competition, labels.path)
    names, said = labels.names, []
    if not competition.settings.group_column:
        cells = rows.drop_duplicates("path").set_index("path")[list(labels.columns)].agg(" ".join, axis=1)
        evidence = find_group_candidates(competition, cells)
    if not names and len(labels.columns) == 1:
        names, said = find_class_names(competition, labels.source, set(rows[labels.columns[0]]))
    return Labels(
        labels.source,
        labels.path,
        rows,
        labels.columns,
        names,
        labels.id_column,
        [*labels.evidence, *evidence, *said],
    )


def _named_source(competition: Competition, sample: Sample | None) -> Labels | None:
    """Return the labels that `labels` in competition.toml names, or those of answer.json."""
    named = competition.settings.labels
    if named in CLASS_FOLDERS:
        return _from_folders(competition, sample)
    if named == FILE_NAMES:
        found = class_folders.read_file_names(competition.train_images)
        if found is None:
            raise InputError(
                f'{competition.settings_path}: labels is "{FILE_NAMES}", but the file names of the training '
                "images have no words of classes beside numbers, such as cat.0.jpg."
            )
        return _from_names(competition, found, "the file names under train/")
    if "{label}" in named:
        found = class_folders.read_pattern(competition.train_images, named, str(competition.settings_path))
        return _from_names(competition, found, FOLDER_SOURCE)
    if named:
        return _from_file(competition, _named_file(competition, named), sample)
    if "answer.json" in competition.catalog.paths:
        return _from_json(competition, ["answer.json"])
    return None


def _named_file(competition: Competition, name: str) -> str:
    """Return the file that `labels` in competition.toml names. Raise InputError if the folder has none."""
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and path.parts
    if not inside or not (competition.root / name).is_file():
        raise InputError(
            f"{competition.settings_path}: labels is '{name}', but {competition.root} has no such "
            "file; write "
            'the path of a file in it, "folders" or "names".'
        )
    return path.as_posix()


def _from_file(competition: Competition, path: str, sample: Sample | None) -> Labels:
    """Return the labels of one file, JSON with annotations or a table."""
    document = competition.catalog.documents.get(path)
    if PurePosixPath(path).suffix.lower() == ".json" and (
        document is None or labels_json.has_annotations(document)
    ):
        return _from_json(competition, [path])
    table = competition.catalog.read(path)
    if table is None:
        raise competition.catalog.fault(path) or InputError(f"{path} is no table.")
    columns = find_columns(path, table, competition, sample)
    return _from_tables(competition, [LabelTable(path, 0, columns)])


def _found_source(competition: Competition, sample: Sample | None) -> Labels:
    """Return the labels of the JSON, table, folders or names that fit. Raise InputError if two contradict."""
    documents = labels_json.find_label_documents(competition)
    if documents:
        return _from_json(competition, documents)
    tables = find_label_tables(competition, sample)
    try:
        folders = class_folders.read_class_folders(
            competition.train_images, _sample_words(sample), str(competition.settings_path)
        )
    except InputError:
        labelled = max((table.named for table in tables if table.columns), default=0)
        if (
            not class_folders.are_pieces(competition.train_images)
            or labelled < len(competition.train_images) / 2
        ):
            raise
        folders = None
    names = set() if folders is None else set(folders.labels.values())
    unlikely = len(names) <= 1 or all(map(class_folders.says_piece, names))  # one folder for all is no class
    if folders is None or (unlikely and tables):
        chosen = choose_table(competition, tables)
        if chosen:
            return _from_tables(competition, chosen)
        return _unlabelled(competition, sample, tables)
    return _beside_folders(competition, sample, folders, tables)


def _unlabelled(competition: Competition, sample: Sample | None, tables: Sequence[LabelTable]) -> Labels:
    """Return the labels in file names. Raise InputError for what is wrong with the likeliest label file."""
    for table in sorted(tables, key=lambda table: -table.named):
        if table.fault:
            raise table.fault
    names = class_folders.read_file_names(competition.train_images)
    if names is not None:
        return _from_names(competition, names, "the file names under train/")
    candidates = [*labels_json.faulty_documents(competition), *candidate_tables(competition, sample)]
    if candidates:
        return _from_file(competition, candidates[0], sample)
    raise InputError(_no_labels(competition))


def _no_labels(competition: Competition) -> str:
    return (
        f"{competition.folder} has no labels; add answer.json, a COCO-style JSON, a CSV with an id "
        "and a label "
        "column, one folder per class under train/, or file names such as cat.0.jpg."
    )


def _beside_folders(
    competition: Competition, sample: Sample | None, folders: NameLabels, tables: list[LabelTable]
) -> Labels:
    """Return the labels of folders or of a table beside them; a table that says the same is preferred.

    Raise InputError if a table contradicts the folders and nothing decides, and for a table that cannot be
    read: it may hold the labels, and folders must not become classes because of that.
    """
    strong = [table for table in tables if table.columns and table.columns.rank >= USUAL]
    strong = [table for table in strong if table.named >= len(folders.labels) / 2]
    if strong:
        chosen = choose_table(competition, strong)
        return _judge(competition, sample, folders, _from_tables(competition, chosen), chosen[0])
    for path in labels_json.faulty_documents(competition) + candidate_tables(competition, sample):
        fault = competition.catalog.fault(path)
        if fault and "/" not in path and not labels_json.is_valid(competition, path):
            raise InputError(
                f'{str(fault).rstrip(".")}; if it is not the label file, set labels = "folders" in '
                f"{competition.settings_path}."
            )
    _refuse_folders_of_ids(competition, sample, folders)
    labels = _from_names(competition, folders, FOLDER_SOURCE)
    return _noting_tables(competition, labels, tables)


def _refuse_folders_of_ids(competition: Competition, sample: Sample | None, folders: NameLabels) -> None:
    """Raise InputError if a table labels the folders, as those of patients: they are no classes."""
    names = set(folders.labels.values())
    asked_for = [] if sample is None else sample.table.columns[1:]
    wanted = {*LABEL_COLUMNS, *(name.strip().lower() for name in asked_for)}
    for path in candidate_tables(competition, sample):
        table = competition.catalog.read(path)
        cells = {} if table is None else {name: column(table, name) for name in dict.fromkeys(table.columns)}
        ids = [name for name, words in cells.items() if names <= set(words)]
        labels = [
            name
            for name, words in cells.items()
            if name not in ids and name.strip().lower() in wanted and words.nunique() < len(names)
        ]
        if ids and labels:
            raise InputError(
                f"{competition.root / path}: '{ids[0]}' names the folders of the training images (first: "
                f"{min(names, key=natural_key)}), and '{labels[0]}' labels them; write a row for each image "
                "in a folder, with its path as id; or, if the folders are the classes, set labels = "
                f'"folders" in {competition.settings_path}.'
            )


def _judge(
    competition: Competition, sample: Sample | None, folders: NameLabels, labels: Labels, table: LabelTable
) -> Labels:
    """Return the table's labels if the folders say the same, or where the folders are no classes.

    Raise InputError with both readings if they contradict each other.
    """
    said = labels.rows["path"].map(folders.labels)
    words = labels.rows[list(labels.columns)].agg(" ".join, axis=1)
    pairs = pd.DataFrame({"folder": said, "label": words}).dropna().drop_duplicates()
    if pairs["folder"].is_unique and pairs["label"].is_unique:
        same = (pairs["folder"] == pairs["label"]).all()
        how = "the folders say the same" if same else "each folder is one of its classes"
        return _noted(labels, f"{table.path} and the folders agree: {how}")
    if table.columns.rank >= SAMPLE or folders.pieces or _is_column(competition, table, labels, folders):
        return _noted(labels, f"the folders of the images are no classes: {table.path} labels the images")
    shown = [first_of(sorted(set(values), key=natural_key), 3) for values in (folders.labels.values(), words)]
    raise InputError(
        f"{competition.folder}: the folders of the training images ({shown[0]}) and {table.path} "
        f"({shown[1]}) "
        f'say different classes; set labels = "folders" or labels = "{table.path}" in '
        f"{competition.settings_path}."
    )


def _is_column(competition: Competition, table: LabelTable, labels: Labels, folders: NameLabels) -> bool:
    """Return whether a column of the label table, such as the patient, has the folder of every image."""
    frame = competition.catalog.read(table.path).loc[labels.rows.index]
    said = labels.rows["path"].map(folders.labels)
    others = [name for name in dict.fromkeys(frame.columns) if name not in labels.columns]
    return any((column(frame, name) == said).all() for name in others)


def _noted(labels: Labels, sentence: str) -> Labels:
    labels.evidence.append(sentence)
    return labels


def _noting_tables(competition: Competition, labels: Labels, tables: Sequence[LabelTable]) -> Labels:
    """Return the labels of folders with a note on the tables that name the same images.

    Raise InputError if numbered folders hold few images each, as those of patients do, and no table has
    them in a column.
    """
    tables = [table for table in tables if table.named >= len(labels.rows) / 2]
    if competition.settings.labels or not tables:
        return labels
    names, count = first_of([table.path for table in tables]), labels.rows[JSON_COLUMN].nunique()
    decide = (
        f'if it has the labels, set labels = "{tables[0].path}", id_column and label_columns in '
        f'{competition.settings_path}; if not, set labels = "folders" there'
    )
    few = count * FEW_IMAGES > len(labels.rows)
    numbered = labels.rows[JSON_COLUMN].str.contains(r"\d").all()
    if few and numbered and not any(_has(competition, table, labels) for table in tables):
        raise InputError(
            f"{competition.folder}: {count:,} numbered folders hold {len(labels.rows):,} training images, so "
            f"few each that they may be patients or objects and no classes, and {names} names the images "
            f"too; {decide}."
        )
    return _noted(
        labels, f"the folders under train/ are used as classes, but {names} names their images too; {decide}"
    )


def _has(competition: Competition, table: LabelTable, labels: Labels) -> bool:
    """Return whether a column of a table has all classes of the folders as its words."""
    frame, classes = competition.catalog.read(table.path), set(labels.rows[JSON_COLUMN])
    return any(classes <= set(column(frame, name)) for name in dict.fromkeys(frame.columns))


def _sample_words(sample: Sample | None) -> list[str]:
    """Return the words in the sample that may be classes: its columns, or the cells of its only one."""
    if sample is None or len(sample.table.columns) < 2:
        return []
    if len(sample.table.columns) > 2:
        return [name.strip() for name in sample.table.columns[1:]]
    return list(sample.table.iloc[:, 1].str.strip().unique())


def _from_folders(competition: Competition, sample: Sample | None) -> Labels:
    found = class_folders.read_class_folders(
        competition.train_images, _sample_words(sample), str(competition.settings_path)
    )
    if found is None:
        raise InputError(_no_labels(competition))
    return _from_names(competition, found, FOLDER_SOURCE)


def _from_names(competition: Competition, found: NameLabels, source: str) -> Labels:
    """Return labels that folders or file names say."""
    for name in ("id_column", "label_column", "label_columns"):
        value = getattr(competition.settings, name)
        if value:
            raise InputError(
                f"{competition.settings_path}: {name} is '{value}', but the labels are {source}, "
                "without columns; "
                'remove it, or name the label file: labels = "FILE".'
            )
    rows = pd.DataFrame({"path": list(found.labels), JSON_COLUMN: list(found.labels.values())})
    return Labels(source, competition.root / "train", rows, (JSON_COLUMN,), {}, "", [found.evidence])


def _from_json(competition: Competition, paths: Sequence[str]) -> Labels:
    """Return the labels of JSON files with annotations, of different images."""
    if competition.settings.target_columns:
        raise InputError(
            f"{competition.settings_path}: label_columns is "
            f"{first_of(competition.settings.target_columns)}, but "
            f'{paths[0]} has no columns; remove it, or name a table: labels = "FILE".'
        )
    frames, names = [], {}
    for path in paths:
        rows, listed = labels_json.read_json_labels(
            competition.root / path, competition.settings.group_column
        )
        rows["path"] = _resolve(competition.root / path, rows["name"], "annotation", competition)
        frames.append(rows.drop(columns="name"))
        names |= listed
    rows = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    source = " + ".join(paths)
    return Labels(source, competition.root / paths[0], rows, (JSON_COLUMN,), names)


def _from_tables(competition: Competition, tables: Sequence[LabelTable]) -> Labels:
    """Return the labels of tables with the same columns, of different images."""
    frames, evidence = [], []
    for entry in tables:
        table = competition.catalog.read(entry.path)
        rows = read_label_rows(entry.path, table, entry.columns, competition)
        rows, said = _without_test_images(rows, entry.path, competition)
        evidence += said
        rows["path"] = _resolve(competition.root / entry.path, rows["name"], "line", competition)
        frames.append(rows.drop(columns="name"))
        evidence.append(f"{entry.path}: {entry.columns.why}")
        if table.attrs.get("encoding", "UTF-8") != "UTF-8":
            evidence.append(f"{entry.path} is not UTF-8; it is read as {table.attrs['encoding']}")
        if entry.columns.others:
            evidence.append(
                f"{entry.path}: {first_of(entry.columns.others, 6)} could be labels too; "
                "label_columns decides"
            )
    columns = tables[0].columns
    rows = pd.concat(frames) if len(frames) > 1 else frames[0]
    stripped = {name: name.strip() for name in columns.label_columns}  # names of classes, as in `a.jpg, 1, 0`
    return Labels(
        " + ".join(entry.path for entry in tables),
        competition.root / tables[0].path,
        rows.rename(columns=stripped),
        tuple(stripped.values()),
        {},
        columns.id_column,
        evidence,
    )


def _without_test_images(
    rows: pd.DataFrame, path: str, competition: Competition
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows without those about test images that lie among the training images, and a sentence."""
    mixed = [image for image in competition.test_images if not folder_subset(image)]
    if not mixed:
        return rows, []
    train = match_ids(rows["name"], competition.train_images, competition.root / path)
    test = match_ids(rows["name"], mixed, competition.root / path)
    unused = [one is None and other is not None for one, other in zip(train, test, strict=True)]
    if not any(unused):
        return rows, []
    said = f"{sum(unused):,} rows of {path} label test images and are not used"
    return rows[[not skip for skip in unused]].copy(), [said]


def _resolve(path: Path, names: pd.Series, unit: str, competition: Competition) -> list[str]:
    """Return the image of every row; `names` are indexed by what `unit` counts.

    Raise InputError for names outside the folder, and for names without an image.
    """
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    outside = [row for row, relative in enumerate(paths) if relative.is_absolute() or ".." in relative.parts]
    images = match_ids(names, competition.train_images, path)
    missing = [row for row, image in enumerate(images) if image is None]
    train = competition.root / "train"
    for wrong, what, remedy in (
        (outside, "name a file outside train/", "name files inside it."),
        (missing, f"name an image that is not in {train}", _remedy(names, missing, competition)),
    ):
        example = f"'{names.iloc[wrong[0]]}'" if wrong else ""
        Entries(path, len(names), unit).refuse(names.index[wrong], what, remedy, example)
    return [image for image in images if image is not None]


def _remedy(names: pd.Series, missing: Sequence[int], competition: Competition) -> str:
    """Return what to do about names without an image: the nearest image, if one is near."""
    import difflib

    if not missing:
        return ""
    name = PurePosixPath(names.iloc[missing[0]]).name
    if name in folder_names(competition.train_images):
        return "it is a folder of images; write a row for each image in it, with its path as id."
    known = {PurePosixPath(image).name: image for image in competition.train_images}
    image, _, word = name.rpartition("_")
    if len(missing) == len(names) and image and match_ids([image], competition.train_images) != [None]:
        return (
            f"the ids are an image and a label ('{image}', '{word}'); write a row for each image, with a "
            "column for each label."
        )
    near = difflib.get_close_matches(name, list(known)[:20_000], n=1, cutoff=0.75)
    hint = f"the nearest image is {known[near[0]]}; " if near and len(missing) == len(names) else ""
    return f"{hint}add the images, or remove these rows."
