"""Label files of every form, read into one table of samples."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from foldsmith.competition import labels_csv, labels_json
from foldsmith.competition.folder import Competition, match_ids
from foldsmith.competition.label_form import LabelForm
from foldsmith.competition.labels_csv import tables_that_name
from foldsmith.errors import Entries, InputError, first_of
from foldsmith.tasks import SingleLabel

# the forms of label files; where files of several fit, those of the first form are taken
FORMS = (labels_json.FORM, labels_csv.FORM)
CLASS_FOLDERS = "train"  # what `labels` in competition.toml calls one folder a class


@dataclass(frozen=True)
class Metadata:
    """The labelled training images.

    `samples` has `path`, `label` (class index), `class_name`, `category` (as the label file writes it) and
    `group`, in natural order of the path; `classes` has `label`, `category`, `class_name`, one row a class;
    `repeated` are the images named more than once, always with the same label; `notes` are sentences on what
    was taken for the labels.
    """

    task: str
    source: str
    samples: pd.DataFrame
    classes: pd.DataFrame
    repeated: list[str]
    notes: list[str] = field(default_factory=list)


def read_metadata(competition: Competition) -> Metadata:
    """Read the labels of a competition folder. Raise InputError if they are not whole and consistent."""
    path = find_label_file(competition)
    notes: list[str] = []
    if path is None:
        path, source, names = competition.folder / "train", "the folders under train/", {}
        _refuse_settings(competition, "id_column", "label_column", "group_column")
        rows = _read_class_folders(competition)
        notes = [] if competition.settings.labels else _notes_on_folders(competition, list(rows["path"]))
    else:
        form, source = form_of(path), path.name
        _refuse_settings(competition, *form.unsupported)
        rows, names = form.read(path, competition)
        rows["path"] = _resolve(path, rows["name"], form.unit, competition)
    task = SingleLabel
    encoded = task.encode(rows, names, path)
    return Metadata(task.name, source, encoded.samples, encoded.classes, encoded.repeated, notes)


def form_of(path: Path) -> LabelForm:
    """Return the form of a label file by the end of its name; any other name is read as CSV."""
    return next((form for form in FORMS if path.suffix.lower() in form.suffixes), labels_csv.FORM)


def _notes_on_folders(competition: Competition, images: list[str]) -> list[str]:
    """Which tables name the images as well: those folders may be parts of a download, and no classes."""
    others = [path.name for path in tables_that_name(images, competition)]
    if not others:
        return []
    return [
        f"the folders under train/ are taken for the classes, but {first_of(others)} names their images too; "
        "if the labels stand there, write labels, id_column and label_column in "
        f'{competition.folder / "competition.toml"}, and else labels = "{CLASS_FOLDERS}"'
    ]


def find_label_file(competition: Competition) -> Path | None:
    """Return the label file: the one that settings name, answer.json, or the one that fits; None for folders.

    If no file fits and there are no class folders, return the first candidate: reading it says what is wrong.
    Raise InputError if several fit, or if a candidate beside class folders cannot be read.
    """
    folder, named = competition.folder, competition.settings.labels
    if named == CLASS_FOLDERS:
        return None
    if named:
        return _named_file(folder, named)
    if (folder / "answer.json").is_file():
        return folder / "answer.json"
    in_folders = len(_images_in_folders(competition))
    fitting = next(filter(None, (form.find(competition, in_folders) for form in FORMS)), [])
    if len(fitting) > 1:
        names = first_of([path.name for path in fitting])
        raise InputError(
            f"{folder} holds several label files ({names}); "
            f'write labels = "FILE" in {folder / "competition.toml"}.'
        )
    if fitting:
        return fitting[0]
    candidates = [(form, path) for form in FORMS for path in form.candidates(competition)]
    if not in_folders:
        return candidates[0][1] if candidates else None
    # a file that cannot be read may hold the labels: folders must not become classes because of that
    for form, path in candidates:
        form.parse(path)
    return None


def _named_file(folder: Path, name: str) -> Path:
    """Return the file that `labels` in competition.toml names. Raise InputError if the folder has none."""
    path = folder / name
    if PurePosixPath(name).name != name or not path.is_file():
        raise InputError(f"{folder / 'competition.toml'}: labels names '{name}', not a file in {folder}.")
    return path


def _refuse_settings(competition: Competition, *names: str) -> None:
    """Raises InputError for columns that competition.toml names and this form of labels has not."""
    for name in names:
        column = getattr(competition.settings, name)
        if column:
            raise InputError(
                f"{competition.folder / 'competition.toml'}: {name} names '{column}', but the labels are no "
                "CSV with columns; take it out, or give the labels as a CSV."
            )


def _images_in_folders(competition: Competition) -> list[str]:
    """The training images that lie in a folder under train/."""
    return [image for image in competition.train_images if image.count("/") > 1]


def _read_class_folders(competition: Competition) -> pd.DataFrame:
    images = _images_in_folders(competition)
    if not images:
        raise InputError(
            f"{competition.folder} has no labels: neither answer.json, nor a COCO-style JSON, nor a CSV with "
            "an id and a label column, nor one folder a class under train/."
        )
    return pd.DataFrame({"path": images, "category": [image.split("/")[1] for image in images], "group": ""})


def _resolve(path: Path, names: pd.Series, unit: str, competition: Competition) -> list[str]:
    """The image of every row; `names` are indexed by what `unit` counts.

    Raises InputError for names that leave the folder or name no image.
    """
    parts = [PurePosixPath(name.replace("\\", "/")) for name in names]
    leaving = [row for row, part in enumerate(parts) if part.is_absolute() or ".." in part.parts]
    images = match_ids(names, competition.train_images, path)
    missing = [row for row, image in enumerate(images) if image is None]
    train = competition.folder / "train"
    for wrong, what, remedy in (
        (leaving, "name a file outside train/", "name files inside it."),
        (missing, f"name an image that is not in {train}", "add the images, or remove these rows."),
    ):
        example = f"'{names.iloc[wrong[0]]}'" if wrong else ""
        Entries(path, len(names), unit).refuse(names.index[wrong], what, remedy, example)
    return [image for image in images if image is not None]
