"""What one does with results in a real browser: a mask, a comparison, layers, the archive, other languages."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from tests.page.steps import (
    IN_BROWSER,
    draw,
    equal,
    generate,
    number,
    opened,
    picture_at,
    place_scene,
    record_of,
    say,
    shown,
    wait_for_words,
)

from maquette.sampling.metadata import unpack
from maquette.studio.page.strings import Strings

pytestmark = IN_BROWSER


def test_a_mask_painted_on_a_result_changes_what_is_inside_alone(page) -> None:
    place_scene(page)
    first = np.asarray(generate(page).convert("RGB"))
    page.click("#paint")
    page.wait_for_selector("#start canvas")
    page.wait_for_timeout(3000)  # until the canvas shows the picture and has the brush in hand
    draw(page, "#start", [(-0.1, 0.05), (0.1, 0.05), (-0.1, 0.1), (0.1, 0.1)])
    page.wait_for_timeout(1500)
    say(page, "a lake at night")
    second = generate(page)
    painted = np.asarray(unpack(record_of(second).mask).convert("L")) > 0
    assert 0.001 < painted.mean() < 0.2, "the stroke is the mask"
    differs = (np.asarray(second.convert("RGB")) != first).any(-1)
    assert differs[painted].any() and not differs[~painted].any()


def test_two_results_are_compared_by_a_slider(page) -> None:
    place_scene(page)
    page.get_by_text("Size, speed, steps and seed").click()
    number(page, "Pictures", 2)
    number(page, "Steps", 4)
    generate(page)
    thumbnails = page.locator("#results .thumbnail-item")
    pictures = []
    for place in range(2):
        thumbnails.nth(place).click()
        page.wait_for_timeout(1500)
        pictures.append(picture_at(page, thumbnails.nth(place).locator("img").get_attribute("src")))
    sides = page.locator("#compare img")
    sides.nth(1).wait_for()
    compared = [picture_at(page, sides.nth(place).get_attribute("src")) for place in range(2)]
    assert {record_of(one).settings["seed"] for one in pictures} == {0, 1}
    assert all(any(equal(side, one) for side in compared) for one in pictures) and not equal(*compared)


def test_three_controls_act_together(page) -> None:
    wanted = ["diorama/canny", "diorama/depth", "diorama/segmentation"]
    labels = ["Edges (canny)", "Depth", "Regions in colours (segmentation)"]
    for place, label in enumerate(labels):
        page.get_by_role("tab", name=f"Control {place + 1}").click()
        if place:
            page.get_by_label("Use this control").locator("visible=true").check()
        page.locator(f"#net-{place} input").click()
        page.get_by_role("option", name=label, exact=True).click()
        place_scene(page, place)
        number(page, "Weight", 0.5 + place / 4)
    page.wait_for_timeout(1500)
    controls = record_of(generate(page)).controls
    assert [control.controlnet for control in controls] == wanted
    assert [control.weight for control in controls] == [0.5, 0.75, 1.0]


def test_the_chosen_pictures_come_in_a_zip(page) -> None:
    place_scene(page)
    page.get_by_text("Size, speed, steps and seed").click()
    number(page, "Pictures", 3)
    number(page, "Steps", 2)
    generate(page)
    page.get_by_role("tab", name="Keep").click()
    boxes = page.locator("#choose input[type=checkbox]")
    boxes.nth(2).wait_for()
    names = [boxes.nth(place).get_attribute("name") for place in (0, 2)]
    for place in (0, 2):
        boxes.nth(place).check()
    page.click("#zip")
    link = page.locator("#archive a[href*='maquette.zip']").first
    link.wait_for()
    archive = zipfile.ZipFile(io.BytesIO(page.request.get(link.get_attribute("href")).body()))
    assert sorted(archive.namelist()) == sorted(names)
    pictures = [Image.open(io.BytesIO(archive.read(name))) for name in names]
    assert not equal(*pictures) and {record_of(picture).settings["steps"] for picture in pictures} == {2}


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_it_speaks_the_browsers_language(chromium, studio, language) -> None:
    words = Strings(language)
    context = chromium.new_context(locale={"ja": "ja-JP", "zh": "zh-CN"}[language])
    page = opened(context, studio.address)
    assert page.evaluate("document.documentElement.lang") == language
    for key in ("draw", "keep", "train"):
        page.get_by_role("tab", name=words(key), exact=True).wait_for()
    assert page.locator("#generate").inner_text() == words("generate")
    page.click("#generate")
    page.get_by_text(words("empty")).first.wait_for()
    page.click("#place-0")
    shown(page, "#map-0")
    page.click("#generate")
    wait_for_words(page, "#said", words("done"))
    context.close()
