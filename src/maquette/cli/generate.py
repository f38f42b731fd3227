"""maquette generate"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from PIL import Image

    from maquette.base import Base
    from maquette.conditions.detect import Detector
    from maquette.controlnet.control import Control
    from maquette.sampling.metadata import Record

EXAMPLE = 'maquette generate house.png --condition canny --prompt "a red house in the snow" -o out.png'


CONTROL_OPTIONS = ("condition", "controlnet", "option", "is_map", "weight", "start", "end")  # these need an image


def run(
    context: typer.Context,
    image: Annotated[
        Path | None, typer.Argument(help="A photograph or drawing whose structure the result follows.")
    ] = None,
    condition: Annotated[
        str, typer.Option(help="The condition to extract from it: a detector's name; or any, with --map.")
    ] = "canny",
    prompt: Annotated[str, typer.Option(help="What to show.")] = "",
    base: Annotated[str, typer.Option(help="Base model: diorama; a folder, a file, or a name on the Hub.")] = "diorama",
    controlnet: Annotated[
        str | None, typer.Option(help="A folder, file or name on the Hub; default: the bundled one.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="A detector option, as NAME=VALUE.")] = None,
    is_map: Annotated[bool, typer.Option("--map", help="The image is already a condition map.")] = False,
    negative_prompt: Annotated[str, typer.Option(help="What not to show.")] = "",
    steps: Annotated[int | None, typer.Option(help="Sampling steps; default: the base's, such as 20.")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Classifier-free guidance; default: the base's, such as 9 (diorama: 4)."),
    ] = None,
    weight: Annotated[float, typer.Option(help="Factor on the control.")] = 1.0,
    start: Annotated[float, typer.Option(help="Fraction of the steps at which the control starts.")] = 0.0,
    end: Annotated[float, typer.Option(help="Fraction of the steps at which the control ends.")] = 1.0,
    condition_in: Annotated[str, typer.Option(help="Guidance branch: both, conditional or weighted.")] = "both",
    sampler: Annotated[
        str | None,
        typer.Option(
            help="ddim, ddpm, euler, euler-ancestral, heun, dpm++, dpm++-karras, unipc; default: the base's: ddim."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Image i starts from the noise of seed + i.")] = 0,
    count: Annotated[int, typer.Option(help="Number of images.")] = 1,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels; default: the base's size.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, the default; cuda, mps, or auto.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto.")] = "float32",
    low_memory: Annotated[bool, typer.Option(help="Keep only the running part of the model on the device.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="PNG file, by default out.png; several images are numbered.")
    ] = None,
    again: Annotated[Path | None, typer.Option(help="Generate an image again from the record in its PNG file.")] = None,
) -> None:
    """Generate images from a prompt that follow the structure of an image."""
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.cli.crop import detected, opened_map
    from maquette.conditions.labels import check_palette
    from maquette.controlnet.choices import check_strength
    from maquette.errors import MaquetteWarning
    from maquette.foundation.images import open_image
    from maquette.foundation.settings import check_device, check_dtype, read_named, read_size
    from maquette.sampling.config import Sampling
    from maquette.sampling.metadata import ControlRecord, Record

    sources = {name: getattr(context.get_parameter_source(name), "name", "") for name in context.params}
    typed = [name for name, source in sources.items() if source == "COMMANDLINE"]
    if device is not None:
        check_device(device)
    if again is not None:
        _check_again(typed)
        _again(again, output or again.with_stem(f"{again.stem}-again"), device, low_memory)
        return
    if image is None:
        _check_uncontrolled(typed)
    targets = _targets(output or Path("out.png"), count)
    photo = open_image(image) if image is not None else None
    frame = read_size(size) if size is not None else None
    options = read_named(option or [], "--option", "low=80")
    Sampling.check(steps=steps, guidance=guidance, sampler=sampler, condition_in=condition_in, seed=seed)
    check_dtype(dtype)
    local_base(base)
    detector_name = None if photo is None or is_map else _detector_of(condition, base, options)
    name = controlnet or f"{base}/{condition.removeprefix(f'{base}/')}"
    if photo is not None:
        check_strength(weight, start, end)
        local_controlnet(name)
    palette = options.pop("palette", None) if is_map else None
    if palette is not None:
        check_palette(palette)
    if is_map and options:
        message = "--option has no effect with --map, but for palette=NAME of a map of class numbers."
        warnings.warn(message, MaquetteWarning, stacklevel=2)
    detector = None if detector_name is None else _open(detector_name, condition, device or "cpu")
    from maquette.checkpoints.controlnets import load_contract  # torch from here on
    from maquette.sampling.size import check_size

    model = _load(base, device or "cpu", dtype, low_memory)
    frame = frame or (model.size, model.size)
    check_size(model, frame)
    control_records = []
    if photo is not None and image is not None:
        contract = load_contract(name)
        if detector is None:
            condition_map = opened_map(image, frame, condition, contract, palette)
        else:
            condition_map = detected(detector, photo, frame, contract, **options)
        control_records.append(ControlRecord(name, ControlRecord.pack(condition_map), weight, start, end))
    defaults = model.defaults
    settings: dict[str, Any] = {
        "negative_prompt": negative_prompt,
        "steps": steps if steps is not None else defaults.steps,
        "guidance": guidance if guidance is not None else defaults.guidance,
        "condition_in": condition_in,
        "sampler": sampler if sampler is not None else defaults.sampler,
        "seed": seed,
        "count": count,
        "size": list(frame),
    }
    precision = str(model.dtype).removeprefix("torch.")  # of "auto", the dtype chosen
    common = (base, prompt, precision, settings, control_records)
    records = [Record(*common, number, device=model.device.type) for number in range(count)]
    controls = _controls(records[0], model)
    if detector is not None:
        from maquette.conditions.registry import detectors

        controls[0].net.contract.check_detector(detector.spec.name, detectors)
    _write(_generate(records[0], model, controls), records, targets)


def _load(name: str, device: str, dtype: str, low_memory: bool) -> "Base":
    from maquette.checkpoints import load_base

    return load_base(name, device, dtype, low_memory=low_memory)


def _detector_of(condition: str, base: str, options: dict[str, Any]) -> str:
    """The name of a condition's detector, the base's own if it has one. Checks the options."""
    from maquette.conditions.registry import detector_spec, detectors
    from maquette.conditions.requirements import drawn_by
    from maquette.errors import MaquetteError

    name = drawn_by(condition, base)
    if name in detectors and detectors[name].outputs_text:
        raise MaquetteError(f"{name} writes text, which is not a condition map; give it as --prompt.")
    with _suggest_map(condition):
        detector_spec(name).options.given(name, options)
    return name


def _open(name: str, condition: str, device: str) -> "Detector":
    """Open the detector before the base is loaded, so that missing weights fail early."""
    from maquette.conditions.detect import Detector

    with _suggest_map(condition):
        return Detector(name, device=device)


@contextmanager
def _suggest_map(condition: str) -> Iterator[None]:
    """Add to a detector's errors that a condition map can be passed instead."""
    from maquette.errors import MaquetteError

    try:
        yield
    except MaquetteError as error:
        raise MaquetteError(f"{error} Or give a {condition} map with --map.") from None


def _controls(record: "Record", model: "Base") -> "list[Control]":
    from maquette.checkpoints import load_controlnet
    from maquette.controlnet.control import Control

    return [
        Control(load_controlnet(control.controlnet, model), control.image(), control.weight, control.start, control.end)
        for control in record.controls
    ]


def _generate(record: "Record", model: "Base", controls: "list[Control]") -> "list[Image.Image]":
    """Generate all images of the batch that a record describes, with a progress bar."""
    from maquette.foundation.progress import steps_bar
    from maquette.sampling.generate import generate

    settings = {**record.settings, "size": tuple(record.settings["size"])}
    with steps_bar("generating") as progress:
        return generate(model, record.prompt, controls, **settings, progress=progress)


def _check_again(typed: list[str]) -> None:
    """Refuse options that contradict the record."""
    from maquette.errors import MaquetteError

    others = sorted(set(typed) - {"again", "output", "device", "low_memory"})
    if others:
        raise MaquetteError(
            f"--again takes all settings from the image's record; leave {_options(others)} out, or generate without "
            "--again."
        )


def _check_uncontrolled(typed: list[str]) -> None:
    from maquette.errors import MaquetteError

    unused = [name for name in typed if name in CONTROL_OPTIONS]
    if unused:
        raise MaquetteError(f"Without an image there is no control for {_options(unused)} to act on; give the image.")


def _options(names: list[str]) -> str:
    """The options as they are typed."""
    special = {"image": "the image", "is_map": "--map"}
    return ", ".join(special.get(name, f"--{name.replace('_', '-')}") for name in names)


def _again(path: Path, output: Path, device: str | None, low_memory: bool) -> None:
    """Generate one image again from its record."""
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.errors import MaquetteWarning
    from maquette.foundation.files import check_pngs
    from maquette.sampling.metadata import Record

    check_pngs([output])
    record = Record.load(path)
    local_base(record.base)
    for control in record.controls:
        local_controlnet(control.controlnet)
    model = _load(record.base, device or record.device, record.dtype, low_memory)
    if model.device.type != record.device:
        warnings.warn(
            f"{str(path)!r} was generated on {record.device}; on {model.device.type} it is the same up to rounding.",
            MaquetteWarning,
            stacklevel=2,
        )
    _write([_generate(record, model, _controls(record, model))[record.number]], [record], [output])


def _targets(output: Path, count: int) -> list[Path]:
    """One path per image, numbered from 1 if there are several."""
    from maquette.errors import MaquetteError
    from maquette.foundation.files import check_pngs

    if count < 1:
        raise MaquetteError(f"count is a whole number of 1 or more, not {count}.")
    check_pngs([output])
    if count == 1:
        return [output]
    targets = [output.with_stem(f"{output.stem}-{number}") for number in range(1, count + 1)]
    check_pngs(targets)
    return targets


def _write(images: "list[Image.Image]", records: "list[Record]", targets: list[Path]) -> None:
    for image, record, path in zip(images, records, targets, strict=True):
        record.save(image, path)
        print(path)
