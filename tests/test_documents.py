"""The documents: length, links, and consistency with the files, recipes and fields that they name."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from foldsmith.recipes import RECIPES, Recipe, find_recipe
from foldsmith.recipes.recipe import override, use_fields
from foldsmith.recipes.studies import STUDIES
from foldsmith.report.page import SECTIONS
from foldsmith.tasks.metrics import METRICS

ROOT = Path(__file__).parents[1]
SRC, DOCS = ROOT / "src", ROOT / "docs"
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "RESULTS.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
# the log describes removed things; the other documents must be true today
CURRENT = [path for path in DOCUMENTS if path.name != "log.md"]
FIELDS = {field.name for field in fields(Recipe)} - {"name"}


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_of(path: Path) -> str:
    """Return the fenced blocks and inline code of a document, a line each."""
    text = text_of(path)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return "\n".join([*fenced, *(" ".join(piece.split()) for piece in inline)])


def anchors_of(path: Path) -> set[str]:
    """Return the anchors that Markdown renderers give the headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(text_of(README).splitlines()) <= 160


def test_every_relative_link_and_picture_exists() -> None:
    broken = []
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
            file, _, anchor = target.partition("#")
            if file.startswith(("http://", "https://")):
                continue
            found = (path.parent / file).resolve() if file else path
            if not found.is_file() or (anchor and anchor not in anchors_of(found)):
                broken.append(f"{path.name}: {target}")
    assert broken == []


def test_every_document_is_linked_from_the_readme() -> None:
    reached, ahead = set(), [README]
    while ahead:
        path = ahead.pop()
        if path in reached or path not in DOCUMENTS:
            continue
        reached.add(path)
        ahead += [
            (path.parent / file).resolve() for file in re.findall(r"\]\(([^)#\s]+\.md)\)", text_of(path))
        ]
    assert set(DOCUMENTS) - reached == set()


def test_every_mentioned_recipe_exists() -> None:
    table = text_of(README).split("## Recipes")[1].split("\n## ")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(.+?)`", row)
    }
    commands = {
        name for path in CURRENT for name in re.findall(r"--recipe ([a-z][\w-]*)(?= |$|\n)", code_of(path))
    }
    assert len(named) > 5 and len(commands) > 5
    assert sorted((named | commands) - set(RECIPES)) == []


def test_every_shipped_recipe_is_in_the_readme_or_a_row_of_a_study() -> None:
    studied = {recipe for study in STUDIES.values() for recipe in study.reported}
    assert [name for name in RECIPES if name not in studied and f"`{name}`" not in text_of(README)] == []
    assert [name for name in STUDIES if f"| `{name}` |" not in text_of(DOCS / "studies.md")] == []


def test_every_mentioned_script_exists() -> None:
    absent = [
        f"{path.name}: {script}"
        for path in CURRENT
        for script in re.findall(r"(?<![\w/])(?:src|tests)/[\w/]+\.py", code_of(path))
        if not (ROOT / script).is_file()
    ]
    assert absent == []


def test_the_tree_lists_exactly_the_packages() -> None:
    tree = text_of(README).split("## The tree")[1]
    packages = {path.parent.name for path in (SRC / "foldsmith").glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/ ", tree, re.MULTILINE)) == packages


def test_every_field_of_a_recipe_is_explained_with_its_default() -> None:
    text = text_of(DOCS / "training-fields.md")
    assert [name for name in sorted(FIELDS) if f"`{name}`" not in text] == []
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.*?) \| .+ \| (?:weights|use) \|$", text, re.MULTILINE)
    defaults = {
        name: default.strip('`"') for names, default in rows for name in re.findall(r"`(\w+)`", names)
    }
    assert len(defaults) > 50 and sorted(set(defaults) - FIELDS) == []
    base = Recipe(name="base")
    written = {name: default for name, default in defaults.items() if default != "()"}
    assert [name for name, value in written.items() if override(base, [f"{name}={value}"]) != base] == []
    assert [name for name in defaults if name not in written and getattr(base, name) != ()] == []


def test_fields_that_no_weight_depends_on_are_marked() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.+\| use \|$", text_of(DOCS / "training-fields.md"), re.MULTILINE)
    assert sorted(rows) == sorted(set(use_fields()) - {"name"})


def test_sections_of_the_report_and_metrics_are_listed() -> None:
    outputs = text_of(DOCS / "outputs.md")
    titles = [section.title for section in SECTIONS.values()]
    assert [title for title in titles if f"| {title} |" not in outputs] == []
    assert [name for name in METRICS if f"`{name}`" not in text_of(DOCS / "tasks.md")] == []


def test_settings_of_the_documents_can_be_set() -> None:
    unknown = {
        f"{path.name}: {field}"
        for path in CURRENT
        for field in re.findall(r"--set ([a-z_]+)=", code_of(path))
        if field not in FIELDS
    }
    assert unknown == set()


@pytest.mark.parametrize("document", [README, DOCS / "training-fields.md"], ids=lambda path: path.name)
def test_recipe_files_of_the_documents_are_recipes(document: Path, tmp_path: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", text_of(document), re.DOTALL | re.MULTILINE)
    assert examples
    for number, example in enumerate(examples):
        path = tmp_path / f"mine{number}.py"
        path.write_text(example)
        assert isinstance(find_recipe(str(path)), Recipe)


def test_every_file_that_contributors_are_sent_to_exists() -> None:
    named = re.findall(r"(?<![\w/.])[a-z]+/[a-z_]+\.py", code_of(ROOT / "CONTRIBUTING.md"))
    roots = (ROOT, SRC / "foldsmith")
    absent = [name for name in named if not any((root / name).is_file() for root in roots)]
    assert named and absent == []


def test_every_script_is_in_the_tree_and_no_other() -> None:
    line = " ".join(text_of(README).split("src/*.py")[1].split("src/foldsmith/")[0].split())
    named = set(re.findall(r"[a-z]+", line.removeprefix("the stages: "))) - {"all", "of", "them"}
    assert named == {path.stem for path in SRC.glob("*.py")}
