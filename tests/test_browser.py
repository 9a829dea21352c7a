"""The report pages in a browser: offline, sorted, hovered, narrow, dark and printed."""

import dataclasses
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from test_mending import ODD, mendable_of, odd_evidence
from test_report import make_evidence
from test_task_reports import evidence_of

import compare
import demo
import examine
import infer
import prepare
import report as report_stage
import split
import submit
import train
import validate
from foldsmith.data.cache import PixelCache
from foldsmith.data.corrections import LEAVE_OUT, read_corrections
from foldsmith.evaluation.label_issues import rank_label_issues
from foldsmith.report.page import write_report
from foldsmith.report.pictures import Pictures
from foldsmith.run.tables import load_samples
from foldsmith.tasks import SingleLabel

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MOST_BYTES = 10_000_000
MOST_OF_LARGE = 2_500_000  # 1.7 MB, and less than 15 bytes more for every further image
# the background of each text colour; WCAG 2.1 AA requires a contrast ratio of 4.5
TEXTS = "h1, h2, h3, p, a, dt, dd, li span, th, td, caption, figcaption, summary, b, code, kbd, output"
CONTRAST = """texts => {
  const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const ratios = {};
  for (const e of document.querySelectorAll(texts)) {
    if (!e.innerText?.trim()) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
    const name = e.tagName + "." + e.className;
    ratios[name] = Math.min((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), ratios[name] ?? 99);
  }
  return ratios;
}"""


def find_browser() -> str | None:
    """Return the system's Chromium; tests download none."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Browser]":
    executable = find_browser()
    if executable is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    # Chromium refuses its sandbox to root, which containers often use
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=options)
        yield started
        started.close()


class SomePixels:
    """Any number of rows of pixels that repeat a few stored ones."""

    def __init__(self) -> None:
        draws = np.random.default_rng(0)
        coarse = draws.integers(0, 256, (50, 6, 6, 3)).repeat(12, axis=1).repeat(12, axis=2)
        self.drawn = np.clip(coarse + draws.normal(0, 10, coarse.shape), 0, 255).astype(np.uint8)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.drawn[row % len(self.drawn)]


def write_large_report(path: Path, num_images: int, num_classes: int) -> None:
    """Write a page with every section, of synthetic predictions: long names, duplicates, a shift."""
    evidence = make_evidence(num_images, num_classes, 5)
    names = [f"class {label} of a rather long name" for label in range(num_classes)]
    test = np.array([f"test/{row}.png" for row in range(400)])
    near = [str(evidence.paths[row // 2 * 2]) if row < 80 else "" for row in range(num_images)]
    samples = {
        "path": evidence.paths,
        "class_name": [names[label] for label in evidence.labels],
        "near": near,
        "group": "",
    }
    sizes = {"width": 64, "height": 64, "digest": [str(row) for row in range(num_images)]}
    features = np.random.default_rng(0).normal(size=(600, 16))
    features[300:, 0] += 2
    label_probabilities = evidence.probabilities[np.arange(num_images), evidence.labels]
    cache = PixelCache(path.parent, SomePixels(), pd.DataFrame({"path": [*evidence.paths, *test]}))
    whole = dataclasses.replace(
        evidence,
        class_names=names,
        pictures=Pictures(cache),
        issues=rank_label_issues(evidence.paths, evidence.labels, evidence.probabilities, names),
        samples=pd.DataFrame({**samples, **sizes}),
        test_samples=pd.DataFrame({"path": test, "near": near[:1] + [""] * 399, "digest": test}),
        features={
            "path": np.concatenate([evidence.paths[:300], test[:300]]),
            "is_test": np.arange(600) >= 300,
            "features": features,
        },
        views={
            "view": np.array(["identity", "hflip"]),
            "path": evidence.paths,
            "prediction": np.stack([evidence.probabilities.argmax(axis=1)] * 2),
            "given": np.stack([label_probabilities, label_probabilities]),
        },
        test_probabilities=evidence.probabilities[:400],
        mendable=mendable_of(dataclasses.replace(evidence, class_names=names)),
    )
    write_report(path, whole)


@pytest.fixture(scope="module")
def report(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of 8,000 images in 80 classes."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_large_report(path, 8_000, 80)
    assert path.stat().st_size < MOST_OF_LARGE
    return path


@pytest.fixture(scope="module")
def demo_run(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of the demo for one epoch, on a tenth of its images."""
    folder, output = tmp_path_factory.mktemp("input") / demo.NAME, tmp_path_factory.mktemp("output")
    words = [str(folder), "--output", str(output), "--limit", "240", "--folds", "2", "--epochs", "1"]
    words += ["--workers", "0", "--device", "cpu", "--precision", "fp32"]
    for stage in (demo, prepare, split, train, validate, infer, submit, examine, report_stage):
        assert stage.main(words) == 0
    assert compare.main([str(output / demo.NAME)]) == 0
    return output / demo.NAME / "quick"


@pytest.fixture(params=["large", "demo", "leaderboard"])
def any_page(request: pytest.FixtureRequest, report: Path, demo_run: Path) -> Path:
    leaderboard = demo_run.parent / "leaderboard.html"
    return {"large": report, "demo": demo_run / "report.html", "leaderboard": leaderboard}[request.param]


def open_page(browser: "Browser", path: Path, width: int = 1280, scheme: str = "light") -> "Page":
    """Open the page offline; `page.faults` collects console messages and requests."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page.faults = []
    page.on("console", lambda line: page.faults.append(line.text))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:")) or page.faults.append(request.url),
    )
    page.goto(path.as_uri())
    return page


def test_a_page_is_small_and_loads_offline_without_a_fault(browser: "Browser", any_page: Path) -> None:
    assert any_page.stat().st_size < MOST_BYTES
    page = open_page(browser, any_page)
    assert page.faults == []
    broken = "() => [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert page.evaluate(broken) == 0
    nameless = "() => [...document.images].filter(image => !image.hasAttribute('alt')).length"
    assert page.evaluate(nameless) == 0
    page.close()


@pytest.mark.parametrize("name", ["large", "demo"])
def test_a_report_has_every_section_and_its_pictures(
    browser: "Browser", report: Path, demo_run: Path, name: str
) -> None:
    page = open_page(browser, report if name == "large" else demo_run / "report.html")
    headings = page.evaluate("() => [...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName)")
    assert (
        headings[0] == "H1"
        and headings.count("H1") == 1
        and headings.count("H2") == len(SingleLabel.report_sections)
    )
    assert page.locator("nav a").count() == len(SingleLabel.report_sections)
    assert page.locator("img").count() > 150
    page.close()


def test_a_click_on_a_heading_sorts_the_table_and_a_second_click_reverses_it(
    browser: "Browser", report: Path
) -> None:
    page = open_page(browser, report)
    table = page.locator("section[aria-labelledby=classes] table")
    cells = "rows => rows.map(row => Number(row.cells[4].dataset.sort))"
    table.get_by_role("button", name="Recall").click()
    rising = table.locator("tbody tr").evaluate_all(cells)
    table.get_by_role("button", name="Recall").click()
    falling = table.locator("tbody tr").evaluate_all(cells)
    assert rising == sorted(rising) and falling == sorted(rising, reverse=True) and rising != falling
    assert table.locator("th[aria-sort=descending]").inner_text() == "Recall"
    page.close()


def test_a_hovered_cell_shows_the_full_class_names(browser: "Browser", report: Path) -> None:
    page = open_page(browser, report)
    for index, matrix in enumerate(page.locator("section[aria-labelledby=confusion-matrix] svg.cells").all()):
        cell = matrix.locator("rect.wrong").nth(3)
        expected = cell.locator("title").text_content()
        cell.dispatch_event("pointerover")
        assert page.locator(".readout").nth(index).inner_text() == expected
        assert re.fullmatch(
            r"true class \d+ of .* · predicted class \d+ of .* · \d+ of [\d,]+ · .*%", expected
        )
    assert index == 1  # the whole matrix, and that of the most confused classes
    page.close()


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_page_is_wider_than_its_window(browser: "Browser", any_page: Path, width: int) -> None:
    page = open_page(browser, any_page, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(browser: "Browser", report: Path, scheme: str) -> None:
    page = open_page(browser, report, scheme=scheme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert {kind: ratio for kind, ratio in page.evaluate(CONTRAST, TEXTS).items() if ratio < 4.5} == {}
    page.close()


def test_it_prints_to_a_pdf_in_light_colours(browser: "Browser", report: Path, tmp_path: Path) -> None:
    page = open_page(browser, report, scheme="dark")
    page.pdf(path=tmp_path / "report.pdf", format="A4", print_background=True)
    written = (tmp_path / "report.pdf").read_bytes()
    assert written.startswith(b"%PDF-") and len(re.findall(rb"/Type\s*/Page\b", written)) > 3
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()


# --- correcting labels


def save_corrections(page: "Page") -> pd.DataFrame:
    """Return corrections.csv as the page saves it and foldsmith reads it, by digest."""
    with page.expect_download() as download:
        page.locator(".save").first.click()
    assert download.value.suggested_filename == "corrections.csv"
    return read_corrections(download.value.path()).set_index("digest")


def press(page: "Page", card: int, *keys: str) -> str:
    """Press keys on a focused picture, and return the choice that it shows."""
    picture = page.locator(".mend li").nth(card)
    picture.focus()
    for key in keys:
        page.keyboard.press(key)
    return picture.locator(".answer").inner_text()


def test_keys_correct_the_labels_of_a_real_report_and_the_saved_file_is_applied(
    browser: "Browser", demo_run: Path, tmp_path: Path
) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((demo_run / "report.html").as_uri())
    samples = load_samples(demo_run / "samples.csv").set_index("path")
    cards = page.locator(".mend li")
    paths = [cards.nth(row).get_attribute("data-path") for row in range(5)]
    proposal = cards.nth(1).get_attribute("data-proposal")
    assert press(page, 0, "1") == "kept"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    assert cards.nth(1).locator(".answer").inner_text() == f"→ {proposal}"
    cards.nth(2).hover()
    page.keyboard.press("4")
    other = next(name for name in sorted(set(samples["class_name"])) if name != samples.class_name[paths[3]])
    cards.nth(3).focus()
    page.keyboard.press("3")
    page.keyboard.type(other.upper())
    page.keyboard.press("Enter")
    assert press(page, 4, "4", "4") == "" and press(page, 4, "2", "0") == ""
    assert page.locator(".mending output").first.inner_text().startswith("4 of ")

    page.reload()
    assert page.locator(".mending output").first.inner_text().startswith("4 of ")
    saved = save_corrections(page)
    wanted = [samples.class_name[paths[0]], proposal, LEAVE_OUT, other]
    assert [saved.loc[samples.digest[path], "new"] for path in paths[:4]] == wanted and len(saved) == 4
    context.close()

    file = tmp_path / "corrections.csv"
    saved.reset_index().to_csv(file, index=False)
    assert prepare.main([str(demo_run), "--corrections", str(file)]) == 0
    after = load_samples(demo_run.with_name("quick-corrected") / "samples.csv").set_index("path")[
        "class_name"
    ]
    changed = {path: name for path, name in samples["class_name"].items() if after.get(path) != name}
    assert {paths[1], paths[2], paths[3]} <= set(changed) and paths[2] not in after
    assert (after[paths[1]], after[paths[3]]) == (proposal, other)
    assert set(samples.digest[list(changed)]) == set(samples.digest[paths[1:4]])


def test_odd_class_names_are_saved_and_loaded_again(browser: "Browser", tmp_path: Path) -> None:
    evidence = odd_evidence()
    write_report(tmp_path / "report.html", evidence)
    page = open_page(browser, tmp_path / "report.html")
    cards = page.locator(".mend li")
    digests = evidence.mendable.samples.set_index("path")["digest"]
    proposals = {}
    for row in range(cards.count()):
        press(page, row, "2")
        card = cards.nth(row)
        proposals[digests[card.get_attribute("data-path")]] = card.get_attribute("data-proposal")
    saved = save_corrections(page)
    assert saved["new"].to_dict() == proposals and page.faults == []
    assert set(saved["old"]) | set(saved["new"]) == set(ODD)
    labels = evidence.mendable.samples.set_index("digest")["class_name"]
    assert (saved["old"] == labels[saved.index]).all()
    page.close()

    # a line of a picture that this page does not show is kept; one of another label is not
    table = saved.reset_index()[["path", "digest", "old", "new"]]
    table.loc[0, "old"] = "no label of this picture"
    table.loc[len(table)] = ["train/far.png", "far", 'a ",', ""]
    file = tmp_path / "corrections.csv"
    table.to_csv(file, index=False)
    page = open_page(browser, tmp_path / "report.html")
    page.locator(".mending input").first.set_input_files(file)
    page.get_by_text("1 do not fit").first.wait_for()
    again = save_corrections(page)
    assert again.loc["far", "old"] == 'a ",'
    pd.testing.assert_frame_equal(again.drop("far").sort_index(), saved.drop(table["digest"][0]).sort_index())
    forget = page.locator(".mending .forget").first
    assert "1" in forget.inner_text()
    forget.click()
    assert not forget.is_visible()
    assert set(save_corrections(page).index) == set(again.index) - {"far"}
    page.close()


def test_sets_take_single_labels_and_numbers_are_only_left_out(browser: "Browser", tmp_path: Path) -> None:
    evidence = evidence_of("multilabel")
    write_report(tmp_path / "sets.html", dataclasses.replace(evidence, mendable=mendable_of(evidence)))
    page = open_page(browser, tmp_path / "sets.html")
    card = page.locator(".mend li").first
    path, proposal = card.get_attribute("data-path"), card.get_attribute("data-proposal")
    before = set(mendable_of(evidence).samples.set_index("path").class_name[path].split())
    press(page, 0, "2")
    proposed = before - {proposal[4:]} if proposal.startswith("not ") else before | {proposal}
    (saved,) = save_corrections(page).to_dict("records")
    assert set(saved["new"].split()) == proposed
    press(page, 0, "3")
    page.keyboard.type("dog")
    page.keyboard.press("Enter")  # takes the label, or takes it away
    page.keyboard.press("Enter")
    (saved,) = save_corrections(page).to_dict("records")
    assert set(saved["new"].split()) == proposed ^ {"dog"}
    page.close()

    evidence = evidence_of("regression")
    write_report(tmp_path / "numbers.html", dataclasses.replace(evidence, mendable=mendable_of(evidence)))
    page = open_page(browser, tmp_path / "numbers.html")
    assert press(page, 0, "2") == press(page, 0, "3") == "" and press(page, 0, "4") == "left out"
    assert list(save_corrections(page)["new"]) == [LEAVE_OUT] and page.faults == []
    page.close()


def test_a_page_is_whole_without_scripts_and_works_without_storage(browser: "Browser", report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(".mend li img").count() > 20
    assert not page.locator(".mending").first.is_visible() and not page.locator(".chooser").is_visible()
    context.close()
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('none'); }})"
    )
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(".unstored").first.is_visible()
    assert press(page, 0, "1") == "kept" and len(save_corrections(page)) == 1
    context.close()
