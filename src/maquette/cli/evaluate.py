"""maquette evaluate"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from maquette.base import Base
    from maquette.evaluation.controlnet import Examples
    from maquette.foundation.settings import FilePrediction
    from maquette.training.config import TrainingConfig

EXAMPLE = "maquette evaluate diorama/canny runs/mine --scenes 100"
SCENES = 500


def run(
    nets: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or bundled ones: diorama/canny.")],
    scenes: Annotated[
        int | None,
        typer.Option(
            help=f"Number of test scenes, by default {SCENES}; a run on your own pairs has those it held out."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; default: the base's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance; default: the base's.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images per batch.")] = 32,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the reports.")] = Path("runs/evaluation"),
    base: Annotated[str | None, typer.Option(help="Base model; default: the one they were trained on.")] = None,
    prediction: Annotated[
        str | None,
        typer.Option(help="Of an SD 2.x base in one file: v_prediction or epsilon; default: as in their training."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, or auto.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto.")] = "float32",
) -> None:
    """Measure the fidelity of ControlNets with true, default, empty and conflicting prompts.

    For each, writes the means with 95 % intervals (JSON), the score of each image (CSV), and a grid of images (PNG).
    """
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.errors import MaquetteWarning
    from maquette.evaluation.protocol import Protocol
    from maquette.foundation.files import check_pngs
    from maquette.foundation.settings import check_device, check_dtype, check_prediction
    from maquette.sampling.config import Sampling

    protocol = Protocol(SCENES if scenes is None else scenes, steps, guidance, batch_size)
    Sampling.check(steps=steps, guidance=guidance, batch_size=batch_size)
    names = [name.strip("/").replace("/", "-") for name in nets]
    check_pngs([output / f"{name}.png" for name in names])
    check_device(device)
    check_dtype(dtype)
    check_prediction(prediction)
    if base is not None:
        local_base(base)
    for name in nets:
        local_controlnet(name)
    own = [_own_pairs(name) for name in nets]
    if scenes is not None and all(own):
        warnings.warn(
            "scenes has no effect: a run on your own pairs is evaluated on those it held out (held_out).",
            MaquetteWarning,
            stacklevel=2,
        )
    from maquette.checkpoints import load_base, load_controlnet
    from maquette.evaluation.controlnet import Uncontrolled, evaluate, unseen_scenes

    contracts = [_contract(net) for net in nets]
    conditions = [
        _of_scenes(net, found) if not config else "" for net, found, config in zip(nets, contracts, own, strict=True)
    ]
    trained_on = _only([contract.base for contract in contracts]) if base is None else base
    predicts: Any = prediction if prediction or base else _prediction(nets)
    model = load_base(trained_on, device, dtype, prediction=predicts)
    loaded = [load_controlnet(net, model) for net in nets]
    uncontrolled = Uncontrolled(model, protocol)
    for name, condition, config, net in zip(names, conditions, own, loaded, strict=True):
        examples = _held_out(config, model) if config else unseen_scenes(condition, protocol.scenes)
        report = evaluate(net, examples, uncontrolled, output / f"{name}.png")
        report.save(output / f"{name}.json")
        print(
            f"{name}: {report.table()}\n\n{', '.join(f'{output / name}.{kind}' for kind in ('json', 'csv', 'png'))}\n"
        )


def _own_pairs(name: str) -> "TrainingConfig | None":
    """The settings of a run that trained on the user's own pairs; None for others, and for ControlNets without a run.

    Raises `MaquetteError` if the run held out none.
    """
    from maquette.errors import MaquetteError
    from maquette.training.config import CONFIG, TrainingConfig

    path = Path(name) / CONFIG
    config = TrainingConfig.load(path) if path.is_file() else None
    if config is None or config.data.source is None:
        return None
    if not config.monitor.evaluate_every:
        raise MaquetteError(
            f"The run {name!r} held out no pairs to evaluate on (evaluate_every = 0); train with another."
        )
    return config


def _held_out(config: "TrainingConfig", base: "Base") -> "Examples":
    """The pairs that a run held out. Raises `MaquetteError` where nothing can score them."""
    from maquette.evaluation.controlnet import Examples
    from maquette.training.data.split import open_data
    from maquette.training.distributed.world import World
    from maquette.training.setup import scorer_of

    data = open_data(config, base, World(str(base.device)))
    scorer = scorer_of(config, data.evaluated, str(base.device))
    return Examples.of(data.evaluated, data.held_out, scorer, "held-out pairs")


def _contract(name: str) -> Any:
    """The contract of a ControlNet: what it was trained on."""
    from maquette.checkpoints import controlnets

    path = controlnets.find_controlnet(name)
    config, weights = controlnets.opened(path)
    return controlnets.read_contract(path, config or {}, weights.metadata)


def _of_scenes(name: str, contract: Any) -> str:
    """The condition of the diorama that a ControlNet was trained on.

    Raises `MaquetteError` if it was trained on others, and its folder has no run.
    """
    from maquette.data.diorama import condition_named
    from maquette.errors import MaquetteError

    world, _, condition = (contract.detector or "").partition("/")
    if world != "diorama":
        raise MaquetteError(
            f"{name!r} was trained on {contract.detector or 'unknown maps'}, but the test scenes have the diorama's; "
            "evaluate the folder of its run, which has its own pairs, or one that `maquette train diorama/CONDITION` "
            "trained."
        )
    condition_named(condition)
    return condition


def _prediction(names: Sequence[str]) -> "FilePrediction | None":
    """What the base of runs predicts, where their settings say so. Raises `MaquetteError` for settings that are bad."""
    from maquette.training.config import CONFIG, TrainingConfig

    configs = [TrainingConfig.load(path) for name in names if (path := Path(name) / CONFIG).is_file()]
    return next((config.prediction for config in configs if config.prediction), None)


def _only(bases: Sequence[str | None]) -> str:
    from maquette.errors import MaquetteError

    names = sorted({base or "diorama" for base in bases})
    if len(names) > 1:
        raise MaquetteError(f"These ControlNets steer different bases ({', '.join(names)}); evaluate them one by one.")
    return names[0]
