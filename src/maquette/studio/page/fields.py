"""What one sees of a request: the page's fields by name, as `form` reads them, and where errors are said."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

import gradio as gr

from maquette.conditions.drawing.class_maps import DIORAMA_PALETTE
from maquette.controlnet.choices import SOFTER, slot_factors
from maquette.diorama.things import CLASSES
from maquette.sampling.speed import Speed
from maquette.studio.engine import Engine
from maquette.studio.page.canvas import SIDE
from maquette.studio.page.figure import add_figure, takes_figures
from maquette.studio.page.form import LAYERS
from maquette.studio.page.strings import Strings

BRUSH = 10  # pixels of the canvas
PLAIN_COLOURS = ["#000000", "#ffffff"]


@dataclass
class Fields:
    """The fields of a page.

    Args:
        inputs: by the names that `form` reads.
        errors: where errors are said: of "layers.0" and so on, of "image", and of all else under "".
        maps: what each control gives the model.
    """

    engine: Engine
    words: Strings
    inputs: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, gr.Markdown] = field(default_factory=dict)
    maps: list[gr.Image] = field(default_factory=list)
    scenes: list[tuple[gr.Number, gr.Button]] = field(default_factory=list)

    def nets(self) -> list[tuple[str, str]]:
        """The ControlNets to choose from, in words: by their condition, and by name where they are not its first."""
        nets = self.engine.nets
        firsts = {condition: net for net, condition in reversed(nets.items())}
        labels = {condition: label for label, condition in self.words.choices(firsts)}
        return [
            (labels[condition] if firsts[condition] == net else f"{labels[condition]} · {net}", net)
            for net, condition in nets.items()
        ]

    def sources(self, net: str | None) -> list[tuple[str, str]]:
        """Where the map of a control may come from: a figure is for conditions that show people."""
        figure = takes_figures(self.engine.nets.get(net or ""), self.engine.studio.base.name)
        return self.words.choices((*(["figure"] if figure else []), "drawing", "picture", "map"))

    def balanced(self, balance: str) -> str:
        """What a balance multiplies the control by at each slot of the base, in words."""
        factors = slot_factors(balance, len(self.engine.studio.base.backbone.slots))
        return ", ".join(f"{factor:.2g}" for factor in factors)

    def place_of(self, name: str | None) -> str:
        """The key in `errors` of where an error about a field is said."""
        name = name or ""
        layer = ".".join(name.split(".")[:2])
        if layer in self.errors:
            return layer
        return "image" if name in ("image", "mask", "strength", "feather") else ""


def error_line() -> gr.Markdown:
    """A line that screen readers speak when it changes."""
    return gr.Markdown("", elem_classes="said", container=False)


def add_controls(page: Fields) -> None:
    """Tabs of up to three controls, each with its canvas and its map."""
    for number in range(LAYERS):
        with gr.Tab(page.words("control", number + 1)):
            _add_layer(page, number)


def _add_layer(page: Fields, number: int) -> None:
    words, nets = page.words, page.engine.nets
    first = next((net for net, condition in nets.items() if condition == "scribble"), next(iter(nets), None))
    with page_part(page, f"layers.{number}") as own:
        with gr.Row():
            own["use"] = gr.Checkbox(number == 0, label=words("use"), scale=1)
            own["net"] = gr.Dropdown(
                page.nets(), value=first, label=words("condition"), scale=2, elem_id=f"net-{number}"
            )
        own["rest"] = gr.State({})
        own["source"] = gr.Radio(
            page.sources(first), value="drawing", label=words("source"), container=False, elem_id=f"source-{number}"
        )
        with gr.Row():
            with gr.Column(min_width=300, scale=5):
                own["canvas"] = canvas(words("canvas"), brush_of(nets.get(first or "")), f"canvas-{number}")
                own["figure"] = add_figure(words, f"figure-{number}")
            with gr.Column(min_width=220, scale=3):
                map_ = gr.Image(
                    label=words("given"), interactive=False, format="png", type="pil", buttons=["download"],
                    elem_classes="crisp", elem_id=f"map-{number}", height=280,
                )  # fmt: skip
                with gr.Row(elem_classes="scene"):
                    scene = gr.Number(
                        7, label=words("scene"), precision=0, minimum=0, min_width=90, elem_id=f"scene-{number}"
                    )
                    place = gr.Button(words("place"), size="md", min_width=90, elem_id=f"place-{number}")
        page.errors[f"layers.{number}"] = error_line()
        own["weight"] = gr.Slider(0, 2, 1, step=0.05, label=words("weight"))
        with gr.Accordion(words("more"), open=False):
            with gr.Row():
                own["start"] = gr.Slider(0, 1, 0, step=0.05, label=words("start"), min_width=140)
                own["end"] = gr.Slider(0, 1, 1, step=0.05, label=words("end"), min_width=140)
            sides = (("balanced", "balanced"), ("prompt_first", "prompt"), ("control_first", "control"))
            own["balance"] = gr.Radio(
                [(words(key), side) for key, side in sides], value="balanced", label=words("balance"),
                info=words("balance_hint", SOFTER), elem_id=f"balance-{number}",
            )  # fmt: skip
            own["slots"] = gr.Textbox(
                label=words("slots"), placeholder=page.balanced("balanced"), max_length=2000, elem_id=f"slots-{number}",
                info=words("slots_hint", len(page.engine.studio.base.backbone.slots)),
            )  # fmt: skip
            gr.Markdown(words("region_hint"))
            own["region"] = canvas(words("region"), gr.Brush(30, ["#ffffff"], color_mode="fixed"), f"region-{number}")
    page.maps.append(map_)
    page.scenes.append((scene, place))


def add_words(page: Fields) -> None:
    """The prompt."""
    label, hint = page.words("prompt"), page.words("prompt_hint")
    page.inputs["prompt"] = gr.Textbox(label=label, placeholder=hint, elem_id="prompt", max_length=4000)


def add_settings(page: Fields) -> gr.Accordion:
    """How pictures are made, besides words and controls; returns the part with the start image."""
    words, usual, own, limits = page.words, page.engine.studio.base.defaults, page.inputs, page.engine.limits
    own["rest"] = gr.State({})
    with gr.Accordion(words("settings"), open=False):
        _add_size(page)
        own["negative_prompt"] = gr.Textbox(label=words("negative_prompt"))
        kinds = words.choices(("user", "none", "default", "automatic"))
        own["prompt_kind"] = gr.Dropdown(kinds, value="user", label=words("prompt_kind"))
        own["speed"] = gr.Radio(
            [(words(f"speed_{speed}"), speed) for speed in get_args(Speed)], value="exact", label=words("speed"),
            elem_id="speed",
        )  # fmt: skip
        with gr.Row():
            own["steps"] = gr.Slider(1, limits.steps, usual.steps, step=1, label=words("steps"), min_width=140)
            own["guidance"] = gr.Slider(1, 20, usual.guidance, step=0.1, label=words("guidance"), min_width=140)
        with gr.Row():
            own["sampler"] = gr.Dropdown(
                list(page.engine.studio.base.noise.samplers), value=usual.sampler, label=words("sampler"), min_width=140
            )
            own["seed"] = gr.Number(0, label=words("seed"), precision=0, minimum=0, min_width=100, elem_id="seed")
        own["count"] = gr.Slider(1, limits.count, 1, step=1, label=words("count"))
    with gr.Accordion(words("begin"), open=False) as begin:
        gr.Markdown(words("image_hint"))
        own["image"] = canvas(words("image"), gr.Brush(30, ["#ffffff"], color_mode="fixed"), "start")
        own["strength"] = gr.Slider(0.05, 1, 0.6, step=0.05, label=words("strength"))
        page.errors["image"] = error_line()
    return begin


def _add_size(page: Fields) -> None:
    step, hint = page.engine.studio.base.size_multiple, page.words("size_hint")
    with gr.Row():
        for name in ("width", "height"):
            page.inputs[name] = gr.Number(
                None, label=page.words(name, step), info=hint, precision=0, step=step, min_width=140,
                elem_id=name,
            )  # fmt: skip


def canvas(label: str, brush: gr.Brush, name: str) -> gr.ImageEditor:
    """An editor with one layer of strokes over a picture."""
    return gr.ImageEditor(
        label=label, type="pil", image_mode="RGBA", format="png", brush=brush, eraser=gr.Eraser(20), elem_id=name,
        sources=("upload", "clipboard"), transforms=(), layers=gr.LayerOptions(allow_additional_layers=False),
        canvas_size=(SIDE, SIDE), buttons=[], height=430, elem_classes="crisp",
    )  # fmt: skip


def brush_of(condition: str | None) -> gr.Brush:
    """Black for lines; for regions the colours of the diorama's classes."""
    if condition != "segmentation":
        return gr.Brush(BRUSH, PLAIN_COLOURS, default_color=PLAIN_COLOURS[0])
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in DIORAMA_PALETTE.tolist()]
    return gr.Brush(3 * BRUSH, colours, default_color=colours[CLASSES.index("house")], color_mode="fixed")


@contextmanager
def page_part(page: Fields, prefix: str) -> Iterator[dict[str, Any]]:
    """Fields under a prefix, put in by their short names."""
    own: dict[str, Any] = {}
    yield own
    page.inputs |= {f"{prefix}.{name}": component for name, component in own.items()}
