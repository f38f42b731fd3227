"""maquette ablate"""

import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from maquette.ablation.request import ALL, LEVERS, METHODS, NETS, STUDIES, Request
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.settings import check_device, read_value

EXAMPLE = "maquette ablate guidance --nets diorama/canny --tested 60 -o runs/guidance"
TRAINING, TESTING = "Trainings", "Tests"  # panels of the help


def run(
    study: Annotated[str, typer.Argument(metavar="STUDY", help=f"{', '.join(STUDIES)}.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results; one that was begun goes on.")],
    conditions: Annotated[
        str | None, typer.Option(help="Of the diorama; default: canny,segmentation.", rich_help_panel=TRAINING)
    ] = None,
    variants: Annotated[
        str | None, typer.Option(help="Designs: zero,gaussian,lite,channels.", rich_help_panel=TRAINING)
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help=f"To compare with: {','.join(METHODS)}.", rich_help_panel=TRAINING)
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Training scenes: 100,1000,10000,all.", rich_help_panel=TRAINING)
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Trainings of each kind; default: 3.", rich_help_panel=TRAINING)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps of each; default: 1000.", rich_help_panel=TRAINING)
    ] = None,
    scenes: Annotated[
        int | None, typer.Option(help="Scenes that each sees; default: 8000.", rich_help_panel=TRAINING)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images per step; default: 32.", rich_help_panel=TRAINING)
    ] = None,
    every: Annotated[
        int | None, typer.Option(help="Steps between measurements; default: 10.", rich_help_panel=TRAINING)
    ] = None,
    lever: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,...",
            help=f"What convergence changes, one at a time; default: {', '.join(LEVERS)}. May be repeated.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    nets: Annotated[
        str | None,
        typer.Option(
            help=f"ControlNets of guidance, and of composition joined in twos: {NETS['composition'][0]}.",
            rich_help_panel=TESTING,
        ),
    ] = None,
    tested: Annotated[
        int | None, typer.Option(help="Test scenes, 6 or more; default: 100.", rich_help_panel=TESTING)
    ] = None,
    sampling_steps: Annotated[
        int | None, typer.Option(help="Steps of sampling; default: the base's.", rich_help_panel=TESTING)
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Classifier-free guidance; default: the base's.", rich_help_panel=TESTING)
    ] = None,
    base: Annotated[str, typer.Option(help="Base model: a name or folder.")] = "diorama",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, or auto.")] = "cpu",
    only_estimate: Annotated[
        bool, typer.Option("--only-estimate", help="Say how long it will take, and stop.")
    ] = False,
) -> None:
    """Run one of the paper's studies on the diorama, such as which design follows best, or how many pairs it takes.

    Says beforehand how long it will take. A study that was stopped goes on when the command is given again. Writes the
    tables (result.md), all numbers, seeds and hashes (result.json), and a sheet of six images, drawn by chance, for
    each cell.
    """
    request = request_of(
        study=study,
        output=output,
        base=base,
        device=device,
        conditions=conditions,
        variants=variants,
        methods=methods,
        sizes=sizes,
        seeds=seeds,
        steps=steps,
        scenes=scenes,
        batch_size=batch_size,
        every=every,
        lever=lever,
        nets=nets,
        tested=tested,
        sampling_steps=sampling_steps,
        guidance=guidance,
    )
    from maquette.checkpoints.names import local_base, local_controlnet

    check_device(device)
    local_base(base)
    for name in request.names_of_nets:
        for one in name.split("+"):
            local_controlnet(one)
    _ablate(request, only_estimate)


def _ablate(request: Request, only_estimate: bool) -> None:
    """Run, and print the folder; Ctrl-C leaves quietly."""
    from maquette.ablation.run import ablate

    try:
        folder = ablate(request, shlex.join(["maquette", *sys.argv[1:]]), only_estimate)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not only_estimate:
        print(folder)


def request_of(**typed: Any) -> Request:
    """What was asked, from the options as they were typed, None for those that were not.

    Warns of options that the study does not use.

    Raises `MaquetteError` for bad ones.
    """
    read: dict[str, Callable[[Any], Any]] = {
        "conditions": _names,
        "variants": _names,
        "methods": _names,
        "nets": _names,
        "sizes": _sizes,
        "levers": _levers,
    }
    typed["levers"] = typed.pop("lever") or None
    given = {name: read.get(name, _as_typed)(value) for name, value in typed.items() if value is not None}
    request = Request(**given)
    idle = sorted(set(given) - {"study", "output", "base", "device", *STUDIES[request.study][1]})
    if idle:
        message = f"{', '.join(idle)} has no effect on the study {request.study}."
        warnings.warn(message, MaquetteWarning, stacklevel=3)
    return request


def _as_typed(value: Any) -> Any:
    return value


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _sizes(text: str) -> tuple[int, ...]:
    """Numbers of training scenes. Raises `MaquetteError` for others."""
    names = _names(text)
    if not all(name == "all" or name.isdecimal() for name in names):
        raise MaquetteError(f"sizes are whole numbers of scenes, or all, which is {ALL}, not {text!r}.")
    return tuple(ALL if name == "all" else int(name) for name in names)


def _levers(typed: list[str]) -> dict[str, tuple[Any, ...]]:
    """Settings and their values. Raises `MaquetteError` where there is no value."""
    found = {}
    for text in typed:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise MaquetteError(f"--lever is a setting and its values, such as learning_rate=3e-4,3e-3, not {text!r}.")
        found[name.strip()] = tuple(read_value(value.strip()) for value in values.split(","))
    return found
