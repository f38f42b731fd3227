"""What the command line names: ControlNets, the base they steer, and what they are evaluated on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maquette.errors import MaquetteError

if TYPE_CHECKING:
    from maquette.base import Base
    from maquette.controlnet.contract import Contract
    from maquette.evaluation.controlnet import Examples
    from maquette.evaluation.own_data import OwnData
    from maquette.foundation.settings import FilePrediction
    from maquette.training.config import TrainingConfig


def requests_of(
    data: str | None, given: dict[str, Any], nets: Sequence[str], contracts: "list[Contract]"
) -> "list[OwnData] | None":
    """What to evaluate each ControlNet on, if data are given; the contracts read on the way are appended.

    Raises `MaquetteError` for conditions that nothing can score, and for settings of data without any.
    """
    if data is None:
        unused = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
        if unused:
            raise MaquetteError(f"{', '.join(unused)} belong to your own data; give it with --data.")
        return None
    from maquette.conditions.labels import check_palette
    from maquette.data.sources.jsonl import Columns
    from maquette.evaluation.own_data import OwnData
    from maquette.foundation.settings import read_named, read_size

    if given["palette"]:
        check_palette(given["palette"])
    own = OwnData(
        data,
        given["condition"] or "",
        given["detect"],
        given["count"],
        read_size(given["size"], one_number=True) if given["size"] else None,
        given["palette"],
        Columns(given["image_column"], given["condition_column"], given["text_column"]),
        given["detector"],
        given["detector_weights"],
        read_named(given["option"] or [], "--option", "low=80"),
    )
    if own.condition:
        own.check()
    contracts += [contract_of(net) for net in nets]
    found = [
        own if own.condition else replace(own, condition=_trained_on(net, contract))
        for net, contract in zip(nets, contracts, strict=True)
    ]
    for request in found:
        request.check()
    return found


def _trained_on(name: str, contract: "Contract") -> str:
    """The detector of a ControlNet's maps, for photographs where it has one.

    Raises `MaquetteError` if the ControlNet does not tell.
    """
    from maquette.conditions.registry import detectors

    detector = contract.detector
    if not detector:
        raise MaquetteError(f"{name!r} does not tell what condition it was trained on; give --condition.")
    return detector if detector in detectors else detector.rsplit("/")[-1]


def own_pairs(name: str) -> "TrainingConfig | None":
    """The settings of a run that trained on the user's own pairs; None for others, and for ControlNets without a run.

    Raises `MaquetteError` if the run held out none.
    """
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


def held_out(config: "TrainingConfig", base: "Base") -> "Examples":
    """The pairs that a run held out. Raises `MaquetteError` where nothing can score them."""
    from maquette.evaluation.controlnet import Examples
    from maquette.training.data.split import open_data
    from maquette.training.distributed.world import World
    from maquette.training.setup import scorer_of

    data = open_data(config, base, World(str(base.device)))
    scorer = scorer_of(config, data.evaluated, str(base.device))
    return Examples.of(data.evaluated, data.held_out, scorer, "held-out pairs")


def contract_of(name: str) -> "Contract":
    """The contract of a ControlNet: what it was trained on."""
    from maquette.checkpoints import controlnets

    path = controlnets.find_controlnet(name)
    config, weights = controlnets.opened(path)
    return controlnets.read_contract(path, config or {}, weights.metadata)


def condition_of_scenes(name: str, contract: "Contract") -> str:
    """The condition of the diorama that a ControlNet was trained on.

    Raises `MaquetteError` if it was trained on others, and its folder has no run.
    """
    from maquette.data.diorama import condition_named

    world, _, condition = (contract.detector or "").partition("/")
    if world != "diorama":
        raise MaquetteError(
            f"{name!r} was trained on {contract.detector or 'unknown maps'}, but the test scenes have the diorama's; "
            "evaluate the folder of its run, which has its own pairs, or one that `maquette train diorama/CONDITION` "
            "trained."
        )
    condition_named(condition)
    return condition


def prediction_of(names: Sequence[str]) -> "FilePrediction | None":
    """What the base of runs predicts, where their settings say so. Raises `MaquetteError` for settings that are bad."""
    from maquette.training.config import CONFIG, TrainingConfig

    configs = [TrainingConfig.load(path) for name in names if (path := Path(name) / CONFIG).is_file()]
    return next((config.prediction for config in configs if config.prediction), None)


def only_base(bases: Sequence[str | None]) -> str:
    """The base that ControlNets steer. Raises `MaquetteError` for several."""
    names = sorted({base or "diorama" for base in bases})
    if len(names) > 1:
        raise MaquetteError(f"These ControlNets steer different bases ({', '.join(names)}); evaluate them one by one.")
    return names[0]
