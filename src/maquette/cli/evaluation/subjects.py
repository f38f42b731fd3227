"""What the command line names: ControlNets, the base they steer, and what they are evaluated on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Subject:
    """A ControlNet that is evaluated, and on what: the user's data, a run's held-out pairs, or the diorama's scenes."""

    source: str  # as the command line names it
    contract: "Contract"
    data: "OwnData | None" = None
    run: "TrainingConfig | None" = None
    condition: str = ""  # of the diorama

    @property
    def name(self) -> str:
        return file_name(self.source)


def file_name(source: str) -> str:
    """The name of a ControlNet's reports."""
    return source.strip("/").replace("/", "-")


def subjects_of(nets: Sequence[str], data: str | None, given: dict[str, Any]) -> list[Subject]:
    """What each ControlNet is evaluated on.

    Args:
        data: the user's pairs, if any.
        given: the settings of these, by their names on the command line.

    Raises `MaquetteError` for conditions that nothing can score, and for settings of data without any.
    """
    if data is not None:
        return _subjects_of_data(nets, _own_data(data, given))
    unused = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if unused:
        raise MaquetteError(f"{', '.join(unused)} belong to your own data; give it with --data.")
    runs = [own_pairs(net) for net in nets]
    contracts = [contract_of(net) for net in nets]
    return [
        Subject(net, contract, run=run, condition="" if run else condition_of_scenes(net, contract))
        for net, contract, run in zip(nets, contracts, runs, strict=True)
    ]


def _subjects_of_data(nets: Sequence[str], own: "OwnData") -> list[Subject]:
    """Each ControlNet on the data, by the condition that was given, or its own. Raises `MaquetteError` as above."""
    if own.condition:
        own.check()
    contracts = [contract_of(net) for net in nets]
    found = [
        Subject(net, contract, own if own.condition else replace(own, condition=_trained_on(net, contract)))
        for net, contract in zip(nets, contracts, strict=True)
    ]
    for subject in found:
        assert subject.data is not None
        subject.data.check()
    return found


def _own_data(data: str, given: dict[str, Any]) -> "OwnData":
    """The user's pairs and how they are read. Raises `MaquetteError` for bad settings."""
    from maquette.conditions.labels import check_palette
    from maquette.data.sources.jsonl import Columns
    from maquette.evaluation.own_data import OwnData
    from maquette.foundation.settings import read_named, read_size

    if given["palette"]:
        check_palette(given["palette"])
    return OwnData(
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


def only_base(subjects: Sequence[Subject]) -> str:
    """The base that ControlNets steer. Raises `MaquetteError` for several."""
    names = sorted({subject.contract.base or "diorama" for subject in subjects})
    if len(names) > 1:
        raise MaquetteError(f"These ControlNets steer different bases ({', '.join(names)}); evaluate them one by one.")
    return names[0]
