"""The page without a mouse and without eyes: axe-core's rules on every tab, and a picture by keys alone."""

import pytest
from tests.page.steps import IN_BROWSER, choose_people, opened, place_scene, shown, wait_for_words

pytestmark = IN_BROWSER
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
GRAVE = ("serious", "critical")
FOCUSED = "(e => e.closest('[id]:not([id^=range])')?.id || '')(document.activeElement)"


def faults(page) -> list[str]:
    """What breaks a rule, gravely."""
    found = axe.Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found if one["impact"] in GRAVE for node in one["nodes"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_tab_has_a_serious_finding(chromium, studio, theme) -> None:
    context = chromium.new_context(color_scheme=theme, locale="en-GB", viewport={"width": 1280, "height": 1000})
    page = opened(context, studio.address)
    for one in ("Size, speed, steps and seed", "Start image and mask"):
        page.get_by_text(one).click()
    place_scene(page)
    page.click("#generate")
    wait_for_words(page, "#said", "Done.")
    page.wait_for_timeout(1000)
    assert faults(page) == []
    page.get_by_role("tab", name="Keep").click()
    shown(page, "#kept")
    assert faults(page) == []
    page.get_by_role("tab", name="Train").click()
    page.get_by_label("A folder of pairs").check()
    page.get_by_text("Measurements, learning rate and name").click()
    page.wait_for_timeout(3000)
    assert faults(page) == []
    page.get_by_role("tab", name="Learn").click()
    page.click("#show-beginnings")
    page.locator("#shown-beginnings img").nth(2).wait_for()
    assert faults(page) == []
    context.close()


def test_the_figure_has_no_serious_finding(page) -> None:
    choose_people(page)
    page.wait_for_timeout(1000)
    assert faults(page) == []


def test_keys_alone_make_a_picture(page) -> None:
    reach(page, "place-0")
    page.keyboard.press("Enter")
    shown(page, "#map-0")
    reach(page, "prompt")
    page.keyboard.type("a red house")
    reach(page, "generate")
    page.keyboard.press("Enter")
    wait_for_words(page, "#said", "Done.")


def reach(page, where: str) -> None:
    """Go on by Tab until an element has the focus; what comes before it on the page comes before it by keys."""
    passed = []
    for _ in range(80):
        page.keyboard.press("Tab")
        passed.append(page.evaluate(FOCUSED))
        if page.evaluate(f"document.querySelector('#{where}').contains(document.activeElement)"):
            return
    pytest.fail(f"{where} was not reached: {passed}")
