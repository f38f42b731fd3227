"""Chromium without a window, driven over its debugging pipe: pages, keys, taps and screenshots, by the real thing."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"),
    "--remote-debugging-pipe",
]
PATIENCE = 30  # seconds


class Browser:
    """A tab in a browser of its own, whose profile is in `folder`."""

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 900), mobile: bool = False) -> None:
        assert CHROMIUM is not None
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()

        connect = f'exec "$@" 3</dev/fd/{to_read} 4>/dev/fd/{from_write}'  # where the browser reads and answers
        self._process = subprocess.Popen(
            ["sh", "-c", connect, "sh", CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(to_read, from_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(from_write)
        self._commands, self._answers = os.fdopen(to_write, "wb", 0), os.fdopen(from_read, "rb")
        self._numbers, self._session = itertools.count(1), None
        try:
            self._attach(size, mobile)
        except BaseException:
            self.__exit__()
            raise

    def _attach(self, size: tuple[int, int], mobile: bool) -> None:
        """Find the tab, and give it a screen."""
        target = next(one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": mobile}
        self._call("Emulation.setDeviceMetricsOverride", **metrics)
        self._call("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._commands.close()
        self._answers.close()

    def _call(self, method: str, **parameters: object) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:  # events in between are not of interest
            answer = json.loads(self._next())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> bytes:
        message = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser is gone"
            message += byte
        return bytes(message)

    def open(self, address: str) -> None:
        self._call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression on the page."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str) -> Any:
        """Until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not (value := self.run(script)):
            assert time.monotonic() < end, (script, self.run("document.body.innerText"))
            time.sleep(0.02)
        return value

    def key(self, name: str) -> None:
        """Press and release a key: a letter, a digit, Tab or Enter."""
        text = {"Enter": "\r", "Tab": ""}.get(name, name)
        codes = {"Enter": 13, "Tab": 9}
        common = {"key": name, "code": name, "windowsVirtualKeyCode": codes.get(name, ord(name[0].upper()))}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self._call("Input.dispatchKeyEvent", type="keyUp", **common)

    def tap(self, selector: str, place: int = 0) -> None:
        """Touch the middle of an element."""
        script = "(e => (e.scrollIntoView({block: 'center'}), e.getBoundingClientRect().toJSON()))"
        box = self.run(f"{script}(document.querySelectorAll({json.dumps(selector)})[{place}])")
        point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        self._call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
        self._call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self, path: Path) -> None:
        shot = self._call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
