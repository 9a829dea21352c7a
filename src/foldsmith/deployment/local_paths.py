"""What is uploaded or handed on names no folder of this machine."""

import re
from typing import Any

# an absolute path, up to its last part; not within an address, and no fraction
FOLDERS = re.compile(r"(?<![\w:/.~-])/(?:[^\s/'\",;=()]+/)+")


def without_folders(value: Any) -> Any:
    """Return a JSON value in which every absolute path is its last part."""
    if isinstance(value, dict):
        return {key: without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_folders(entry) for entry in value]
    return FOLDERS.sub("", value) if isinstance(value, str) else value
