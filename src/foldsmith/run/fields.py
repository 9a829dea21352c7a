"""The fields of a recipe in words, from the tables of docs/training-fields.md, their one description."""

import re
import textwrap
from pathlib import Path

from foldsmith.recipes.bounds import BOUNDS

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "training-fields.md"
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+) \| (weights|use) \|$")  # field, default, meaning, depends


def describe_fields() -> str:
    """Return every field with its default, its meaning, its valid values, and whether it changes weights."""
    lines: list[str] = []
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            lines += ["", line.removeprefix("## ")]
        elif row := ROW.match(line):
            field, default, meaning, depends = row.groups()
            meaning = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", meaning).replace("`", "")  # links as their text
            values = f". Valid: {BOUNDS[field].meaning}" if field in BOUNDS else ""
            use = ". May change on a finished run" if depends == "use" else ""
            lines.append(f"  {field} = {default.strip('`')}")
            lines.append(textwrap.indent(textwrap.fill(f"{meaning}{values}{use}", 92), "      "))
    followed = zip(lines, [*lines[1:], ""], strict=True)
    rows = [line for line, after in followed if line.startswith(" ") or not line or after.startswith(" ")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(rows)).strip()
