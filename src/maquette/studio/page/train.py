"""The tab where trainings are started: on scenes of the diorama, or on a folder of pairs, looked through first."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import gradio as gr

from maquette.data.check import Report
from maquette.diorama.constants import CONDITIONS
from maquette.errors import MaquetteError
from maquette.foundation.bundle import PACKAGES
from maquette.studio.page.draw import Draw
from maquette.studio.page.fields import error_line
from maquette.studio.page.watch import Watch
from maquette.studio.requests.fields import about
from maquette.studio.trainings.pairs import look_through
from maquette.studio.trainings.run import Trainings

ROWS = 200  # broken ones that are listed
KEPT = 50  # steps between the ControlNets that are kept for the tab Learn, which there is with the bundled bases
Updates = dict[Any, Any]


class Train:
    """The tab.

    Args:
        draw: where a trained ControlNet is used.
        tabs: of the page; `draw` has the id "draw".
    """

    def __init__(self, trainings: Trainings, draw: Draw, tabs: gr.Tabs) -> None:
        self.trainings, self.words, self.base = trainings, draw.words, draw.page.engine.studio.base
        self.inputs: dict[str, Any] = {}
        self.errors: dict[str, gr.Markdown] = {}
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                check = self._add_data()
                start = self._add_settings()
            with gr.Column(scale=3, min_width=320):
                self.watch = Watch(trainings, draw, tabs)
        inputs = set(self.inputs.values())
        found = [self.found, self.grid, *self.errors.values()]
        check.click(self._check, inputs, found, concurrency_limit=1, api_visibility="private")
        started = start.click(
            self._start, inputs, [*found, *self.watch.outputs], concurrency_limit=1, api_visibility="private"
        )
        started.then(self.watch.follow, self.watch.inputs, self.watch.outputs, api_visibility="private")

    def _add_data(self) -> gr.Button:
        """What to train on; returns the button that looks it through."""
        words, own = self.words, self.inputs
        kinds = [(words("of_diorama"), "diorama"), (words("of_pairs"), "pairs")]
        own["of"] = gr.Radio(kinds, value="diorama", label=words("train_on"), elem_id="train-on")
        with gr.Row() as scenes:
            own["condition"] = gr.Dropdown(words.choices(CONDITIONS), value="canny", label=words("condition"))
            own["scenes"] = gr.Number(
                4000, label=words("scenes"), precision=0, minimum=1, min_width=120, elem_id="scenes"
            )
        with gr.Column(visible=False) as pairs:
            own["folder"] = gr.Dropdown(
                self.trainings.data_sets(), value=None, label=words("folder"), info=words("folder_hint"),
                allow_custom_value=True, elem_id="pairs",
            )  # fmt: skip
            self.errors["folder"] = error_line()
            own["own_condition"] = gr.Textbox(
                label=words("own_condition"), placeholder="canny", max_length=60, elem_id="own-condition"
            )
            own["detect"] = gr.Checkbox(False, label=words("detect"))
            check = gr.Button(words("check"), elem_id="check")
            self.found = gr.HTML(elem_id="found", elem_classes="found")
            self.grid = gr.Image(
                label=words("as_seen"), interactive=False, visible=False, format="png", buttons=[], elem_id="pairs-grid"
            )
        own["of"].change(
            lambda of: (gr.update(visible=of == "diorama"), gr.update(visible=of == "pairs")),
            own["of"], [scenes, pairs], api_visibility="private",
        )  # fmt: skip
        return check

    def _add_settings(self) -> gr.Button:
        """How to train; returns the button that starts."""
        words, own = self.words, self.inputs
        with gr.Row():
            own["max_steps"] = gr.Number(
                400, label=words("train_steps"), precision=0, minimum=1, min_width=110, elem_id="train-steps"
            )
            own["batch_size"] = gr.Number(
                32, label=words("batch"), precision=0, minimum=1, min_width=110, elem_id="batch"
            )
        with gr.Accordion(words("more_settings"), open=False):
            with gr.Row():
                own["evaluate_every"] = gr.Number(
                    25, label=words("every"), precision=0, minimum=1, min_width=110, elem_id="every"
                )
                own["held_out"] = gr.Number(
                    16, label=words("held_out"), precision=0, minimum=1, min_width=110, elem_id="held-out"
                )
            own["keep_every"] = gr.Number(
                KEPT if self.base.name in PACKAGES else 0, label=words("keep_every"),
                info=words("keep_every_hint"), precision=0, minimum=0, elem_id="keep-every",
            )  # fmt: skip
            own["learning_rate"] = gr.Number(
                0, label=words("rate"), info=words("rate_hint"), step=1e-5, minimum=0, elem_id="rate"
            )
            own["name"] = gr.Textbox(label=words("name"), info=words("name_hint"), max_length=64, elem_id="name")
        self.errors["name"] = error_line()
        start = gr.Button(words("start_training"), variant="primary", elem_id="start-training")
        self.errors[""] = error_line()
        return start

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a training. Raises `MaquetteError` for a folder or a condition that cannot be."""
        named = {name: values[name] for name in ("max_steps", "batch_size", "evaluate_every", "held_out", "keep_every")}
        if values["learning_rate"]:
            named["learning_rate"] = float(values["learning_rate"])
        if values["of"] == "diorama":
            return {**named, "condition": values["condition"], "scenes": values["scenes"]}
        data, condition = self.trainings.data(values["folder"] or ""), (values["own_condition"] or "").strip()
        if not condition:
            with about("folder"):
                raise MaquetteError(self.words("no_condition"))
        return {**named, "condition": condition, "data": data, **({"detect": True} if values["detect"] else {})}

    def _values(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        return {name: data[component] for name, component in self.inputs.items()}

    def _check(self, data: dict[Any, Any], progress: gr.Progress = gr.Progress(track_tqdm=True)) -> Updates:  # noqa: B008
        try:
            report = look_through(self.settings(self._values(data)), self.base.size)
        except MaquetteError as error:
            return self._said(error)
        return {**self._silent(), **self._shown(report)}

    def _start(
        self, data: dict[Any, Any], progress: gr.Progress = gr.Progress(track_tqdm=True)  # noqa: B008
    ) -> Iterator[Updates]:  # fmt: skip
        yield {**self._silent(), self.found: "", self.grid: gr.update(visible=False)}
        try:
            values = self._values(data)
            settings = self.settings(values)
            if "data" in settings:
                report = look_through(settings, self.base.size)
                yield self._shown(report)
                if not report.usable:
                    raise MaquetteError(self.words("none_usable"))
            training = self.trainings.start((values["name"] or "").strip(), settings)
        except MaquetteError as error:
            yield self._said(error)
        else:
            yield self.watch.begun(training)

    def _shown(self, report: Report) -> Updates:
        return {
            self.found: findings(report, self.words),
            self.grid: gr.update(value=report.grid, visible=report.grid is not None),
        }

    def _silent(self) -> Updates:
        return dict.fromkeys(self.errors.values(), "")

    def _said(self, error: MaquetteError) -> Updates:
        """An error beside the field that it is about."""
        place = error.field if error.field in self.errors else ""
        return {**self._silent(), self.errors[place]: f"⚠ {error}"}


def findings(report: Report, words: Any) -> str:
    """What was found in a data set, as HTML: the broken rows with their reasons first."""
    said = f"<p>{escape(words('checked', report.usable, len(report.faults)))}</p>"
    rows = "".join(
        f"<tr><td>{escape(fault.where)}</td><td>{escape(fault.reason)}</td></tr>" for fault in report.faults[:ROWS]
    )
    heads = "".join(f'<th scope="col">{escape(words(key))}</th>' for key in ("row", "reason"))
    faults = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
    rest = max(0, len(report.faults) - ROWS)
    more = f"<p>{escape(words('more_rows', rest))}</p>" if rest else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    return said + faults + more + (f"<ul>{notes}</ul>" if notes else "")
