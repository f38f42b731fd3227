"""maquette generate"""

from pathlib import Path
from typing import Annotated, Any

import typer

from maquette.cli.generation.options import SETTINGS, Options
from maquette.errors import MaquetteError
from maquette.foundation.flags import read_flags, with_flags
from maquette.foundation.memory import importing

EXAMPLE = 'maquette generate house.png --condition canny --prompt "a red house in the snow" -o out.png'


def _run(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE", help="Photographs or drawings whose structure is followed, or folders."),
    ] = None,
    *,
    control: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION:IMAGE,NAME=VALUE...",
            help="A control with settings of its own, may be repeated: canny:house.png,weight=0.8,end=0.5. NAME: net, "
            "map (yes or no), paint and picture, weight, start, end, mask, balance, curve, branch, type, or an option "
            "of the detector.",
        ),
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="A detector option, as NAME=VALUE; may be repeated.")] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:WEIGHT]", help="A LoRA to add to the base, with a factor, by default 1; may be repeated."
        ),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE,...", help="One sheet over a setting's values; twice for columns and rows."),
    ] = None,
    varied: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="With --again: another value, such as seed=7; repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="PNG, JPEG or WebP file; several images are numbered. Of several IMAGEs: a folder. Default: out.png "
            "or its next free number.",
        ),
    ] = None,
    **flags: Any,
) -> None:
    """Generate images from a prompt that follow the structure of an image."""
    from maquette.cli.generation.again import Repeat
    from maquette.cli.generation.plan import Given, Plan
    from maquette.cli.generation.seeds import say_seeds
    from maquette.cli.generation.varied import read_set, read_sweeps

    typed = read_flags(flags, SETTINGS.values())
    listed = {"control": control, "option": option, "lora": lora, "sweep": sweep, "varied": varied, "output": output}
    names = [*typed, *(name for name, value in listed.items() if value)]
    sweeps = read_sweeps(sweep or [])
    given = Given(Options.read(typed), names, sources or [], control or [], option or [], lora or [], sweeps, output)
    if given.options.again.again is not None:
        Repeat.of(given, read_set(varied or [])).carry_out()
        return
    if varied or given.options.again.anyway:
        raise MaquetteError("--set and --anyway belong to --again IMAGE; all settings have options of their own.")
    plan = Plan.of(given)
    say_seeds(given.options.sampling, plan.seeds)
    with importing():
        from maquette.cli.generation.run import carry_out  # torch from here on

    carry_out(plan)


run = with_flags(_run, SETTINGS.values())
