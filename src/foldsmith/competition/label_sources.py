"""Which source the labels come from: the one that competition.toml names, or that the evidence speaks for."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import pandas as pd

from foldsmith.competition import class_folders, labels_json
from foldsmith.competition.class_folders import NameLabels
from foldsmith.competition.folder import Competition
from foldsmith.competition.label_rows import (
    JSON_COLUMN,
    Labels,
    labels_of_json,
    labels_of_names,
    labels_of_tables,
)
from foldsmith.competition.label_tables import (
    ALIKE,
    SAMPLE,
    LabelTable,
    candidate_tables,
    choose_table,
    find_columns,
    find_label_tables,
    has_columns_of,
)
from foldsmith.competition.listing import folder_subset, subset_of
from foldsmith.competition.roles import (
    LABEL_COLUMNS,
    column,
    image_columns,
    images_of_rows,
    is_sample_name,
    is_test_name,
    joined_cells,
)
from foldsmith.competition.sample import Sample
from foldsmith.competition.spellings import Names
from foldsmith.competition.units import find_unit_table
from foldsmith.errors import InputError, first_of
from foldsmith.natural_order import natural_key

CLASS_FOLDERS = ("folders", "train")  # values of `labels` for one folder per class; "train" is the older one
FILE_NAMES = "names"
FOLDER_SOURCE = "the folders under train/"
NAME_SOURCE = "the file names under train/"
FEW_IMAGES = 4  # a folder with fewer on average may be a patient's


def named_source(competition: Competition, sample: Sample | None) -> Labels | None:
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
        return labels_of_names(competition, found, NAME_SOURCE)
    if "{label}" in named:
        found = class_folders.read_pattern(competition.train_images, named, str(competition.settings_path))
        return labels_of_names(competition, found, FOLDER_SOURCE)
    if named:
        return _from_file(competition, _named_file(competition, named), sample)
    if "answer.json" in competition.catalog.paths:
        return labels_of_json(competition, ["answer.json"])
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
        return labels_of_json(competition, [path])
    table = competition.catalog.read(path)
    if table is None:
        raise competition.catalog.fault(path) or InputError(f"{path} is no table.")
    columns = find_columns(path, table, competition, sample)
    return labels_of_tables(competition, [LabelTable(path, 0, columns)])


def found_source(competition: Competition, sample: Sample | None) -> Labels:
    """Return the labels of the JSON, table, folders or names that fit. Raise InputError if two contradict."""
    documents = labels_json.find_label_documents(competition)
    if documents:
        return labels_of_json(competition, documents)
    tables = find_label_tables(competition, sample)
    of_units = find_unit_table(competition, sample)
    best = max((table.columns.rank for table in tables if table.columns), default=0)
    if of_units and of_units[0].columns.rank > best and not _are_classes(competition, of_units[0], sample):
        labels = labels_of_tables(competition, of_units)
        if class_folders.folders_below(competition.train_images):
            other = f'labels = "folders" in {competition.settings_path} reads the folders as classes'
            labels = _noted(labels, other)
        return labels
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
    if folders is None or (unlikely and (tables or candidate_tables(competition, sample))):
        chosen = choose_table(competition, tables)
        if chosen:
            return labels_of_tables(competition, chosen)
        return _unlabelled(competition, sample, tables)
    return _with_validation(competition, folders, _beside_folders(competition, sample, folders, tables))


def _are_classes(competition: Competition, table: LabelTable, sample: Sample | None) -> bool:
    """Return whether the sample names the units of a table as classes."""
    ids = column(competition.catalog.read(table.path), table.columns.id_column)
    return bool(set(ids) & set(_sample_words(sample)))


def _unlabelled(competition: Competition, sample: Sample | None, tables: Sequence[LabelTable]) -> Labels:
    """Return the labels in file names. Raise InputError for what is wrong with the likeliest label file."""
    names = class_folders.read_file_names(competition.train_images)
    for table in sorted(tables, key=lambda table: -table.named):
        agreeing = "" if names is None else _agreeing_column(competition, table, names)
        if agreeing:
            said = f"the column '{agreeing}' of {table.path} says the same as the file names"
            return _noted(labels_of_names(competition, names, NAME_SOURCE), said)
        if table.fault:
            raise table.fault
    if names is not None:
        _refuse_faulty(competition, sample, "names")
        return labels_of_names(competition, names, NAME_SOURCE)
    asked_for = set() if sample is None else set(sample.table.columns[1:])
    likely = sorted(
        candidate_tables(competition, sample),
        key=lambda path: (
            not asked_for & set(_columns(competition, path)), subset_of(PurePosixPath(path).stem) != "train",
        ),
    )  # fmt: skip
    candidates = [*labels_json.faulty_documents(competition), *likely]
    if candidates:
        return _from_file(competition, candidates[0], sample)
    raise InputError(_no_labels(competition))


def _columns(competition: Competition, path: str) -> list[str]:
    """Return the columns of a table; none of a file that is no table."""
    table = competition.catalog.read(path)
    return [] if table is None else list(table.columns)


def _agreeing_column(competition: Competition, table: LabelTable, names: NameLabels) -> str:
    """Return the column of a table that names a class for each class in file names; empty if none does."""
    frame = competition.catalog.read(table.path)
    for ids in image_columns(frame, Names(competition.train_images))[:1]:
        images = images_of_rows(frame, ids, competition.train_images)
        said = [names.labels[image[0]] if image else None for image in images]
        for name in dict.fromkeys(frame.columns):
            pairs = pd.DataFrame({"said": said, "cell": list(column(frame, name))}).dropna().drop_duplicates()
            if pairs["said"].is_unique and pairs["cell"].is_unique and len(pairs) > 1:
                return name
    return ""


def _with_validation(competition: Competition, folders: NameLabels, labels: Labels) -> Labels:
    """Return the labels of class folders with those of validation images that a table labels.

    Such a table names them beside a column whose words are classes, as val_annotations.txt does.
    """
    known, classes = set(labels.rows["path"]), set(folders.labels.values())
    rest = [
        image for image in competition.train_images if image not in known and folder_subset(image) == "val"
    ]
    if not rest or labels.columns != (JSON_COLUMN,):
        return labels
    for path in candidate_tables(competition, competition.sample):
        table = competition.catalog.read(path)
        if table is None or table.empty:
            continue
        for ids in image_columns(table, Names(rest))[:1]:
            images = images_of_rows(table, ids, rest)
            for name in dict.fromkeys(table.columns):
                cells = column(table, name)
                if name != ids and set(cells) <= classes:
                    found = {image[0]: cell for image, cell in zip(images, cells, strict=True) if image}
                    more = pd.DataFrame({"path": list(found), JSON_COLUMN: list(found.values())})
                    said = f"{path} labels {len(found):,} of {len(rest):,} validation images by '{name}'"
                    rows = pd.concat([labels.rows, more], ignore_index=True)
                    return replace(labels, rows=rows, evidence=[*labels.evidence, said])
    said = (
        f"{len(rest):,} validation images lie in no class folder, and no table labels them: they are not used"
    )
    return _noted(labels, said)


def _no_labels(competition: Competition) -> str:
    """Return the message for images without labels, also where the labels are images of the same names."""
    folders = defaultdict(set)
    for image in competition.train_images:
        folders[PurePosixPath(image).name].add(PurePosixPath(image).parent.as_posix())
    pairs = [where for where in folders.values() if len(where) == 2]
    if 2 * len(pairs) > len(folders):
        one, other = sorted(pairs[0])
        return (
            f"{competition.folder} has no labels: {len(pairs):,} images of {one}/ and {other}/ have the same "
            "names, so that one may be what the other is turned into; foldsmith predicts labels and numbers "
            "of whole images."
        )
    aside = [path for path in competition.catalog.paths if is_sample_name(path) or is_test_name(path)]
    hint = (
        f" Not asked, as it is named like a sample submission or a list of test images: {first_of(aside)}; "
        f"if it holds the labels, set labels in {competition.settings_path}."
    )
    return (
        f"{competition.folder} has no labels; add answer.json, a COCO-style JSON, a CSV with an id and a "
        "label column, one folder per class under train/, or file names such as cat.0.jpg."
        f"{hint if aside else ''}"
    )


def _beside_folders(
    competition: Competition, sample: Sample | None, folders: NameLabels, tables: list[LabelTable]
) -> Labels:
    """Return the labels of folders or of a table beside them; a table that says the same is preferred.

    Raise InputError if a table contradicts the folders and nothing decides, and for a table that cannot be
    read: it may hold the labels, and folders must not become classes because of that.
    """
    ranked = [table for table in tables if table.columns and table.columns.rank >= ALIKE]
    strong = [
        table
        for table in ranked
        if 2 * sum(other.named for other in ranked if has_columns_of(other, table)) >= len(folders.labels)
    ]
    if strong:
        chosen = choose_table(competition, strong)
        labels = labels_of_tables(competition, chosen)
        if 2 * labels.rows["path"].isin(folders.labels).sum() >= len(folders.labels):
            return _judge(competition, folders, labels, chosen[0])
    _refuse_faulty(competition, sample, "folders")
    _refuse_folders_of_ids(competition, sample, folders)
    labels = labels_of_names(competition, folders, FOLDER_SOURCE)
    return _noting_tables(competition, labels, tables)


def _refuse_faulty(competition: Competition, sample: Sample | None, otherwise: str) -> None:
    """Raise InputError for a table that cannot be read and may hold the labels; not for one among the images.

    `otherwise` is the value of `labels` that reads them elsewhere.
    """
    of_images = {image.rpartition("/")[0] for image in competition.train_images}
    for path in labels_json.faulty_documents(competition) + candidate_tables(competition, sample):
        fault, folder = competition.catalog.fault(path), path.rpartition("/")[0]
        among = folder and any(f"{inner}/".startswith(f"{folder}/") for inner in of_images)
        if fault and not among and not labels_json.is_valid(competition, path):
            raise InputError(
                f'{str(fault).rstrip(".")}; if it is not the label file, set labels = "{otherwise}" in '
                f"{competition.settings_path}."
            )


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


def _judge(competition: Competition, folders: NameLabels, labels: Labels, table: LabelTable) -> Labels:
    """Return the table's labels if the folders say the same, or where the folders are no classes.

    Raise InputError with both readings if they contradict each other.
    """
    said = labels.rows["path"].map(folders.labels)
    words = joined_cells(labels.rows[list(labels.columns)])
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
    said = NameLabels(dict(zip(labels.rows["path"], labels.rows[JSON_COLUMN], strict=True)), "")
    tables = [
        table
        for table in tables
        if table.named >= len(labels.rows) / 2 and not _agreeing_column(competition, table, said)
    ]
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
    return labels_of_names(competition, found, FOLDER_SOURCE)
