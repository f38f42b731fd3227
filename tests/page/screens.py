"""Every tab at a desk and on a phone, light and dark, as docs/studio.md shows them.

    python -m tests.page.screens runs docs/studio

The first folder has a finished training that kept ControlNets on its way; the second gets the pictures. The one of the
page's help is renewed, too.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps
from playwright.sync_api import sync_playwright
from tests.browser import CHROMIUM
from tests.page.steps import Studio, draw, generate, number, opened, say, shown

from maquette.studio.page.help import PICTURE

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
COLOURS = 128
HOUSE = [
    [(-0.3, 0.0), (-0.1, -0.2), (0.1, 0.0), (0.1, 0.25), (-0.3, 0.25), (-0.3, 0.0)],
    [(-0.3, 0.0), (0.1, 0.0)],
]
TREE = [[(0.3, 0.25), (0.3, 0.05)], [(0.3, 0.05), (0.2, -0.05), (0.3, -0.2), (0.4, -0.05), (0.3, 0.05)]]
AROUND_HOUSE = (8, 25, 90, 107)  # pixels of the picture
PANELS = {
    "jump": "the one that is offered",
    "beginnings": "with random weights instead",
    "residuals": "without number 13",
    "strengths": "weight 1.5",
}
"""The panels of Learn, and what is said of the last picture of each."""


def fill_draw(page, count: int) -> None:
    """Draw, and make pictures."""
    for path in (*HOUSE, *TREE):
        draw(page, "#canvas-0", path)
    shown(page, "#map-0")
    say(page, "a red house beside a tree")
    page.get_by_text("Size, speed, steps and seed").click()
    number(page, "Pictures", count)
    page.get_by_text("Size, speed, steps and seed").click()
    generate(page)


def fill_others(page) -> None:
    """Do on the other tabs what there is to see of them."""
    page.get_by_role("tab", name="Keep").click()
    shown(page, "#kept")
    page.get_by_role("tab", name="Train").click()
    page.locator("#curve svg").wait_for()
    page.get_by_role("tab", name="Learn").click()
    for name, last in PANELS.items():
        page.click(f"#show-{name}")
        page.locator(f"#shown-{name}").get_by_text(last).first.wait_for()


def help_picture(page) -> Image.Image:
    """The house of the strokes, of the map and of the picture side by side, for the page's help."""
    map_ = shown(page, "#map-0").convert("RGB")
    side, gap = 256, 16
    wide = Image.new("RGB", (3 * side + 2 * gap, side), "white")
    for place, part in enumerate((ImageOps.invert(map_), map_, shown(page, "#results").convert("RGB"))):
        house = part.crop(AROUND_HOUSE).resize((side, side), Image.Resampling.NEAREST)
        wide.paste(house, (place * (side + gap), 0))
    return wide


def small(image: Image.Image, path: Path) -> None:
    image.convert("RGB").quantize(COLOURS).save(path, optimize=True)


def take(page, folder: Path, size: str, tabs: tuple[str, ...]) -> None:
    """Take tabs in both themes."""
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    for name in tabs:
        page.get_by_role("tab", name=name, exact=True).click()
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(1500)
            path = folder / f"{name.lower()}-{size}-{theme}.png"
            page.screenshot(path=path, full_page=True)
            with Image.open(path) as image:
                small(image, path)


def main(runs: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as own, sync_playwright() as started:
        studio = Studio(Path(own), "--runs", str(runs.resolve()))
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        try:
            desk, phone = (
                opened(browser.new_context(viewport={"width": width, "height": height}, locale="en-GB"), studio.address)
                for width, height in SIZES.values()
            )
            fill_draw(desk, 2)
            small(help_picture(desk), PICTURE)
            take(desk, folder, "desk", ("Draw",))
            fill_draw(phone, 1)
            take(phone, folder, "phone", ("Draw",))
            fill_others(desk)
            for size in SIZES:
                take(desk, folder, size, ("Keep", "Train", "Learn"))
        finally:
            browser.close()
            studio.end()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
