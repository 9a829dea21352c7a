"""The first word of a command: a competition folder. What is named instead by mistake is told."""

import os
from pathlib import Path

from foldsmith.errors import InputError, first_of, nearest_name

INPUT = Path("input")
DEMO = INPUT / "demo80"
COMMANDS = ("test", "study", "kaggle")  # of run.sh, in place of a folder
TABLES = (".csv", ".json", ".toml")


def competition_folder(typed: Path) -> Path:
    """Return the competition folder; `.` and `..` become absolute paths, which have a name.

    Raise InputError for a folder without a name, one that lies in INPUT, and one that holds competitions or
    runs.
    """
    folder = Path(os.path.abspath(typed)) if typed.name in ("", "..") else typed
    if not folder.name:
        raise InputError(f"{typed} has no name; write a competition folder, such as {DEMO}.")
    if not folder.is_dir() and (INPUT / folder).is_dir():
        raise InputError(f"{folder} is not a folder; did you mean {INPUT / folder}?")
    if runs := sorted(str(path.parent) for path in folder.glob("*/identity.json")):
        raise InputError(
            f"{folder} is no competition, it holds runs of one; name a run ({first_of(runs)}), or the "
            "competition folder."
        )
    if folder.is_dir() and INPUT.is_dir() and os.path.samefile(folder, INPUT) and (inner := competitions()):
        raise InputError(f"{folder} holds competitions; name one of them ({first_of(inner)}).")
    return folder


def competitions() -> list[str]:
    """Return the folders in INPUT that have tables, or settings, and folders of images.

    None if INPUT has a folder of training images, as a competition that was unpacked into it.
    """
    folders = [path for path in sorted(INPUT.iterdir()) if path.is_dir()]
    if any(folder.name.lower().startswith("train") for folder in folders):
        return []
    entries = {folder: list(folder.iterdir()) for folder in folders}
    return [
        str(folder)
        for folder, inside in entries.items()
        if any(path.suffix in TABLES for path in inside) and any(path.is_dir() for path in inside)
    ]


def check_only_word(folder: Path, second: str) -> None:
    """Raise InputError if a second word follows the first one, and is no option."""
    if second.startswith("-"):
        return
    if not folder.exists():
        nearest = nearest_name(str(folder), COMMANDS)
        hint = f"; did you mean ./run.sh {nearest} {second}?" if nearest else "."
        raise InputError(
            f"unexpected word '{second}': {folder} is neither a folder nor a command of ./run.sh{hint}"
        )
    raise InputError(f"two folders are named, {folder} and {second}; name one competition folder or run.")
