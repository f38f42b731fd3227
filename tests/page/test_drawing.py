"""The page in a real browser: scenes, photographs, results, stopping, records and the gallery."""

import time

import numpy as np
from tests.page.steps import IN_BROWSER, equal, generate, number, place_scene, say, shown, wait_for_words

from maquette.diorama.scene import scene

pytestmark = IN_BROWSER


def test_a_scene_becomes_a_picture_that_the_gallery_keeps(page) -> None:
    place_scene(page)
    lines = np.asarray(shown(page, "#map-0").convert("L"))
    assert lines.shape == (128, 128) and 0 < (lines > 0).mean() < 0.5
    say(page, "a red house")
    picture = generate(page)
    assert picture.size == (128, 128) and np.asarray(picture).std() > 10
    page.reload()
    page.get_by_role("tab", name="Keep").click()
    assert equal(shown(page, "#kept"), picture)


def test_a_photograph_is_searched_for_edges_and_its_picture_comes_back(page, tmp_path) -> None:
    scene(7).image.resize((640, 640)).save(tmp_path / "photo.png")
    page.locator("#canvas-0 input[type=file]").first.set_input_files(tmp_path / "photo.png")
    page.wait_for_selector("#map-0 img")
    assert page.get_by_label("Found in the picture").first.is_checked()
    picture = generate(page)
    shown_at = page.locator("#results img").first.get_attribute("src")
    (tmp_path / "made.png").write_bytes(page.request.get(shown_at).body())
    page.get_by_text("Size, speed, steps and seed").click()
    page.fill("#seed input", "5")
    page.get_by_role("tab", name="Keep").click()
    page.locator("#drop input[type=file]").first.set_input_files(tmp_path / "made.png")
    wait_for_words(page, "#said", "back")
    assert equal(generate(page), picture)


def test_a_result_starts_another(page) -> None:
    place_scene(page)
    first = np.asarray(generate(page)).astype(int)
    page.click("#as_start")
    page.wait_for_selector("#start canvas")
    number(page, "How much it changes (image to image)", 0.2)
    page.wait_for_timeout(2000)
    change = abs(np.asarray(generate(page)) - first)
    assert 0 < change.mean() < 20, "it goes on from the start image"


def test_stop_stops(page) -> None:
    place_scene(page)
    page.get_by_text("Size, speed, steps and seed").click()
    number(page, "Steps", 150)
    page.click("#generate")
    wait_for_words(page, "#said", "of 150")
    began = time.monotonic()
    page.click("#stop")
    wait_for_words(page, "#said", "Stopped")
    assert time.monotonic() - began < 20
