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


OF_A_IMAGE = ("condition", "controlnet", "option", "map_given", "weight", "start", "end")  # options that steer by one


def run(
    words: typer.Context,
    image: Annotated[
        Path | None, typer.Argument(help="A photograph or drawing whose shapes the result follows.")
    ] = None,
    condition: Annotated[
        str, typer.Option(help="What to take from it: a detector's name; or any, with --map.")
    ] = "canny",
    prompt: Annotated[str, typer.Option(help="What to show.")] = "",
    base: Annotated[str, typer.Option(help="Base model: diorama; a folder, a file, or a name on the Hub.")] = "diorama",
    controlnet: Annotated[
        str | None, typer.Option(help="A folder, file or name on the Hub; without, the bundled one.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="An option of the detector, as NAME=VALUE.")] = None,
    map_given: Annotated[bool, typer.Option("--map", help="The image is a condition map already.")] = False,
    negative_prompt: Annotated[str, typer.Option(help="What not to show.")] = "",
    steps: Annotated[int | None, typer.Option(help="Sampling steps; without, the base's own: 20.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Classifier-free guidance; without, the base's own: 9, the diorama's 4.")
    ] = None,
    weight: Annotated[float, typer.Option(help="Factor on the control.")] = 1.0,
    start: Annotated[float, typer.Option(help="Share of the steps after which the control sets in.")] = 0.0,
    end: Annotated[float, typer.Option(help="Share of the steps after which it is left out.")] = 1.0,
    condition_in: Annotated[str, typer.Option(help="Guidance branch: both, conditional or weighted.")] = "both",
    sampler: Annotated[
        str | None,
        typer.Option(
            help="ddim, ddpm, euler, euler-ancestral, heun, dpm++, dpm++-karras, unipc; without, the base's own: ddim."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Image i starts from the noise of seed + i.")] = 0,
    count: Annotated[int, typer.Option(help="How many images.")] = 1,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels; without, the base's own.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, the default; cuda, mps, or auto.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto.")] = "float32",
    low_memory: Annotated[bool, typer.Option(help="Keep on the device only the part at work.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write, else out.png; several get numbers.")
    ] = None,
    again: Annotated[Path | None, typer.Option(help="Make an image again from its own record.")] = None,
) -> None:
    """Generate images that follow an image's shapes and a prompt."""
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.cli.crop import framed
    from maquette.conditions.requirements import is_categorical
    from maquette.controlnet.choices import check_strength
    from maquette.errors import MaquetteWarning
    from maquette.foundation.images import open_image
    from maquette.foundation.settings import check_device, check_dtype, read_named, read_size
    from maquette.sampling.config import Sampling
    from maquette.sampling.metadata import ControlRecord, Record

    given = [name for name in words.params if getattr(words.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if device is not None:
        check_device(device)
    if again is not None:
        _check_alone(given)
        _again(again, output or again.with_stem(f"{again.stem}-again"), device, low_memory)
        return
    if image is None:
        _check_unsteered(given)
    targets = _targets(output or Path("out.png"), count)
    source = open_image(image) if image is not None else None
    asked = read_size(size) if size is not None else None
    options = read_named(option or [], "--option", "low=80")
    asked_of_sampling = {"steps": steps, "guidance": guidance, "sampler": sampler}
    Sampling.check(**asked_of_sampling, condition_in=condition_in, seed=seed)
    check_dtype(dtype)
    local_base(base)
    detector_name = None if source is None or map_given else _detector_of(condition, base, options)
    name = controlnet or f"{base}/{condition.removeprefix(f'{base}/')}"
    if source is not None:
        check_strength(weight, start, end)
        local_controlnet(name)
    if map_given and options:
        warnings.warn("--option has no effect on a map that is given.", MaquetteWarning, stacklevel=2)
    detector = None if detector_name is None else _open(detector_name, condition, device or "cpu")
    from maquette.sampling.size import check_size  # torch from here on

    model = _load(base, device or "cpu", dtype, low_memory)
    wanted = asked or (model.size, model.size)
    check_size(model, wanted)
    controls = []
    if source is not None:
        shown = framed(source, wanted, categorical=map_given and is_categorical(condition))
        if detector is not None:
            shown = detector(shown, **options)
        controls.append(ControlRecord(name, ControlRecord.pack(shown), weight, start, end))
    own = model.defaults
    settings: dict[str, Any] = {
        "negative_prompt": negative_prompt,
        "steps": steps if steps is not None else own.steps,
        "guidance": guidance if guidance is not None else own.guidance,
        "condition_in": condition_in,
        "sampler": sampler if sampler is not None else own.sampler,
        "seed": seed,
        "count": count,
        "size": list(wanted),
    }
    precision = str(model.dtype).removeprefix("torch.")  # what "auto" came to
    made_with = (base, prompt, precision, settings, controls)
    records = [Record(*made_with, number, device=model.device.type) for number in range(count)]
    made = _controls(records[0], model)
    if detector is not None:
        from maquette.conditions.registry import detectors

        made[0].net.contract.check_detector(detector.spec.name, detectors)
    _write(_make(records[0], model, made), records, targets)


def _load(name: str, device: str, dtype: str, low_memory: bool) -> "Base":
    from maquette.checkpoints import load_base

    return load_base(name, device, dtype, low_memory=low_memory)


def _detector_of(condition: str, base: str, options: dict[str, Any]) -> str:
    """The name of a condition's detector, the base's own where it has one; its options are checked."""
    from maquette.conditions.registry import detector_spec, detectors
    from maquette.conditions.requirements import drawn_by
    from maquette.errors import MaquetteError

    name = drawn_by(condition, base)
    if name in detectors and detectors[name].outputs_text:
        raise MaquetteError(f"{name} writes words, which steer nothing; give them as --prompt.")
    with _or_a_map(condition):
        detector_spec(name).options.given(name, options)
    return name


def _open(name: str, condition: str, device: str) -> "Detector":
    """Before anything large is loaded."""
    from maquette.conditions.detect import Detector

    with _or_a_map(condition):
        return Detector(name, device=device)


@contextmanager
def _or_a_map(condition: str) -> Iterator[None]:
    """What cannot be drawn can be given."""
    from maquette.errors import MaquetteError

    try:
        yield
    except MaquetteError as error:
        raise MaquetteError(f"{error} Or give a {condition} map with --map.") from None


def _controls(record: "Record", model: "Base") -> "list[Control]":
    from maquette.checkpoints import load_controlnet
    from maquette.controlnet.control import Control

    return [
        Control(load_controlnet(one.controlnet, model), one.image(), one.weight, one.start, one.end)
        for one in record.controls
    ]


def _make(record: "Record", model: "Base", controls: "list[Control]") -> "list[Image.Image]":
    """All images of the generation that a record describes, with a progress bar."""
    from maquette.foundation.progress import steps_bar
    from maquette.sampling.generate import generate

    settings = {**record.settings, "size": tuple(record.settings["size"])}
    with steps_bar("generating") as progress:
        return generate(model, record.prompt, controls, **settings, progress=progress)


def _check_alone(given: list[str]) -> None:
    """All that an image is made of stands in its record."""
    from maquette.errors import MaquetteError

    others = sorted(set(given) - {"again", "output", "device", "low_memory"})
    if others:
        raise MaquetteError(
            f"--again makes an image as its record says; leave {_options(others)} out, or generate without --again."
        )


def _check_unsteered(given: list[str]) -> None:
    from maquette.errors import MaquetteError

    unused = [name for name in given if name in OF_A_IMAGE]
    if unused:
        raise MaquetteError(f"Without an image there is nothing for {_options(unused)} to steer by; give the image.")


def _options(names: list[str]) -> str:
    """As they are typed."""
    plain = {"image": "the image", "map_given": "--map"}
    return ", ".join(plain.get(name, f"--{name.replace('_', '-')}") for name in names)


def _again(path: Path, output: Path, device: str | None, low_memory: bool) -> None:
    """Make one image again from its record."""
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.errors import MaquetteWarning
    from maquette.foundation.output_checks import check_pngs
    from maquette.sampling.metadata import Record

    check_pngs([output])
    record = Record.load(path)
    local_base(record.base)
    for control in record.controls:
        local_controlnet(control.controlnet)
    model = _load(record.base, device or record.device, record.dtype, low_memory)
    if model.device.type != record.device:
        warnings.warn(
            f"{str(path)!r} was made on {record.device}: on {model.device.type} it is the same up to rounding.",
            MaquetteWarning,
            stacklevel=2,
        )
    _write([_make(record, model, _controls(record, model))[record.number]], [record], [output])


def _targets(output: Path, count: int) -> list[Path]:
    """One path an image, numbered from 1 where there are several."""
    from maquette.errors import MaquetteError
    from maquette.foundation.output_checks import check_pngs

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
