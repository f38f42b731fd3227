"""maquette evaluate"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "maquette evaluate diorama/canny runs/mine --scenes 100"


def run(
    nets: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or bundled ones: diorama/canny.")],
    scenes: Annotated[int, typer.Option(help="Number of test scenes.")] = 500,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; default: the base's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance; default: the base's.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images per batch.")] = 32,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the reports.")] = Path("runs/evaluation"),
    base: Annotated[str | None, typer.Option(help="Base model; default: the one they were trained on.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, or auto.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto.")] = "float32",
) -> None:
    """Measure the fidelity of ControlNets with true, default, empty and conflicting prompts."""
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.evaluation.protocol import Protocol
    from maquette.foundation.files import check_pngs
    from maquette.foundation.settings import check_device, check_dtype
    from maquette.sampling.config import Sampling

    protocol = Protocol(scenes, steps, guidance, batch_size)
    Sampling.check(steps=steps, guidance=guidance, batch_size=batch_size)
    names = [name.strip("/").replace("/", "-") for name in nets]
    check_pngs([output / f"{name}.png" for name in names])
    check_device(device)
    check_dtype(dtype)
    if base is not None:
        local_base(base)
    for name in nets:
        local_controlnet(name)
    from maquette.checkpoints import load_base, load_controlnet
    from maquette.evaluation.controlnet import Uncontrolled, evaluate_controlnet

    conditions, bases = zip(*(_trained_on(net) for net in nets), strict=True)
    model = load_base(base or _only(bases), device, dtype)
    loaded = [load_controlnet(net, model) for net in nets]
    uncontrolled = Uncontrolled(model, protocol)
    for name, condition, net in zip(names, conditions, loaded, strict=True):
        report = evaluate_controlnet(net, condition, uncontrolled, output / f"{name}.png")
        report.save(output / f"{name}.json")
        print(f"{name}: {report.table()}\n\n{output / name}.json, {output / name}.png\n")


def _trained_on(name: str) -> tuple[str, str | None]:
    """The condition and the base that a ControlNet was trained on, from its contract."""
    from maquette.checkpoints import controlnets
    from maquette.data.diorama import condition_named
    from maquette.errors import MaquetteError

    path = controlnets.find_controlnet(name)
    config, weights = controlnets.opened(path)
    contract = controlnets.read_contract(path, config or {}, weights.metadata)
    world, _, condition = (contract.detector or "").partition("/")
    if world != "diorama":
        raise MaquetteError(
            f"{name!r} was trained on {contract.detector or 'unknown maps'}, but the test scenes have the diorama's; "
            "evaluate one that `maquette train diorama/CONDITION` trained."
        )
    condition_named(condition)
    return condition, contract.base


def _only(bases: Sequence[str | None]) -> str:
    from maquette.errors import MaquetteError

    names = sorted({base or "diorama" for base in bases})
    if len(names) > 1:
        raise MaquetteError(f"These ControlNets steer different bases ({', '.join(names)}); evaluate them one by one.")
    return names[0]
