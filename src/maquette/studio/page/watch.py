"""The part of the page where trainings are watched, stopped, resumed and put to use."""

from typing import Any

import gradio as gr

from maquette.errors import MaquetteError
from maquette.studio.page.curve import drawn
from maquette.studio.page.draw import Draw
from maquette.studio.page.fields import error_line
from maquette.studio.trainings.read import Training, grid, seconds_left
from maquette.studio.trainings.run import Trainings

EVERY = 2  # seconds between looks
MINUTE = 60
Updates = dict[Any, Any]


class Watch:
    """One training at a time of those that are there, as its folder tells of it.

    Args:
        draw: where a trained ControlNet is used.
        tabs: of the page; `draw` has the id "draw".
    """

    def __init__(self, trainings: Trainings, draw: Draw, tabs: gr.Tabs) -> None:
        self.trainings, self.draw, self.words, self.tabs = trainings, draw, draw.words, tabs
        words = self.words
        self.chosen = gr.Dropdown([], value=None, label=words("trainings"), elem_id="trainings")
        self.said = gr.Markdown(words("no_training"), elem_classes="said", elem_id="training-said", container=False)
        self.curve = gr.HTML(elem_id="curve")
        with gr.Row():
            self.stop = gr.Button(words("stop_training"), interactive=False, elem_id="stop-training", min_width=100)
            self.use = gr.Button(
                words("use_net"), variant="primary", interactive=False, elem_id="use-net", min_width=100
            )
        with gr.Row(elem_classes="scene"):
            self.until = gr.Number(
                0, label=words("until"), precision=0, minimum=0, min_width=160, elem_id="until"
            )  # fmt: skip
            self.resume = gr.Button(words("resume"), interactive=False, elem_id="resume-training", min_width=100)
        self.error = error_line()
        self.grid = gr.Image(
            label=words("grid"), interactive=False, visible=False, format="png", buttons=["fullscreen"],
            elem_id="training-grid",
        )  # fmt: skip
        self.at = gr.Slider(0, 1, 0, step=1, label=words("grid_at"), visible=False, elem_id="grid-at")
        self.seen = gr.State({})
        self.inputs = [self.chosen, self.seen, self.at]
        self.outputs = [
            self.chosen, self.seen, self.at, self.said, self.curve, self.grid, self.stop, self.resume, self.use,
            self.error,
        ]  # fmt: skip
        self._wire()

    def _wire(self) -> None:
        timer = gr.Timer(EVERY)
        timer.tick(self.follow, self.inputs, self.outputs, show_progress="hidden", api_visibility="private")
        self.chosen.input(self.follow, self.inputs, self.outputs, show_progress="hidden", api_visibility="private")
        self.at.release(self._turn, [self.chosen, self.at], self.grid, show_progress="hidden", api_visibility="private")
        self.stop.click(self._stop, self.chosen, self.error, api_visibility="private")
        self.resume.click(self._resume, [self.chosen, self.until], self.error, api_visibility="private")
        used = [*self.draw.chosen("").keys(), self.tabs, self.draw.looking.said, self.error]
        self.use.click(self._use, self.chosen, used, api_visibility="private")

    def begun(self, training: Training) -> Updates:
        """Watch a training that was just started."""
        return {
            self.chosen: gr.update(choices=self._choices(self.trainings.listed()), value=training.name),
            self.seen: {},
            self.error: "",
        }

    def follow(self, name: str | None, seen: dict[str, Any], at: int) -> Updates:
        """What has changed since the last look.

        Args:
            name: of the training; None for the newest.
            seen: what the last look saw.
            at: the step of the measurement whose pictures are shown.
        """
        listed = self.trainings.listed()
        found = {training.name: training for training in listed}
        training = found.get(name or "") or next(iter(listed), None)
        choices = self._choices(listed)
        updates: Updates = {}
        if choices != seen.get("choices"):
            updates[self.chosen] = gr.update(choices=choices, value=training.name if training else None)
        now: dict[str, Any] = {
            "choices": choices,
            "name": training and training.name,
            "stamp": training and training.stamp,
        }
        if training is not None and (now["name"], now["stamp"]) != (seen.get("name"), seen.get("stamp")):
            updates |= self._view(training) | self._pictures(training, at, seen if seen.get("name") == name else {})
            now["grids"] = len(training.grids())
            updates[self.seen] = now
        elif updates:
            updates[self.seen] = {**seen, **now}
        return updates or {self.said: gr.skip()}

    def _view(self, training: Training) -> Updates:
        """The words, the curve and the buttons."""
        log, config = training.log, training.config
        dated = log.dated() if config else None
        last = config.max_steps if config else 0
        return {
            self.said: self._sentence(training, dated),
            self.curve: drawn(log, last, dated[0] if dated else None, self.words),
            self.stop: gr.update(interactive=training.state == "running"),
            self.resume: gr.update(interactive=training.state != "running"),
            self.use: gr.update(interactive=training.state == "finished"),
        }

    def _sentence(self, training: Training, dated: tuple[int, bool] | None) -> str:
        """How far it is, and whether it has converged."""
        words, lines = self.words, training.log.lines()
        step, last = lines[-1]["step"] if lines else 0, training.config.max_steps if training.config else 0
        if training.state == "running" and not lines:
            return f"{words('preparing')} {training.printed}"
        if training.state == "running":
            parts = [words("progress", step, last, self._left(seconds_left(lines, last)))]
        else:
            parts = [words(f"is_{training.state}", step, last)]
        if dated is not None:
            parts.append(words("converged" if dated[1] else "converged_so_far", dated[0]))
        elif training.log.curve()[0]:
            parts.append(words("not_converged"))
        if training.failure:
            parts.append(f"⚠ {training.failure}")
        return " ".join(parts)

    def _left(self, seconds: float | None) -> str:
        if seconds is None:
            return ""
        minutes = seconds >= 2 * MINUTE
        return self.words("left_minutes", round(seconds / MINUTE)) if minutes else self.words("left", round(seconds))

    def _pictures(self, training: Training, at: int, seen: dict[str, Any]) -> Updates:
        """The newest pictures, unless one looks at older ones."""
        grids = training.grids()
        steps = [_step(path.stem) for path in grids]
        if not grids:
            return {self.grid: gr.update(visible=False), self.at: gr.update(visible=False)}
        if seen.get("grids") == len(grids):
            return {}
        before = steps[seen["grids"] - 1] if seen.get("grids") else steps[-1]
        newest = at >= before or not seen.get("grids")
        shown = {self.grid: gr.update(value=grid(grids[-1]), visible=True)} if newest else {}
        ends = {"minimum": steps[0], "maximum": max(steps[-1], steps[0] + 1)}
        value = {"value": steps[-1]} if newest else {}
        return {**shown, self.at: gr.update(visible=len(grids) > 1, **ends, **value)}

    def _turn(self, name: str | None, at: int) -> Any:
        """The pictures of the last measurement up to a step."""
        grids = self.trainings.training(name).grids() if name else []
        older = [path for path in grids if _step(path.stem) <= at]
        return gr.update(value=grid((older or grids)[-1])) if grids else gr.skip()

    def _stop(self, name: str | None) -> str:
        return self._tried(lambda: self.trainings.stop(name or ""))

    def _resume(self, name: str | None, until: int | None) -> str:
        def resume() -> None:
            training = self.trainings.training(name or "")
            if training.state == "finished" and training.config and (until or 0) <= training.config.max_steps:
                raise MaquetteError(self.words("finished_already", training.config.max_steps))
            self.trainings.resume(training.name, until or None)

        return self._tried(resume)

    def _use(self, name: str | None) -> Updates:
        """Offer the ControlNet of a training, and choose it."""
        engine = self.draw.page.engine
        try:
            net, condition = self.trainings.training(name or "").net_on(self.trainings.base)
        except MaquetteError as error:
            return {self.error: f"⚠ {error}"}
        engine.offer(net, condition)
        said = self.words("used", net)
        return {
            **self.draw.chosen(net),
            self.tabs: gr.Tabs(selected="draw"),
            self.draw.looking.said: said,
            self.error: "",
        }

    def _tried(self, act: Any) -> str:
        """What went wrong, in words."""
        try:
            act()
        except MaquetteError as error:
            return f"⚠ {error}"
        return ""

    def _choices(self, listed: list[Training]) -> list[tuple[str, str]]:
        return [(f"{training.name} · {self.words('state_' + training.state)}", training.name) for training in listed]


def _step(stem: str) -> int:
    """The step in the name of a measurement's pictures."""
    return int(stem.removeprefix("step-"))
