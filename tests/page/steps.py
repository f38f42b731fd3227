"""What the tests of the page do in it, and where its server runs."""

import io
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.browser import CHROMIUM

from maquette.sampling.metadata import Record

PATIENCE = 300_000  # milliseconds: more than enough, also on a machine that does much else
QUICK = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
IN_BROWSER = [pytest.mark.slow, *QUICK]


class Studio:
    """A server in a process of its own, which begins again at the same address and in the same folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.address, self.options = folder.resolve(), "", options
        self.begin()

    def begin(self) -> None:
        port = self.address.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "maquette", "ui", "--port", port, "--device", "cpu", *self.options]
        environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True, env=environment)
        self.address = re.search(r"http://[\w.:]+", self.process.stdout.readline())[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> None:
        """Kill it, and the trainings that it began, which outlive it: they run in its folder."""
        self.kill()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is another's
                if (process / "cwd").readlink() == self.folder:
                    os.kill(int(process.name), signal.SIGKILL)


def opened(context, address: str):
    """The page in a browser's context."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("#canvas-0 canvas")
    page.wait_for_timeout(2000)  # until the canvas listens
    return page


def shown(page, where: str) -> Image.Image:
    """The picture that is shown, as it came from the server."""
    return picture_at(page, page.wait_for_selector(f"{where} img").get_attribute("src"))


def picture_at(page, address: str) -> Image.Image:
    image = Image.open(io.BytesIO(page.request.get(address).body()))
    image.load()
    return image


def record_of(image: Image.Image) -> Record:
    return Record.from_json(image.info["maquette"])


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


def place_scene(page, number: int = 0) -> None:
    """Place the scene of a control, and wait for its map."""
    page.click(f"#place-{number}")
    page.wait_for_selector(f"#map-{number} img")


def choose_people(page) -> None:
    """Poses for the first control, and so the figure."""
    page.locator("#net-0 input").click()
    page.get_by_role("option", name="People's poses", exact=True).click()
    page.locator("#figure-0 svg").wait_for()


def say(page, prompt: str) -> None:
    page.fill("#prompt textarea, #prompt input", prompt)


def number(page, label: str, value: object) -> None:
    """Give the number beside a slider."""
    page.get_by_label(f"number input for {label}").locator("visible=true").first.fill(str(value))
    page.keyboard.press("Tab")


def generate(page) -> Image.Image:
    page.click("#generate")
    wait_for_words(page, "#said", "Done.", afresh=True)
    return shown(page, "#results")


def wait_for_words(page, where: str, words: str, afresh: bool = False) -> None:
    """Until a line says something; `afresh`: after it has said something else."""
    said = f"document.querySelector('{where}').innerText.includes('{words}')"
    if afresh:
        page.wait_for_function(f"!{said}")
    page.wait_for_function(said)


def equal(first: Image.Image, second: Image.Image) -> bool:
    return np.array_equal(np.asarray(first.convert("RGB")), np.asarray(second.convert("RGB")))
