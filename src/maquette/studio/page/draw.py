"""The tab where one draws, steers, generates and looks."""

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from maquette.errors import MaquetteError
from maquette.sampling.speed import NEUTRAL, parts_on
from maquette.studio.http.again import read_record, request_values
from maquette.studio.page.canvas import editor_of
from maquette.studio.page.fields import Fields, add_controls, add_settings, add_words, brush_of
from maquette.studio.page.form import LAYERS, fields_of
from maquette.studio.page.making import Making, place_scene
from maquette.studio.page.results import add_results, chosen_image
from maquette.studio.pictures import png_of
from maquette.studio.requests.request import Request

Updates = dict[Any, Any]
SIZING = ("use", "source")  # of a control: whether it is a ready map, which decides the size where none is given


class Draw:
    """The tab: its layout, and what its parts do.

    Args:
        key: the visitor's session.
    """

    def __init__(self, page: Fields, making: Making, key: gr.BrowserState) -> None:
        self.page, self.making, self.key, self.words = page, making, key, page.words
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                add_controls(page)
            with gr.Column(scale=2, min_width=320):
                add_words(page)
                self.looking = add_results(page)
                self.begin = add_settings(page)
        self._wire_controls()
        self._wire_steering()
        self._wire_results()

    def values(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        """The values of the fields by name."""
        return {name: data[component] for name, component in self.page.inputs.items()}

    def restored(self, content: bytes) -> Updates:
        """The fields as the record in a PNG has them. Raises `MaquetteError` for one that cannot be made again."""
        engine = self.page.engine
        record = read_record(content, engine.limits)
        request = Request.read(request_values(record, engine.nets), engine.limits)
        request.check(engine.studio.base, engine.nets)
        fields = fields_of(request, engine, self.words)
        return {self.page.inputs[name]: _in_reach(self.page.inputs[name], value) for name, value in fields.items()}

    def offered(self) -> Updates:
        """The ControlNets that are there to choose from now."""
        choices = self.page.nets()
        return {self.page.inputs[f"layers.{number}.net"]: gr.update(choices=choices) for number in range(LAYERS)}

    def chosen(self, net: str) -> Updates:
        """The first control with a ControlNet, which is among those offered."""
        own = {self.page.inputs["layers.0.net"]: gr.update(choices=self.page.nets(), value=net)}
        return {**self.offered(), **own, self.page.inputs["layers.0.use"]: True}

    def _wire_controls(self) -> None:
        for number in range(LAYERS):
            own = {name: self.page.inputs[f"layers.{number}.{name}"] for name in ("canvas", "source", "net", "figure")}
            scene, place = self.page.scenes[number]
            place.click(
                self._place, scene, [own["canvas"], own["source"], self.page.errors[f"layers.{number}"]],
                api_visibility="private",
            )  # fmt: skip
            own["canvas"].upload(lambda: "picture", None, own["source"], api_visibility="private")
            own["net"].change(
                self._suited, [own["net"], own["source"]], [own["canvas"], own["source"]], api_visibility="private"
            )
            own["source"].change(
                _at_hand, own["source"], [own["canvas"], own["figure"]], show_progress="hidden",
                api_visibility="private",
            )  # fmt: skip
            balance, slots = (self.page.inputs[f"layers.{number}.{name}"] for name in ("balance", "slots"))
            balance.change(
                lambda chosen: gr.update(placeholder=self.page.balanced(chosen)), balance, slots,
                show_progress="hidden", api_visibility="private",
            )  # fmt: skip
            gr.on(
                [own["figure"].input, *(own[name].change for name in ("canvas", "source", "net"))],
                self._looker(number),
                set(self._read_by(number).values()),
                [self.page.maps[number], self.page.errors[f"layers.{number}"]],
                trigger_mode="always_last",
                show_progress="hidden",
                api_visibility="private",
            )

    def _wire_steering(self) -> None:
        own = {name: self.page.inputs[name] for name in ("speed", "rest", "steps", "sampler")}
        own["speed"].input(
            self._faster, [own["speed"], own["rest"]], [own["steps"], own["sampler"], own["rest"]],
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip
        sides = [self.page.inputs[name] for name in ("width", "height")]
        figures = [self.page.inputs[f"layers.{number}.figure"] for number in range(LAYERS)]
        gr.on(
            [side.change for side in sides], self._shaped, [*sides, *figures], figures, show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip
        fields = ["width", "height", *(f"layers.{number}.{name}" for number in range(LAYERS) for name in SIZING)]
        for number in range(LAYERS):
            gr.on(
                [self.page.inputs[name].change for name in fields if name != f"layers.{number}.source"],
                self._looker(number, again=True),
                set(self._read_by(number).values()),
                [self.page.maps[number], self.page.errors[f"layers.{number}"]],
                trigger_mode="always_last",
                show_progress="hidden",
                api_visibility="private",
            )

    def _shaped(self, width: int | None, height: int | None, *figures: Any) -> list[Any]:
        """Figures in the shape that the pictures will have."""
        ratio = width / height if width and height else 1.0
        return [{**figure, "ratio": ratio} for figure in figures]

    def _faster(self, speed: str, rest: dict[str, Any]) -> tuple[int, str, dict[str, Any]]:
        """The steps and the sampler that a speed decides, and the rest without parts of a record's own."""
        parts = parts_on(self.page.engine.studio.base, speed)
        return parts["steps"], parts["sampler"], {name: value for name, value in rest.items() if name not in NEUTRAL}

    def _read_by(self, number: int) -> dict[str, Any]:
        """The fields that the map of a control depends on: its own, and those that the size follows from."""
        sizing = [f"layers.{other}.{name}" for other in range(LAYERS) for name in (*SIZING, "canvas")]
        names = ["width", "height", *sizing]
        return {
            name: field
            for name, field in self.page.inputs.items()
            if name in names or name.startswith(f"layers.{number}.")
        }

    def _looker(self, number: int, again: bool = False) -> Any:
        """What shows the map of a control.

        Args:
            again: because its size may have changed, which concerns controls in use alone.
        """
        fields = self._read_by(number)

        def look(data: dict[Any, Any]) -> tuple[Any, Any]:
            values = {name: data[field] for name, field in fields.items()}
            if again and not (values[f"layers.{number}.use"] and values[f"layers.{number}.canvas"]):
                return gr.skip(), gr.skip()
            return self.making.look(values, number)

        return look

    def _suited(self, net: str | None, source: str) -> tuple[Any, Any]:
        """The brush that suits the condition of a ControlNet, and where its map may come from: people from a figure."""
        choices = self.page.sources(net)
        if choices[0][1] == "figure":
            source = "figure" if source == "drawing" else source
        else:
            source = "drawing" if source == "figure" else source
        brush = brush_of(self.page.engine.nets.get(net or ""))
        return gr.update(brush=brush), gr.update(choices=choices, value=source)

    def _place(self, number: float | None) -> tuple[Any, Any, str]:
        try:
            canvas, caption = place_scene(number)
        except MaquetteError as error:
            return gr.skip(), gr.skip(), str(error)
        return canvas, "picture", caption

    def _wire_results(self) -> None:
        looking = self.looking
        inputs = {*self.page.inputs.values(), self.key}
        shown = [looking.said, looking.gallery, looking.state, looking.preview, *self.page.errors.values()]
        for start in (looking.generate.click, self.page.inputs["prompt"].submit):
            start(
                self._generate, inputs, shown, concurrency_limit=32, concurrency_id="generate",
                show_progress="hidden", api_visibility="private",
            )  # fmt: skip
        looking.stop.click(self.making.stop, self.key, None, queue=False, api_visibility="private")
        looking.gallery.select(
            self._select, [looking.state, looking.chosen], [looking.chosen, looking.compare], api_visibility="private"
        )
        chosen, image = [looking.state, looking.chosen], self.page.inputs["image"]
        strength = self.page.inputs["strength"]
        for button, change in ((looking.as_start, 0.6), (looking.paint, 1.0)):
            button.click(
                self._starter(change), chosen, [image, strength, self.begin, looking.said], api_visibility="private"
            )
        looking.paint.click(None, js="() => { document.body.dataset.painting = ''; }", api_visibility="private")
        looking.again.click(self._again, chosen, [*self.page.inputs.values(), looking.said], api_visibility="private")

    def _generate(self, data: dict[Any, Any]) -> Iterator[Updates]:
        looking, errors = self.looking, self.page.errors
        yield {**dict.fromkeys(errors.values(), ""), looking.said: "…"}
        try:
            for sentence, pictures, preview in self.making.generate(self.values(data), data[self.key] or ""):
                yield {
                    looking.said: sentence,
                    looking.gallery: gr.update(value=pictures) if preview is None else gr.skip(),
                    looking.state: pictures,
                    looking.preview: gr.update(value=preview, visible=preview is not None),
                }
        except MaquetteError as error:
            place = self.page.place_of(error.field)
            yield {errors[place]: f"⚠ {error}", looking.said: "", looking.preview: gr.update(visible=False)}

    def _select(self, shown: Any, chosen: list[int], event: gr.SelectData) -> tuple[list[int], Any]:
        chosen = [*(one for one in chosen if one != event.index), event.index][-2:]
        pair = [shown[one][0] for one in chosen if one < len(shown)]
        return chosen, gr.update(value=tuple(pair), visible=True) if len(pair) == 2 else gr.skip()

    def _starter(self, change: float) -> Any:
        def start(shown: Any, chosen: list[int]) -> tuple[Any, Any, Any, str]:
            image = chosen_image(shown, chosen)
            if image is None:
                return gr.skip(), gr.skip(), gr.skip(), self.words("not_selected")
            return editor_of(image), change, gr.update(open=True), ""

        return start

    def _again(self, shown: Any, chosen: list[int]) -> Updates:
        image = chosen_image(shown, chosen)
        if image is None:
            return {self.looking.said: self.words("not_selected")}
        try:
            return {**self.restored(png_of(image)), self.looking.said: self.words("restored")}
        except MaquetteError as error:
            return {self.looking.said: f"⚠ {error}"}


def _in_reach(field: Any, value: Any) -> Any:
    """A value for a field; a slider that ends before it is made longer."""
    if not isinstance(field, gr.Slider) or value is None or field.minimum <= value <= field.maximum:
        return value
    return gr.update(value=value, minimum=min(field.minimum, value), maximum=max(field.maximum, value))


def _at_hand(source: str) -> tuple[Any, Any]:
    """The canvas, or the figure in its place; what is hidden keeps what is on it."""
    figure = source == "figure"
    return gr.update(visible="hidden" if figure else True), gr.update(visible=True if figure else "hidden")
