"""Hypothesis strategies for contests of every form of submission, of which one table is mutated."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st
from mutants import EITHER, READ, REFUSED, STRANGE_IDS, Case, Draw, damage_bytes, table_of
from plain_readers import Form

LABELS, SAMPLE, TEST_LIST = "train.csv", "sample_submission.csv", "test.csv"
WORDS = ["cat", "dog", "eel", "fox", "gnu", "hen"]
SPACED = ["sea lion", "polar bear", "eel", "red fox", "gnu", "hen"]
TAG_WORDS = [["haze", "primary", "water", "road"], ["0", "3", "7", "16"], SPACED[:4]]
TAGS = [(0,), (1,), (0, 1), (0, 2), (1, 2), (2,), (3,), (0, 3), (1, 3), (0, 1, 2), (0,), (1,)]
NUMBERS = ["3", "3.50", "-0.75", "12.25", "+2.5", "1e1", "0.125", "7", "8.5", "41", "5.75", "6.5"]
ODD_CELLS = [
    "", " ", "nan", "None", "0", "1", "2", "-1", "0.5", "1.5", "abc", "1e400", "inf", "1,5", "cat", "CAT",
    "a b", "a|b", "0.png", "99.png", "\x1b[2J", "=1+1", "True", "1.0", "01", "٣", "²", "1_000", "0x10",
    "a\nb", "é", "-", "0 1", "cat dog", "\ufeff",
]  # fmt: skip


@dataclass
class Table:
    """A table before it is written: header and rows."""

    header: list[str]
    rows: list[list[str]]


@dataclass
class Contest:
    """A contest before it is mutated: label cells and sample cells of the images 0 … 11, without ids.

    `free` says that the label table may have further columns. `unknown` is a word that is no class, in a
    row of the sample that has others; empty where any word may be a placeholder.
    """

    form: Form
    labels: Table
    sample: Table
    settings: dict[str, str] = field(default_factory=dict)
    free: bool = True
    unknown: str = ""


@dataclass(frozen=True)
class ContestCase(Case):
    """A mutated file of a contest, `name`, with the contest's other files and its form."""

    others: tuple[tuple[str, bytes], ...] = ()
    form: Form | None = None

    @property
    def files(self) -> dict[str, bytes]:
        return {**dict(self.others), self.name: self.content}


# --- contests by form
def binary_probability(draw: Draw) -> Contest:
    no, yes, label, asked = draw(st.sampled_from([
        ("0", "1", "label", "label"), ("0", "1", "has_cactus", "has_cactus"), ("0.0", "1.0", "target", "p"),
        ("False", "True", "target", "target"), ("no", "yes", "label", "label"),
        ("cat", "dog", "label", "is_dog"),
        ("normal", "tumor", "label", "label"), ("healthy", "sick", "class", "prediction"),
    ]))  # fmt: skip
    cells = [[no if index % 3 else yes] for index in range(12)]
    settings, shown = {}, draw(st.sampled_from(["0.5", "0", "1", "0.0", "0.375", ""]))
    sample = [[shown or f"0.{index}"] for index in range(12)]
    if draw(st.booleans()):
        settings = {"task": "binary", "submission": "probabilities"}
        settings["positive"] = yes = draw(st.sampled_from([no, yes]))
        sample = draw(st.sampled_from([sample, [[str(index % 2)] for index in range(12)]]))
    form = Form("binary", "probability", (label,), positive=yes)
    return Contest(form, Table([label], cells), Table([asked], sample), settings)


def binary_label(draw: Draw) -> Contest:
    pair = draw(st.sampled_from([("0", "1"), ("no", "yes"), ("cat", "dog"), ("normal", "tumor")]))
    spelled = {"0": [pair, ("False", "True"), ("0.0", "1.0")], "no": [pair, ("No", "Yes")]}
    words = draw(st.sampled_from(spelled.get(pair[0], [pair])))
    sample = [[words[index % 2]] for index in range(12)]
    task, settings = "multiclass", {}
    if draw(st.booleans()):
        task, settings = "binary", {"task": "binary", "submission": "labels"}
        if words == pair:
            sample = [[draw(st.sampled_from(words))]] * 12
    label = draw(st.sampled_from(["label", "target", "has_cactus"]))
    labels = Table([label], [[pair[index % 3 > 0]] for index in range(12)])
    several = len({row[0] for row in sample}) > 1 and not pair[0].isdigit()
    form = Form(task, "label", (label,))
    return Contest(form, labels, Table([label], sample), settings, unknown="yak" if several else "")


def tags(draw: Draw) -> Contest:
    words = draw(st.sampled_from(TAG_WORDS))
    apart = draw(st.sampled_from([",", ";", "|", " "] if words != TAG_WORDS[2] else [",", ";", "|"]))
    lead = draw(st.sampled_from(["", " "])) if apart != " " else ""
    cells = [[(apart + lead).join(draw(st.permutations([words[tag] for tag in own])))] for own in TAGS]
    settings = draw(st.sampled_from([{}, {"task": "multilabel"}, {"label_separator": apart}]))
    if draw(st.booleans()):
        cells[draw(st.integers(0, 11))] = [""]
    elif draw(st.booleans()):
        cells = [["[" + ", ".join(f"'{words[tag]}'" for tag in own) + "]"] for own in TAGS]
        settings = {"task": "multilabel"} if settings else {}
    shown = draw(st.sampled_from(["sets", "one set", "one tag", ""]))
    between = apart if words == TAG_WORDS[2] else draw(st.sampled_from([apart, " ", ",", "|"]))
    sample = [[between.join(words[tag] for tag in TAGS[index])] for index in range(12)]
    if shown != "sets":
        sample = [[{"one set": between.join(words[:3]), "one tag": words[1], "": ""}[shown]]] * 12
    form = Form("multilabel", "set", ("tags",), separator=apart, between=between)
    return Contest(form, Table(["tags"], cells), Table(["tags"], sample), settings,
                   unknown="yak" if shown == "sets" else "")  # fmt: skip


def ranked(draw: Draw) -> Contest:
    words = draw(st.sampled_from([WORDS, SPACED, ["0", "1", "2", "3", "4", "5"]]))
    apart = draw(st.sampled_from([" ", ",", "|"])) if words != SPACED else draw(st.sampled_from([",", "|"]))
    labels = Table(["label"], [[words[index % 6]] for index in range(12)])
    settings, length, least = {}, draw(st.integers(2, 5)), 1
    sample = [[apart.join(draw(st.permutations(words))[:length])] for _ in range(12)]
    unknown = "yak"
    how = draw(st.sampled_from(["lists", "uneven", "placeholders", "spelled", "metric", "submission"]))
    if how == "uneven":
        for row in sample[1:]:
            row[0] = apart.join(row[0].split(apart)[: draw(st.integers(1, length))])
    elif how == "placeholders" and words != SPACED:
        length, unknown, apart = max(length, 3), "", " "
        sample = [[" ".join(f"w_{number}" for number in range(length))] for _ in range(12)]
    elif how == "spelled" and words == WORDS:
        length, unknown, apart = max(length, 3), "", " "
        sample = [[" ".join(word.upper() for word in words[:length])] for _ in range(12)]
    elif how == "metric":
        settings, unknown, least = {"metric": f"map_at_{length}"}, "", length
        sample = [[words[0]] for _ in range(12)]
    elif how == "submission":
        settings, least = {"submission": "ranked"}, 5
    form = Form("multiclass", "ranked", ("label",), between=apart, length=least)
    return Contest(form, labels, Table(["label"], sample), settings, unknown=unknown)


def class_columns(draw: Draw) -> Contest:
    count = draw(st.integers(2, 5))
    words = draw(st.sampled_from([WORDS[:count], SPACED[:count], list("01234")[:count]]))
    hot = draw(st.booleans())
    labels = Table(["label"], [[words[index % count]] for index in range(12)])
    if hot:
        one, zero = draw(st.sampled_from([("1", "0"), ("1.0", "0.0")]))
        own = draw(st.permutations(words))
        rows = [[one if words[index % count] == word else zero for word in own] for index in range(12)]
        labels = Table(list(own), rows)
    shown = draw(st.sampled_from(["0.3333", "0", "1", "0.5", "hot"]))
    asked = draw(st.permutations(words))
    prefix = draw(st.sampled_from(["", "prob_", "class_"]))
    sample = [[shown if shown != "hot" else str(int(at == index % count)) for at in range(count)]
              for index in range(12)]  # fmt: skip
    settings = draw(st.sampled_from([{}, {"task": "multiclass", "submission": "probabilities"}]))
    form = Form("multiclass", "exclusive", tuple(labels.header))
    return Contest(
        form, labels, Table([prefix + word for word in asked], sample), settings, not (hot and prefix)
    )


def independent_columns(draw: Draw) -> Contest:
    words = draw(st.sampled_from([WORDS[:4], ["0", "1", "2", "3"], ["any", "subdural", "a b", "c"]]))
    own, asked = draw(st.permutations(words)), draw(st.permutations(words))
    zero, one = draw(st.sampled_from([("0", "1"), ("0.0", "1.0"), ("False", "True"), ("no", "yes")]))
    flags = [[one if words.index(word) in TAGS[index] else zero for word in own] for index in range(12)]
    labels = Table(list(own), flags)
    shown = draw(st.sampled_from(["0.5", "0", "1", "0.25", "mixed"]))
    settings, kind = {}, "flags" if shown == "mixed" else "columns"
    sample = [
        [shown if shown != "mixed" else str((index + at) % 2) for at in range(4)] for index in range(12)
    ]
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["flags", "columns"] if shown in ("0", "1", "mixed") else ["columns"]))
        settings = {"task": "multilabel", "submission": "labels" if kind == "flags" else "probabilities"}
    form = Form("multilabel", kind, tuple(own))
    return Contest(form, labels, Table(list(asked), sample), settings)


def tags_as_columns(draw: Draw) -> Contest:
    contest = tags(draw)
    cells = " ".join(row[0] for row in contest.labels.rows)
    words = next(words for words in TAG_WORDS if all(word in cells for word in words))
    sample = Table(draw(st.permutations(words)), [["0.5"] * 4 for _ in range(12)])
    form = Form("multilabel", "columns", ("label",), separator=contest.form.separator)
    return Contest(form, Table(["label"], contest.labels.rows), sample, contest.settings)


def ordinal(draw: Draw) -> Contest:
    count, header = draw(st.integers(3, 6)), draw(st.sampled_from(["diagnosis", "grade", "severity"]))
    start = draw(st.integers(0, 1))
    grades = [str(start + grade) for grade in range(count)]
    settings = draw(st.sampled_from([{}, {"task": "ordinal"}]))
    if settings:
        header = draw(st.sampled_from([header, "label"]))
    spelled = draw(st.sampled_from(["{}", "{}.0"]))
    cells = [[spelled.format(grades[0])]] * 12
    if draw(st.booleans()):
        cells = [[spelled.format(grades[index % count])] for index in range(12)]
    labels, sample = Table([header], [[grades[index % count]] for index in range(12)]), Table([header], cells)
    kind = "label"
    if draw(st.integers(0, 3)) == 0:
        kind, settings = "exclusive", {"task": "ordinal", "submission": "probabilities"}
        sample = Table(list(draw(st.permutations(grades))), [["0"] * count for _ in range(12)])
    return Contest(Form("ordinal", kind, (header,)), labels, sample, settings)


def number(draw: Draw) -> Contest:
    label, asked = draw(
        st.sampled_from([("price", "price"), ("age", "age"), ("target", "y"), ("label", "label")])
    )
    values = draw(st.permutations(NUMBERS))
    settings = draw(st.sampled_from([{}, {"task": "regression"}, {"metric": "rmse"}]))
    if settings and draw(st.booleans()):
        values = [str(10 + index // 2) for index in range(12)]
    shown = draw(st.sampled_from(["0", "0.0", "0.5", "12.5", ""]))
    sample = [[shown or f"{index}.5"] for index in range(12)]
    form = Form("regression", "values", (label,))
    return Contest(form, Table([label], [[value] for value in values]), Table([asked], sample), settings)


def numbers(draw: Draw) -> Contest:
    names = draw(st.sampled_from([["x", "y"], ["valence", "arousal", "age"], ["d1", "d2"]]))
    own, asked = draw(st.permutations(names)), draw(st.permutations(names))
    values = draw(st.permutations(NUMBERS))
    rows = [[values[(index + 5 * at) % 12] for at in range(len(names))] for index in range(12)]
    shown = draw(st.sampled_from(["0", "0.0", "12.5"]))
    settings = draw(st.sampled_from([{}, {"task": "regression"}, {"submission": "values"}]))
    form = Form("regression", "values", tuple(own))
    return Contest(form, Table(list(own), rows), Table(list(asked), [[shown] * len(names)] * 12), settings)


FORMS: dict[str, Callable[[Draw], Contest]] = {
    "one probability": binary_probability,
    "one of two labels": binary_label,
    "sets in a cell": tags,
    "ranked lists": ranked,
    "a column a class": class_columns,
    "0/1 columns": independent_columns,
    "sets as columns": tags_as_columns,
    "grades": ordinal,
    "one number": number,
    "several numbers": numbers,
}


# --- mutations: harmful ones return what the error message must name, None where they do not apply
def longer_row(draw: Draw, contest: Contest, table: Table) -> str | None:
    draw(st.sampled_from(table.rows)).append("more")
    return "line"


def shorter_row(draw: Draw, contest: Contest, table: Table) -> str | None:
    draw(st.sampled_from(table.rows)).pop()
    return "line"


def strange_id(draw: Draw, contest: Contest, table: Table) -> str | None:
    at = table.header.index(id_of(table))
    odd = [name for name in STRANGE_IDS if name not in {row[at] for row in table.rows}]
    draw(st.sampled_from(table.rows))[at] = draw(st.sampled_from(odd))
    return ""


def no_rows(draw: Draw, contest: Contest, table: Table) -> str | None:
    table.rows.clear()
    return ""


def no_header(draw: Draw, contest: Contest, table: Table) -> str | None:
    table.header = table.rows.pop(0)
    return ""


def only_ids(draw: Draw, contest: Contest, table: Table) -> str | None:
    at = table.header.index(id_of(table))
    table.header, table.rows = [table.header[at]], [[row[at]] for row in table.rows]
    return ""


def contradiction(draw: Draw, contest: Contest, table: Table) -> str | None:
    row, names = list(draw(st.sampled_from(table.rows))), contest.labels.header
    ats = [table.header.index(name) for name in names]
    truths = [contest.form.truth([own[at] for at in ats], names) for own in (row, *table.rows)]
    others = [own for own, truth in zip(table.rows, truths[1:], strict=True) if truth != truths[0]]
    other = draw(st.sampled_from(others))
    for at in ats:
        row[at] = other[at]
    table.rows.append(row)
    return "train/"


def all_alike(draw: Draw, contest: Contest, table: Table) -> str | None:
    if contest.form.task == "multilabel":
        return None
    for name in contest.labels.header:
        at = table.header.index(name)
        for row in table.rows[1:]:
            row[at] = table.rows[0][at]
    return ""


def repeated_header(draw: Draw, contest: Contest, table: Table) -> str | None:
    table.header[table.header.index(draw(st.sampled_from(contest.labels.header)))] = id_of(table)
    return ""


def empty_label(draw: Draw, contest: Contest, table: Table) -> str | None:
    if contest.form.task == "multilabel" and len(contest.labels.header) == 1:
        return None
    at = table.header.index(draw(st.sampled_from(contest.labels.header)))
    draw(st.sampled_from(table.rows))[at] = draw(st.sampled_from(["", " ", "\t"]))
    return ""


def no_number(draw: Draw, contest: Contest, table: Table) -> str | None:
    if contest.form.task != "regression" and len(contest.labels.header) == 1:
        return None
    at = table.header.index(draw(st.sampled_from(contest.labels.header)))
    odd = ["abc", "nan", "inf", "1e400", "1,5", "-", "None", "1_0", "0x10"]
    draw(st.sampled_from(table.rows))[at] = draw(st.sampled_from(odd))
    return ""


def repeated_id(draw: Draw, contest: Contest, table: Table) -> str | None:
    table.rows.append(list(draw(st.sampled_from(table.rows))))
    return "line"


def unknown_label(draw: Draw, contest: Contest, table: Table) -> str | None:
    if contest.form.kind in ("exclusive", "columns", "flags") or len(table.header) > 2:
        table.header[draw(st.integers(1, len(table.header) - 1))] = "yak"
    elif contest.unknown:
        draw(st.sampled_from(table.rows))[1] = contest.unknown
    else:
        return None
    return ""


def repeated_column(draw: Draw, contest: Contest, table: Table) -> str | None:
    if len(table.header) == 2:
        return None
    first, second = draw(st.permutations(range(1, len(table.header))))[:2]
    table.header[first] = table.header[second]
    return ""


def lost_column(draw: Draw, contest: Contest, table: Table) -> str | None:
    if contest.form.kind != "exclusive" or len(table.header) == 3:  # of two classes one column is enough
        return None
    at = draw(st.integers(1, len(table.header) - 1))
    for row in (table.header, *table.rows):
        row.pop(at)
    return ""


def ids_last(draw: Draw, contest: Contest, table: Table) -> str | None:
    table.header, table.rows = table.header[::-1], [row[::-1] for row in table.rows]
    return ""


def lost_row(draw: Draw, contest: Contest, table: Table) -> str | None:
    table.rows.pop(draw(st.integers(0, 11)))
    return ""


HARMFUL = {
    LABELS: (longer_row, shorter_row, strange_id, no_rows, no_header, only_ids, contradiction, all_alike,
             repeated_header, empty_label, no_number),
    SAMPLE: (longer_row, shorter_row, strange_id, no_rows, no_header, only_ids, repeated_id, unknown_label,
             repeated_column, lost_column, ids_last),
    TEST_LIST: (longer_row, shorter_row, strange_id, lost_row),
}  # fmt: skip


def id_of(table: Table) -> str:
    return next(name for name in ("image", "id", "Id") if name in table.header)


def widen(draw: Draw, table: Table) -> None:
    """Add a column of no interest, and put the columns in another order."""
    if draw(st.booleans()):
        table.header, table.rows = [*table.header, "width"], [[*row, "300"] for row in table.rows]
    order = draw(st.permutations(range(len(table.header))))
    table.header, table.rows = (
        [table.header[at] for at in order],
        [[row[at] for at in order] for row in table.rows],
    )


def shuffle(draw: Draw, table: Table) -> None:
    draw(st.randoms(use_true_random=False)).shuffle(table.rows)


def names_of(draw: Draw, subset: str) -> list[str]:
    """Return the images 0 … 11 of train or test as a table may spell them."""
    form = draw(st.sampled_from(["{}.png", "{}", f"{subset}/{{}}.png", "./{}.png", "{}.PNG", "{}.jpg"]))
    return [form.format(index) for index in range(12)]


def tables_of(draw: Draw, contest: Contest) -> dict[str, Table]:
    """Return the contest's tables with ids, in one of the usual ways to write them."""
    train, test = (names_of(draw, subset) for subset in ("train", "test"))
    listed = draw(st.booleans()) and "." in test[0]
    id_name = draw(st.sampled_from(["id", "image"])) if not listed else "image"
    rows = [[name, *cells] for name, cells in zip(train, contest.labels.rows, strict=True)]
    labels = Table([id_name, *contest.labels.header], rows)
    if draw(st.booleans()):
        labels.rows.append(list(labels.rows[draw(st.integers(0, 11))]))
    if contest.free:
        if id_name == "image" and "." in train[0] and draw(st.booleans()):
            rows = [[str((7 * at + 2) % 12), *row] for at, row in enumerate(labels.rows)]
            labels = Table(["id", *labels.header], rows)
        widen(draw, labels)
    shuffle(draw, labels)
    ids = test
    if listed:
        key = draw(st.sampled_from(["{}", "r{}"]))
        ids = [key.format(number) for number in draw(st.permutations(range(12)))]
    own = draw(st.sampled_from(["id", "Id"]))
    rows = [[name, *cells] for name, cells in zip(ids, contest.sample.rows, strict=True)]
    sample = Table([own, *contest.sample.header], rows)
    shuffle(draw, sample)
    tables = {LABELS: labels, SAMPLE: sample}
    if listed:
        tables[TEST_LIST] = Table(["id", "image"], [list(pair) for pair in zip(ids, test, strict=True)])
        widen(draw, tables[TEST_LIST])
        shuffle(draw, tables[TEST_LIST])
    return tables


def written(draw: Draw, table: Table) -> bytes:
    """Return the bytes of a table, perhaps with another delimiter and with blank lines."""
    delimiter = draw(st.sampled_from([",", ",", ";", "\t"]))
    if delimiter != "," and "," in "".join(table.header):
        delimiter = ","
    rows = [table.header, *table.rows]
    if draw(st.booleans()):
        rows.insert(draw(st.integers(1, len(rows))), [])
    return table_of(draw, rows, delimiter)


@st.composite
def contest_cases(draw: Draw, build: Callable[[Draw], Contest]) -> ContestCase:
    contest = build(draw)
    tables = tables_of(draw, contest)
    name = draw(st.sampled_from([*tables, LABELS, SAMPLE]))
    table, key = tables[name], ""
    kind = verdict = draw(st.sampled_from([READ, REFUSED, REFUSED, "cell", "bytes"]))
    if kind == REFUSED:
        key = draw(st.sampled_from(HARMFUL[name]))(draw, contest, table)
        verdict, key = (READ, "") if key is None else (REFUSED, key)
    elif kind == "cell":
        row = draw(st.sampled_from([table.header, *table.rows]))
        row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(ODD_CELLS))
    files = {other: written(draw, tables[other]) for other in tables}
    if kind == "bytes":
        files[name] = damage_bytes(draw, files[name])
    if contest.settings:
        lines = [f'{setting} = "{value}"\n' for setting, value in contest.settings.items()]
        files["competition.toml"] = "".join(lines).encode()
    verdict = verdict if verdict in (READ, REFUSED) else EITHER
    content = files.pop(name)
    return ContestCase(name, content, verdict, key, tuple(files.items()), contest.form)
