"""The studio's page in a real browser: strokes, scenes, photographs, results, stopping, records and the gallery."""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from tests.browser import CHROMIUM

from maquette.diorama.scene import scene

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PATIENCE = 40_000  # milliseconds


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    command = [sys.executable, "-m", "maquette", "ui", "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path_factory.mktemp("studio"), stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        yield re.search(r"http://[\w.:]+", server.stdout.readline())[0]
        server.terminate()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, address):
    """The page, which asks for nothing from elsewhere."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000}, locale="en-GB")
    page, elsewhere = context.new_page(), []
    own = (address, "data:", "blob:")
    page.set_default_timeout(PATIENCE)
    page.on("request", lambda asked: elsewhere.append(asked.url) if not asked.url.startswith(own) else None)
    page.goto(address)
    page.wait_for_selector("#canvas-0 canvas")
    page.wait_for_timeout(2000)  # until the canvas listens
    yield page
    context.close()
    assert elsewhere == []


def shown(page, where: str) -> Image.Image:
    """The picture that is shown, as it came from the server."""
    address = page.wait_for_selector(f"{where} img").get_attribute("src")
    image = Image.open(io.BytesIO(page.request.get(address).body()))
    image.load()
    return image


def draw(page, where: str, path: list[tuple[float, float]]) -> None:
    """A stroke with the mouse through points in parts of the editor's shorter side, from its middle."""
    canvas = page.locator(f"{where} canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    side = min(box["width"], box["height"])
    points = [(box["x"] + box["width"] / 2 + x * side, box["y"] + box["height"] / 2 + y * side) for x, y in path]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=8)
    page.mouse.up()


def generate(page) -> Image.Image:
    page.click("#generate")
    page.wait_for_function("!document.querySelector('#said').innerText.includes('Done.')")
    page.wait_for_function("document.querySelector('#said').innerText.includes('Done.')")
    return shown(page, "#results")


def test_strokes_become_a_picture_without_choosing_the_brush(page) -> None:
    draw(page, "#canvas-0", [(-0.2, 0.05), (0, -0.2), (0.2, 0.05), (0.2, 0.25), (-0.2, 0.25), (-0.2, 0.05)])
    lines = np.asarray(shown(page, "#map-0").convert("L"))
    assert lines.shape == (128, 128) and 0.01 < (lines > 0).mean() < 0.3
    rows, columns = np.nonzero(lines)
    assert abs((columns.min() + columns.max()) / 2 - 64) < 4, "the strokes are in the middle, as they were drawn"
    assert lines[rows.min(), columns.min()] == 0, "the roof is pointed"
    page.fill("#prompt textarea, #prompt input", "a red house")
    assert np.asarray(generate(page)).std() > 10


def test_a_scene_becomes_a_picture_that_the_gallery_keeps(page) -> None:
    page.click("#place-0")
    lines = np.asarray(shown(page, "#map-0").convert("L"))
    assert lines.shape == (128, 128) and 0 < (lines > 0).mean() < 0.5
    page.fill("#prompt textarea, #prompt input", "a red house")
    picture = generate(page)
    assert picture.size == (128, 128) and np.asarray(picture).std() > 10
    page.reload()
    page.get_by_role("tab", name="Keep").click()
    assert np.array_equal(shown(page, "#kept"), picture)


def test_a_photograph_is_searched_for_edges_and_its_picture_comes_back(page, tmp_path) -> None:
    scene(7).image.resize((640, 640)).save(tmp_path / "photo.png")
    page.locator("#canvas-0 input[type=file]").first.set_input_files(tmp_path / "photo.png")
    page.wait_for_selector("#map-0 img")
    assert page.get_by_label("Found in the picture").first.is_checked()
    picture = generate(page)
    shown_at = page.locator("#results img").first.get_attribute("src")
    (tmp_path / "made.png").write_bytes(page.request.get(shown_at).body())
    page.get_by_text("Steps, seed and sampler").click()
    page.fill("#seed input", "5")
    page.get_by_role("tab", name="Keep").click()
    page.locator("#drop input[type=file]").first.set_input_files(tmp_path / "made.png")
    page.wait_for_function("document.querySelector('#said').innerText.includes('back')")
    assert np.array_equal(generate(page), picture)


def test_a_result_starts_another(page) -> None:
    page.click("#place-0")
    page.wait_for_selector("#map-0 img")
    first = np.asarray(generate(page)).astype(int)
    page.click("#as_start")
    page.wait_for_selector("#start canvas")
    page.get_by_label("number input for How much it changes (image to image)").fill("0.2")
    page.keyboard.press("Tab")
    page.wait_for_timeout(2000)
    change = abs(np.asarray(generate(page)) - first)
    assert 0 < change.mean() < 20, "it goes on from the start image"


def test_stop_stops(page) -> None:
    page.click("#place-0")
    page.wait_for_selector("#map-0 img")
    page.get_by_text("Steps, seed and sampler").click()
    page.get_by_label("number input for Steps").fill("150")
    page.keyboard.press("Tab")
    page.click("#generate")
    page.wait_for_function("document.querySelector('#said').innerText.includes('of 150')")
    began = time.monotonic()
    page.click("#stop")
    page.wait_for_function("document.querySelector('#said').innerText.includes('Stopped')")
    assert time.monotonic() - began < 20


def test_an_empty_canvas_is_told_of(page) -> None:
    page.click("#generate")
    page.get_by_text("The canvas is empty").first.wait_for()
