"""A training in a real browser: a folder looked through, started, watched over a kill -9 of the studio, and used."""

from tests.own_pairs import write_pairs
from tests.page.steps import IN_BROWSER, generate, opened, place_scene, record_of, wait_for_words

from maquette.training.monitor.metrics_log import Log

pytestmark = IN_BROWSER
LATEST = "document.querySelector('#training-said').innerText"


def fill_in(page, where: str, value: object) -> None:
    page.locator(f"#{where} input, #{where} textarea").first.fill(str(value))
    page.keyboard.press("Tab")


def test_a_training_outlives_the_studio_and_its_net_is_used(chromium, studio) -> None:
    pairs = write_pairs(studio.folder / "my-pairs", 16)
    whole = (pairs / "3.png").read_bytes()
    (pairs / "3.png").write_text("no picture")
    context = chromium.new_context(viewport={"width": 1280, "height": 1400}, locale="en-GB")
    page = opened(context, studio.address)
    page.get_by_role("tab", name="Train").click()
    page.get_by_label("A folder of pairs").check()
    fill_in(page, "pairs", "my-pairs")
    fill_in(page, "own-condition", "canny")
    page.click("#check")
    wait_for_words(page, "#found", "15 rows can be used, 1 cannot.")
    assert "3.png" in page.locator("#found tbody").inner_text()
    (pairs / "3.png").write_bytes(whole)
    page.get_by_text("Measurements, learning rate and name").click()
    for where, value in (
        ("train-steps", 6),
        ("batch", 2),
        ("every", 3),
        ("held-out", 2),
        ("name", "mine"),
    ):
        fill_in(page, where, value)
    page.wait_for_timeout(1000)
    page.click("#start-training")
    page.wait_for_function(f"/Preparing|Step/.test({LATEST})")
    studio.kill()
    page.close()
    studio.begin()
    page = opened(context, studio.address)
    page.get_by_role("tab", name="Train").click()
    wait_for_words(page, "#training-said", "Finished: 6 steps of 6.")
    assert Log(studio.folder / "runs" / "mine", "canny").column("gain share")[0] == [0, 3, 6]
    assert page.locator("#curve .score circle").count() == 3
    page.wait_for_selector("#training-grid img")
    page.click("#use-net")
    wait_for_words(page, "#said", "runs/mine")
    assert "runs/mine" in page.locator("#net-0 input").input_value()
    place_scene(page)
    assert [control.controlnet for control in record_of(generate(page)).controls] == ["runs/mine"]
    context.close()


def test_a_training_is_stopped_and_goes_on(page, studio) -> None:
    page.get_by_role("tab", name="Train").click()
    page.wait_for_function(f"{LATEST}.includes('Finished')")
    fill_in(page, "until", 500)
    page.click("#resume-training")
    page.wait_for_function(f"/Step ([7-9]|[1-9][0-9]+) of 500/.test({LATEST})")
    page.click("#stop-training")
    wait_for_words(page, "#training-said", "Stopped at step")
    log = Log(studio.folder / "runs" / "mine", "canny")
    assert log.lines()[-1]["saved"] and 6 < log.lines()[-1]["step"] < 500
