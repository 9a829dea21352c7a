"""Read label files of every format into one table of samples."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from foldsmith.competition import labels_csv, labels_json
from foldsmith.competition.folder import Competition, match_ids
from foldsmith.competition.label_form import LabelForm
from foldsmith.competition.labels_csv import tables_that_name
from foldsmith.errors import Entries, InputError, first_of
from foldsmith.tasks import SingleLabel

# the formats of label files; if files of several formats fit, the first format wins
FORMS = (labels_json.FORM, labels_csv.FORM)
CLASS_FOLDERS = "train"  # the value of `labels` in competition.toml for one folder per class


@dataclass(frozen=True)
class Metadata:
    """The labelled training images.

    `samples` has `path`, `label` (class index), `class_name`, `category` (as the label file writes it) and
    `group`, in natural order of the path. `classes` has `label`, `category` and `class_name`, one row per
    class. `repeated` are the images named more than once, always with the same label. `notes` are sentences
    on which files or folders were used as labels.
    """

    task: str
    source: str
    samples: pd.DataFrame
    classes: pd.DataFrame
    repeated: list[str]
    notes: list[str] = field(default_factory=list)


def read_metadata(competition: Competition) -> Metadata:
    """Read the labels of a competition folder. Raise InputError if they are incomplete or inconsistent."""
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
    """Return the format of a label file by its suffix; CSV for an unknown suffix."""
    return next((form for form in FORMS if path.suffix.lower() in form.suffixes), labels_csv.FORM)


def _notes_on_folders(competition: Competition, images: list[str]) -> list[str]:
    """Return a note if a table names the images as well.

    The folders may then be the pieces of a download rather than classes.
    """
    others = [path.name for path in tables_that_name(images, competition)]
    if not others:
        return []
    return [
        f"the folders under train/ are used as classes, but {first_of(others)} names their images too; if it "
        "has the labels, set labels, id_column and label_column in "
        f'{competition.folder / "competition.toml"}; if not, set labels = "{CLASS_FOLDERS}" there'
    ]


def find_label_file(competition: Competition) -> Path | None:
    """Return the label file: the one that settings name, answer.json, or the one that fits.

    Return None for class folders. If no file fits and there are no class folders, return the first candidate:
    reading it reports what is wrong. Raise InputError if several files fit, or if a candidate beside class
    folders cannot be read.
    """
    folder, named = competition.folder, competition.settings.labels
    if named == CLASS_FOLDERS:
        return None
    if named:
        return _named_file(folder, named)
    if (folder / "answer.json").is_file():
        return folder / "answer.json"
    in_folders = len(_images_in_folders(competition))
    return _fitting_file(competition, in_folders) or _unfitting_file(competition, in_folders)


def _fitting_file(competition: Competition, in_folders: int) -> Path | None:
    """Return the file that labels the training images, or None. Raise InputError if there are several."""
    folder = competition.folder
    fitting = next(filter(None, (form.find(competition, in_folders) for form in FORMS)), [])
    if len(fitting) > 1:
        names = first_of([path.name for path in fitting])
        raise InputError(
            f"{folder} has several label files ({names}); "
            f'set labels = "FILE" in {folder / "competition.toml"}.'
        )
    return fitting[0] if fitting else None


def _unfitting_file(competition: Competition, in_folders: int) -> Path | None:
    """Return the first candidate where no file fits, or None where there are class folders or no candidates.

    Raise InputError if a candidate beside class folders cannot be read: it may hold the labels, and folders
    must not become classes because of that.
    """
    candidates = [(form, path) for form in FORMS for path in form.candidates(competition)]
    if not in_folders:
        return candidates[0][1] if candidates else None
    for form, path in candidates:
        form.parse(path)
    return None


def _named_file(folder: Path, name: str) -> Path:
    """Return the file that `labels` in competition.toml names. Raise InputError if the folder has none."""
    path = folder / name
    if PurePosixPath(name).name != name or not path.is_file():
        raise InputError(
            f"{folder / 'competition.toml'}: labels is '{name}', but {folder} has no such file; "
            "write the name of a file there."
        )
    return path


def _refuse_settings(competition: Competition, *names: str) -> None:
    """Raise InputError if competition.toml sets a column and the labels have no columns."""
    for name in names:
        column = getattr(competition.settings, name)
        if column:
            raise InputError(
                f"{competition.folder / 'competition.toml'}: {name} is '{column}', but the labels are not a "
                "CSV with columns; remove it, or provide the labels as a CSV."
            )


def _images_in_folders(competition: Competition) -> list[str]:
    """Return the training images in folders under train/."""
    return [image for image in competition.train_images if image.count("/") > 1]


def _read_class_folders(competition: Competition) -> pd.DataFrame:
    """Return one row per image in a class folder. Raise InputError if there is none."""
    images = _images_in_folders(competition)
    if not images:
        raise InputError(
            f"{competition.folder} has no labels; add answer.json, a COCO-style JSON, a CSV with an id and a "
            "label column, or one folder per class under train/."
        )
    return pd.DataFrame({"path": images, "category": [image.split("/")[1] for image in images], "group": ""})


def _resolve(path: Path, names: pd.Series, unit: str, competition: Competition) -> list[str]:
    """Return the image of every row; `names` are indexed by what `unit` counts.

    Raise InputError for names outside the folder, and for names without an image.
    """
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    outside = [row for row, relative in enumerate(paths) if relative.is_absolute() or ".." in relative.parts]
    images = match_ids(names, competition.train_images, path)
    missing = [row for row, image in enumerate(images) if image is None]
    train = competition.folder / "train"
    for wrong, what, remedy in (
        (outside, "name a file outside train/", "name files inside it."),
        (missing, f"name an image that is not in {train}", "add the images, or remove these rows."),
    ):
        example = f"'{names.iloc[wrong[0]]}'" if wrong else ""
        Entries(path, len(names), unit).refuse(names.index[wrong], what, remedy, example)
    return [image for image in images if image is not None]
