"""The figure in a real browser: dragged by a mouse and a finger, moved by keys, and drawn as the library draws it."""

import numpy as np
import pytest
from tests.page.steps import IN_BROWSER, choose_people, equal, generate, opened, record_of, say, shown

from maquette.conditions.drawing.skeletons import pose_map

pytestmark = IN_BROWSER
POINTS = """[...document.querySelectorAll("#figure-0 circle")].map((point) => {
    const box = point.ownerSVGElement.viewBox.baseVal;
    return [point.cx.baseVal.value / box.width, point.cy.baseVal.value / box.height,
        point.classList.contains("unseen") ? 0 : 1];
})"""


def changed_map(page, before: str) -> str:
    """The address of the map once it is another."""
    page.wait_for_function(
        "old => (image => image && image.src !== old)(document.querySelector('#map-0 img'))", arg=before
    )
    return page.locator("#map-0 img").first.get_attribute("src")


def drag(page, name: str, x: float, y: float) -> None:
    """A key point to a place in parts of the figure's sides."""
    point = page.locator("#figure-0").get_by_role("slider", name=name, exact=True).bounding_box()
    box = page.locator("#figure-0 svg").bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=6)
    page.mouse.up()


def library_map(page):
    """The map of the points that the page shows."""
    points = np.array(page.evaluate(POINTS))
    return points, pose_map(points[None] * (128, 128, 1), (128, 128))


def test_a_dragged_pose_becomes_a_picture(page) -> None:
    choose_people(page)
    first = page.wait_for_selector("#map-0 img").get_attribute("src")
    drag(page, "left wrist", 0.8, 0.15)
    second = changed_map(page, first)
    page.keyboard.press("ArrowLeft")  # the point that was dragged has the focus
    third = changed_map(page, second)
    page.keyboard.press("Tab")
    page.keyboard.press("Delete")
    changed_map(page, third)
    points, expected = library_map(page)
    assert points[7] == pytest.approx([0.79, 0.15, 1], abs=0.005) and points[8, 2] == 0
    assert equal(shown(page, "#map-0"), expected)
    say(page, "a person in a red shirt waving")
    picture = generate(page)
    (control,) = record_of(picture).controls
    assert control.controlnet == "diorama/pose" and equal(control.image(), expected)


def test_a_finger_drags_on_a_phone(chromium, studio) -> None:
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, locale="en-GB"
    )
    page = opened(context, studio.address)
    choose_people(page)
    svg = page.locator("#figure-0 svg")
    svg.scroll_into_view_if_needed()
    box, scrolled = svg.bounding_box(), page.evaluate("scrollY")
    places = [
        {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in ((0.384, 0.553), (0.2, 0.2))
    ]
    touch = context.new_cdp_session(page)
    for kind, points in (("touchStart", places[:1]), ("touchMove", places[1:]), ("touchEnd", [])):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_timeout(500)
    points, _ = library_map(page)
    assert points[4] == pytest.approx([0.2, 0.2, 1], abs=0.01) and page.evaluate("scrollY") == scrolled
    context.close()
