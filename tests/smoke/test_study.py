"""A study as people meet it: scripted raters in a browser, with keys and by touch, from their links to the report."""

import json
import re
import subprocess
import sys

import pytest
from PIL import Image
from tests.browser import CHROMIUM, Browser

READY = "typeof page === 'object' && page && !busy"
PREFERENCE = ("red", "green", "blue")


@pytest.fixture
def pictures(tmp_path):
    """Three methods that paint a whole image in their colour, and what they were given."""
    for name, colour in (*zip(PREFERENCE, PREFERENCE, strict=True), ("given", "white")):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (96, 64), colour).save(tmp_path / name / f"{number}.png")


def colours(browser: Browser) -> list[str]:
    """What the images on screen look like, one after another."""
    script = """
[...document.querySelectorAll('#images img')].map((image) => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1});
  canvas.getContext('2d').drawImage(image, 0, 0, 1, 1);
  const [red, green, blue] = canvas.getContext('2d').getImageData(0, 0, 1, 1).data;
  return red > 128 ? 'red' : green > 64 ? 'green' : blue > 128 ? 'blue' : 'none';
})"""
    return browser.run(script)


def wanted(browser: Browser) -> list[int]:
    """The places of the images in the order of the scripted rater's preference."""
    shown = colours(browser)
    assert sorted(shown) == sorted(PREFERENCE)
    return [shown.index(colour) for colour in PREFERENCE]


def by_keys(browser: Browser) -> None:
    for place in wanted(browser):
        browser.key(str(place + 1))
    browser.run("document.getElementById('next').focus()")
    browser.key("Enter")


def by_touch(browser: Browser) -> None:
    for place in wanted(browser):
        browser.tap(".choice", place)
    browser.tap("#next")


def served(arguments, folder):
    """The server's process and the raters' links."""
    command = [sys.executable, "-m", "maquette", "study", "serve", *arguments]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    links = []
    for line in process.stdout:
        if line.startswith("Send each rater"):
            break
        links += re.findall(r"http://\S+", line)
    return process, links


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_two_scripted_raters_rank_in_a_browser(maquette, pictures, tmp_path) -> None:
    names = "scripted with keys,scripted by touch"
    code, out, err = maquette(
        *("study", "make", "red", "green", "blue", "--conditions", "given", "-o", "s", "--raters", names)
    )
    assert (code, "2 raters, 6 pages each" in out) == (0, True), err
    process, links = served(["s", "--port", "0"], tmp_path)
    try:
        for link, act, mobile in zip(links, (by_keys, by_touch), (False, True), strict=True):
            size = (390, 844) if mobile else (1280, 900)
            with Browser(tmp_path / act.__name__, size, mobile) as browser:
                browser.open(link)
                for place in range(6):
                    browser.wait(f"{READY} && page.place === {place}")
                    if place == 2:  # an order begun outlives a closed tab
                        browser.run("toggle(1)")
                        browser.open("about:blank")
                        browser.open(link)
                        browser.wait(f"{READY} && page.place === 2")
                        assert browser.run("order") == [1]
                        browser.run("document.getElementById('again').click()")
                    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
                    act(browser)
                browser.wait("document.getElementById('question').textContent === 'Thank you'")
                browser.open(link)  # used again: nothing is left to answer
                browser.wait("document.body.className === 'done'")
    finally:
        process.terminate()
        process.communicate()
    code, out, err = maquette("study", "report", "s")
    assert code == 0, err
    assert "| red | 3.00 ± 0.00 | 3.00 to 3.00 | 3.00 ± 0.00 | 3.00 to 3.00 |" in out
    assert "| blue | 1.00 ± 0.00 |" in out
    values = json.loads((tmp_path / "s" / "report.json").read_text())
    assert values["result"]["fidelity"]["kendalls_w"]["mean"] == 1
    assert set(values["counted"]) == set(names.split(","))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_scripted_rater_tells_methods_apart_in_a_browser(maquette, pictures, tmp_path) -> None:
    """Who knows from the labelled pair which colour is A tells all, with keys and by touch, over a server that dies."""
    maquette("study", "make", "red", "blue", "--design", "difference", "--pairs", 1, "--questions", 2, "-o", "s")
    process, links = served(["s", "--port", "0"], tmp_path)
    port = links[0].split("/")[2].split(":")[1]
    with Browser(tmp_path / "profile", (390, 844), mobile=True) as browser:
        browser.open(links[0])
        browser.wait(f"{READY} && page.kind === 'learn'")
        labels = dict(zip(colours(browser), "AB", strict=True))
        browser.tap("#next")
        browser.wait(f"{READY} && page.place === 1")
        process.kill()
        process.communicate()
        browser.key(labels[colours(browser)[0]])
        browser.wait("document.getElementById('status').textContent.startsWith('No connection')")
        process, _ = served(["s", "--port", port], tmp_path)
        browser.wait(f"{READY} && page.place === 2")
        browser.tap("#buttons button", "AB".index(labels[colours(browser)[0]]))
        browser.wait("document.getElementById('question').textContent === 'Thank you'")
    process.kill()
    process.communicate()
    code, out, err = maquette("study", "report", "s", "-o", "out")
    assert code == 0, err
    assert "Precision 1.00 over 1 raters (95 %: –); 0.50 is guessing. 2 of 2 answers are right" in out
    assert (tmp_path / "out" / "answers.csv").read_text().count("right") == 2


def test_options_of_the_other_design_are_noted(maquette, pictures) -> None:
    code, _, err = maquette("study", "make", "red", "blue", "--pairs", 3, "-o", "one")
    assert (code, "Note: --pairs has no effect on a ranking." in err) == (0, True)
    options = ("--design", "difference", "--items", 3, "--pairs", 1, "--questions", 1)
    code, _, err = maquette("study", "make", "a=red", "b=blue", *options, "-o", "two")
    assert (code, "Note: --items has no effect on a difference." in err) == (0, True)
