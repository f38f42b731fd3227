"""maquette evaluate"""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "maquette evaluate diorama/canny runs/mine --scenes 100"


def run(
    nets: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs' folders, or bundled: diorama/canny.")],
    scenes: Annotated[int, typer.Option(help="Unseen scenes.")] = 500,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance.")] = 4.0,
    batch_size: Annotated[int, typer.Option(help="Pictures at once.")] = 32,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the reports.")] = Path("runs/evaluation"),
    base: Annotated[str, typer.Option(help="Base model that they steer.")] = "diorama",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
) -> None:
    """Measure ControlNets' fidelity under true, default, no and conflicting prompts."""
    from maquette.checkpoints import load_base, load_controlnet
    from maquette.evaluation.controlnet import Protocol, Uncontrolled, evaluate_controlnet

    protocol = Protocol(scenes, steps, guidance, batch_size)
    model = load_base(base, device, dtype)
    loaded = [(name.strip("/").replace("/", "-"), _condition(name), load_controlnet(name, model)) for name in nets]
    uncontrolled = Uncontrolled(model, protocol)
    for name, condition, net in loaded:
        report = evaluate_controlnet(net, condition, uncontrolled, output / f"{name}.png")
        report.save(output / f"{name}.json")
        print(f"{name}: {report.table()}\n\n{output / name}.json, {output / name}.png\n")


def _condition(name: str) -> str:
    """What a ControlNet was trained on: its bundled name or its run says so."""
    from maquette.training.config import TrainingConfig
    from maquette.training.run import CONFIG

    if name.startswith("diorama/"):
        return name.removeprefix("diorama/")
    return TrainingConfig.load(Path(name) / CONFIG).condition
