"""Take the pictures of README.md and docs/outputs.md from the report of the demo's run.

.venv/bin/python tests/benchmarks/screenshots.py output/demo80/quick/report.html tests/pictures
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

WIDTH = 1000  # maximum width of a picture in pixels

# name -> colour scheme, window width, first element, the element it ends before, maximum height in pixels
PICTURES = {
    "answer": ("light", 1180, "header", "#folds", 900),
    "confusions": ("dark", 1180, "section[aria-labelledby=most-confused-pairs] .pairs", None, 735),
    "matrix": ("light", 900, "section[aria-labelledby=confusion-matrix] .matrix >> nth=1", None, 900),
    "calibration": ("dark", 1180, "section[aria-labelledby=calibration] .beside", None, 900),
    "phone": ("light", 390, "header", None, 760),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    arguments.target.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (scheme, width, start, end, most) in PICTURES.items():
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(arguments.report.absolute().as_uri())
            save_small(take(page, width, start, end, most), arguments.target / f"{name}.png")
        browser.close()


def take(page: Page, width: int, start: str, end: str | None, most: int) -> bytes:
    """Return a PNG of the page's width, from `start` to before `end`, or to the end of `start` if None."""
    box = page.locator(start).first.bounding_box()
    top, bottom = box["y"], box["y"] + box["height"]
    if end is not None:
        bottom = page.locator(end).first.bounding_box()["y"] - 20
    area = {"x": 0, "y": max(0, top - 16), "width": width, "height": min(bottom - top + 32, most)}
    return page.screenshot(full_page=True, clip=area)


def save_small(png: bytes, path: Path) -> None:
    """Save the picture as a PNG of at most WIDTH pixels and 256 colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    if image.width > WIDTH:
        size = WIDTH, round(image.height * WIDTH / image.width)
        image = image.resize(size, Image.Resampling.LANCZOS)
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {image.width} x {image.height}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
