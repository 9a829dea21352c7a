"""What was found in a competition folder: the role of every file and column, and by which evidence."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from foldsmith.errors import InputError
from foldsmith.process.files import load_json, save_json
from foldsmith.tasks.task import CellForm


@dataclass(frozen=True)
class Found:
    """The roles in a competition folder, as found.json holds them.

    `root` is the folder in the cache that archives were unpacked into; empty if the competition folder itself
    holds the images. `train_images` and `test_images` are the folders of the images and their number.
    `labels` is the label file below the root (several are joined by " + "), or says that the folders or the
    names of the files are. `test_list` is the table that maps the sample's ids to test images, if they are
    not the names of images. `evidence` is one sentence a fact.
    """

    root: str
    train_images: dict[str, int]
    test_images: dict[str, int]
    labels: str
    id_column: str = ""
    label_columns: tuple[str, ...] = ()
    sample: str = ""
    test_list: str = ""
    task: str = "multiclass"
    metric: str = "accuracy"
    separator: str = ""
    positive: str = ""
    submission: str = ""
    group_column: str = ""
    files: tuple[str, ...] = ()
    evidence: list[str] = field(default_factory=list)

    @property
    def cell_form(self) -> CellForm:
        """Return what the cells of the submission hold."""
        return CellForm(self.submission, self.separator or " ", self.metric)


def save_found(path: Path, found: Found) -> None:
    save_json(path, asdict(found))


def load_found(path: Path) -> Found:
    """Load found.json. Raise InputError if it is missing or of another version."""
    if not path.is_file():
        raise InputError(f"{path} is missing; run src/prepare.py (or ./run.sh) again.")
    values = load_json(path)
    if not isinstance(values, dict) or set(values) != {entry.name for entry in fields(Found)}:
        raise InputError(f"{path} is of another version; run src/prepare.py (or ./run.sh) again.")
    lists = ("label_columns", "files")
    return Found(**{key: tuple(value) if key in lists else value for key, value in values.items()})


def explain(found: Found) -> list[str]:
    """Return what was found in a few lines."""

    def counted(folders: dict[str, int]) -> str:
        listed = [f"{folder or 'the folder itself'} ({count:,})" for folder, count in folders.items()]
        return ", ".join(listed[:4]) + (f", … ({sum(folders.values()):,} in all)" if len(listed) > 4 else "")

    columns = ", ".join(found.label_columns[:8]) + (", …" if len(found.label_columns) > 8 else "")
    by = f", column{'s' if len(found.label_columns) > 1 else ''} {columns}" if columns else ""
    by += f", ids in {found.id_column}" if found.id_column else ""
    lines = [
        f"training images: {counted(found.train_images)}",
        f"test images: {counted(found.test_images)}",
        f"labels: {found.labels}{by}",
        f"task: {found.task}, metric: {found.metric}",
        f"submission: {found.submission or 'labels'}"
        + (f", as {found.sample}" if found.sample else ", without a sample"),
    ]
    if found.group_column:
        lines.append(f"groups: {found.group_column}")
    return [*lines, *found.evidence]
