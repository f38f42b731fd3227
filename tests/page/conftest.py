"""One server and one browser for all tests of the page."""

import signal
from collections.abc import Iterator

import pytest
from tests.browser import CHROMIUM
from tests.page.steps import Studio, opened

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")


@pytest.fixture(scope="package")
def studio(tmp_path_factory) -> Iterator[Studio]:
    """A studio that is gone at the end, with the trainings that it began, also where the tests are terminated."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    studio = Studio(tmp_path_factory.mktemp("studio"))
    yield studio
    studio.end()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="package")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, studio):
    """The page in English, which asks for nothing from elsewhere."""
    context, elsewhere = chromium.new_context(viewport={"width": 1280, "height": 1000}, locale="en-GB"), []
    own = (studio.address, "data:", "blob:")
    context.on("request", lambda asked: elsewhere.append(asked.url) if not asked.url.startswith(own) else None)
    yield opened(context, studio.address)
    context.close()
    assert elsewhere == []
