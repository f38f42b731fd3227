"""A ControlNet that a study names, and the test scenes that it is measured on."""

from maquette.ablation.bench import Bench
from maquette.checkpoints import load_controlnet
from maquette.controlnet.network import ControlNet
from maquette.data.diorama import condition_named
from maquette.errors import MaquetteError
from maquette.evaluation.controlnet import Examples


def opened(name: str, bench: Bench) -> tuple[ControlNet, Examples]:
    """The ControlNet of a name, folder or file, and test scenes with the condition that it was trained on.

    Raises `MaquetteError` if it cannot be loaded, or was trained on other maps than the diorama's.
    """
    net = load_controlnet(name, bench.base)
    world, _, condition = (net.contract.detector or "").partition("/")
    if world != "diorama":
        raise MaquetteError(
            f"{name!r} was trained on {net.contract.detector or 'unknown maps'}, but studies test on the diorama's "
            "scenes; name one that `maquette train diorama/CONDITION` trained."
        )
    condition_named(condition)
    return net, bench.examples(condition)


def file_name(name: str) -> str:
    """A name as part of a file's."""
    return "-".join(name.replace(",", " ").replace("/", " ").split())
