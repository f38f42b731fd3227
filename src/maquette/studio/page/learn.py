"""The tab that shows how a ControlNet works, in panels of pictures that differ in one thing."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from PIL import Image

from maquette.errors import MaquetteError
from maquette.studio.learning import Panels, Shown, Subject
from maquette.studio.page.fields import error_line
from maquette.studio.page.strings import Strings

Pictures = list[tuple[Image.Image, str]]
PANELS = ("jump", "beginnings", "residuals", "strengths")


class Learn:
    """The tab: a scene, its map, and a button and a gallery for each panel."""

    def __init__(self, panels: Panels, words: Strings) -> None:
        self.panels, self.words = panels, words
        conditions = list(dict.fromkeys(panels.engine.nets.values()))
        gr.Markdown(words("learn_lead"))
        with gr.Row():
            with gr.Column(scale=3, min_width=280):
                condition = gr.Dropdown(
                    words.choices(conditions), value=conditions[0], label=words("condition"), elem_id="learn-condition"
                )
                with gr.Row():
                    number = gr.Number(7, label=words("scene"), precision=0, minimum=0, min_width=90)
                    seed = gr.Number(0, label=words("seed"), precision=0, minimum=0, min_width=90)
                self.said = error_line()
            self.map = gr.Image(
                label=words("given"), interactive=False, format="png", type="pil", buttons=[], elem_classes="crisp",
                elem_id="learn-map", height=220, scale=2, min_width=200,
            )  # fmt: skip
        self.inputs = [condition, number, seed]
        for name in PANELS:
            self._add_panel(name)
        gr.on(
            [one.change for one in self.inputs], self._look, self.inputs, [self.map, self.said],
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip

    def entered(self, tab: gr.Tab) -> None:
        """Show the map when the tab is opened."""
        tab.select(self._look, self.inputs, [self.map, self.said], show_progress="hidden", api_visibility="private")

    def _add_panel(self, name: str) -> None:
        words = self.words
        with gr.Accordion(words(f"learn_{name}"), open=True, elem_id=f"learn-{name}"):
            gr.Markdown(words(f"learn_{name}_text"))
            show = gr.Button(words("learn_show"), size="sm", elem_id=f"show-{name}")
            own = error_line()
            gallery = gr.Gallery(
                label=words(f"learn_{name}"), columns=4, height="auto", object_fit="contain", format="png",
                interactive=False, elem_classes="crisp", elem_id=f"shown-{name}", buttons=[], show_label=False,
            )  # fmt: skip
        show.click(
            self.shower(getattr(self.panels, name)), self.inputs, [gallery, own], concurrency_limit=1,
            concurrency_id="learn", show_progress="minimal", api_visibility="private",
        )  # fmt: skip

    def shower(self, panel: Callable[[Subject], Iterator[Shown]]) -> Any:
        """The function of a panel's button: the pictures so far, and a sentence where it cannot be made."""

        def show(condition: str, number: float | None, seed: float | None) -> Iterator[tuple[Pictures, str]]:
            shown: Pictures = []
            try:
                for one in panel(_subject(condition, number, seed)):
                    shown.append((one.image, self.caption(one)))
                    yield list(shown), ""
            except MaquetteError as error:
                yield shown, f"⚠ {error}"

        return show

    def caption(self, shown: Shown) -> str:
        """What is special about a picture, and how well it follows the map."""
        what = self.words(shown.key, shown.value)
        return what if shown.score is None else f"{what} · {self.words('follows', shown.score)}"

    def _look(self, condition: str, number: float | None, seed: float | None) -> tuple[Image.Image | None, str]:
        try:
            return self.panels.map_of(_subject(condition, number, seed)), ""
        except MaquetteError as error:
            return None, f"⚠ {error}"


def _subject(condition: str, number: float | None, seed: float | None) -> Subject:
    return Subject(condition, int(number or 0), int(seed or 0))
