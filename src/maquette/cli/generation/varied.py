"""Varying a record: one setting by --set, or a grid of two by --sweep. This module does not import torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from maquette.cli.generation.controls import read_curve, read_weight
from maquette.controlnet.choices import check_strength
from maquette.errors import MaquetteError
from maquette.formats.lora_file import LoraFile
from maquette.foundation.registry import unknown
from maquette.foundation.settings import check_prediction, read_value
from maquette.sampling.config import Sampling
from maquette.sampling.metadata import ControlRecord, Record
from maquette.sampling.speed import read_interval, without_parts

T = TypeVar("T", ControlRecord, LoraFile)

SAMPLING = (
    "speed", "steps", "guidance", "distilled_guidance", "sampler", "guidance_interval", "reuse", "decoder",
    "condition_in", "resolution_weights", "strength", "feather", "seed",
)  # fmt: skip
TEXTS = ("prompt", "negative_prompt", "base", "prediction")
OF_CONTROLS: dict[str, Callable[[str], Any]] = {
    "weight": read_weight, "start": read_value, "end": read_value, "balance": str, "curve": read_curve, "branch": str,
    "controlnet": str,
}  # fmt: skip
"""Settings of every control; with a number, as in weight.2, of that one."""

OF_LORAS: dict[str, tuple[str, Callable[[str], Any]]] = {"lora": ("file", str), "lora_weight": ("weight", read_value)}
"""Settings of every LoRA, numbered likewise: the field of `LoraFile`, and how it is parsed."""


def read_setting(name: str, text: str) -> Any:
    """Parse the value of a setting that can be varied. Raises `MaquetteError` for an unknown setting."""
    plain = name.partition(".")[0]
    if plain in OF_CONTROLS:
        return OF_CONTROLS[plain](text)
    if plain in OF_LORAS:
        return OF_LORAS[plain][1](text)
    if name == "guidance_interval":
        return read_interval(text)
    known = [*SAMPLING, *TEXTS, *OF_CONTROLS, *OF_LORAS]
    if name not in known:
        raise MaquetteError(unknown("setting to vary", name, known) + " Of the second control: weight.2.")
    return text if name in TEXTS else read_value(text)


def read_set(texts: Sequence[str]) -> dict[str, Any]:
    """Parse settings written NAME=VALUE.

    Raises `MaquetteError` for another form, and for an unknown or repeated setting.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name in found:
            raise MaquetteError(f"--set is NAME=VALUE, each name once, such as seed=7, not {text!r}.")
        found[name] = read_setting(name, value)
    return found


@dataclass(frozen=True)
class Sweep:
    """A setting, and the values that it takes."""

    name: str
    values: list[tuple[str, Any]]  # each as typed, and as parsed

    @staticmethod
    def read(text: str) -> "Sweep":
        """Parse NAME=VALUE,VALUE...

        Raises `MaquetteError` for another form, an unknown setting, and for fewer than two values.
        """
        name, _, listed = text.partition("=")
        if name in TEXTS:
            raise MaquetteError(f"{name} cannot be swept over; several prompts are given with --prompts FILE.")
        if name.partition(".")[0] in OF_LORAS:
            raise MaquetteError(f"{name} cannot be swept over: a LoRA is added once; run the command for each value.")
        values = [(value.strip(), read_setting(name, value.strip())) for value in listed.split(",") if value.strip()]
        if len(values) < 2:
            raise MaquetteError(f"--sweep is NAME=VALUE,VALUE,..., such as weight=0,0.5,1, not {text!r}.")
        return Sweep(name, values)


def read_sweeps(texts: Sequence[str]) -> list[Sweep]:
    """One or two sweeps: the columns of a sheet, and its rows.

    Raises `MaquetteError` for more, and for the same setting twice.
    """
    sweeps = [Sweep.read(text) for text in texts]
    if len(sweeps) > 2 or len({sweep.name for sweep in sweeps}) < len(sweeps):
        raise MaquetteError("A sheet has --sweep for its columns and for its rows: two different settings at most.")
    return sweeps


def cells(sweeps: Sequence[Sweep]) -> list[list[dict[str, Any]]]:
    """The settings of each image of a sheet, in rows: the first sweep's values from left to right."""
    columns, *rest = sweeps
    rows = [{sweep.name: value} for sweep in rest for _, value in sweep.values] or [{}]
    return [[{columns.name: value} | row for _, value in columns.values] for row in rows]


def nets_of(record: Record, sweeps: Sequence[Sweep]) -> list[str]:
    """All ControlNets that take part in a record and its variations on a sheet."""
    swept = [value for sweep in sweeps if sweep.name.startswith("controlnet") for _, value in sweep.values]
    return [*(control.controlnet for control in record.controls), *swept]


def check_cells(record: Record, sweeps: Sequence[Sweep]) -> None:
    """Check a record, and every variation of it on a sheet.

    Raises `MaquetteError` where `varied` does.
    """
    varied(record, {})
    for settings in (settings for row in (cells(sweeps) if sweeps else []) for settings in row):
        varied(record, settings)


def varied(record: Record, settings: dict[str, Any]) -> Record:
    """A record with other settings.

    Another speed decides steps, sampler and the rest anew, unless they are set too. What a command line is planned by
    holds a speed and only the parts that were typed: there they stay.

    Raises `MaquetteError` for a value out of range, and for a control or LoRA that the record does not have.
    """
    if "speed" in settings and "speed" not in record.settings:
        record = replace(record, settings=without_parts(record.settings))
    for name, value in settings.items():
        field, _, number = name.partition(".")
        if field in OF_CONTROLS:
            record = replace(record, controls=_changed(record.controls, "control", field, number, {field: value}))
        elif field in OF_LORAS:
            record = replace(record, loras=_changed(record.loras, "LoRA", field, number, {OF_LORAS[field][0]: value}))
        elif name in ("prompt", "base", "prediction"):
            record = replace(record, **{name: value})
        else:
            record = replace(record, settings={**record.settings, name: value})
    check_settings(record)
    return record


def check_settings(record: Record) -> None:
    """Raises `MaquetteError` for a setting out of range."""
    check_prediction(record.prediction)
    Sampling.check(**{name: record.settings.get(name) for name in SAMPLING})
    for control in record.controls:
        curve = [(done, factor) for done, factor in control.curve] if control.curve else None
        check_strength(control.weight, control.start, control.end, control.balance, curve, control.branch)


def _changed(items: Sequence[T], kind: str, name: str, number: str, change: dict[str, Any]) -> list[T]:
    """Controls or LoRAs with a change to the one of a number, or to all of them.

    Args:
        name: of the setting, for messages.
    """
    count = len(items)
    if not count:
        raise MaquetteError(f"There is no {kind} whose {name} could be set.")
    if number and not (number.isdecimal() and 1 <= int(number) <= count):
        raise MaquetteError(
            f"{kind[0].upper()}{kind[1:]}s are numbered from 1 to {count}; there is no {name}.{number}."
        )
    chosen = range(count) if not number else [int(number) - 1]
    return [replace(item, **change) if place in chosen else item for place, item in enumerate(items)]
