"""The comparison methods by name: make one to train it, or load one that was trained. Does not import torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maquette.baselines.protocol import RECORD, Method, check_condition, check_names
from maquette.errors import MaquetteError
from maquette.foundation.declared import settings_of
from maquette.foundation.reading.documents import read_json
from maquette.foundation.registry import Registry

if TYPE_CHECKING:
    from maquette.base import Base

METHODS: Registry[Any] = Registry("comparison method")
for name, place in {
    "base": "plain:Plain",
    "controlnet": "plain:Controlled",
    "piti": "piti:PITI",
    "sketch-guided": "sketch:SketchGuided",
    "taming": "taming:Taming",
    "ldm": "ldm:LDM",
}.items():
    METHODS.add_lazily(name, f"maquette.baselines.{place}")

TRAINED = ("piti", "sketch-guided", "taming", "ldm")
"""Those that `train` makes."""


def make(name: str, base: "Base", condition: str, **settings: Any) -> Method:
    """A method to be trained, with fresh weights.

    Args:
        settings: of its `Settings`, where they are not the default.

    Raises `MaquetteError` for an unknown method or setting, a condition that the method cannot take, and a base that it
    cannot use.
    """
    method = METHODS[name]
    check_condition(method, condition)
    check_names(f"setting of {name!r}", list(settings), list(settings_of(method.Settings)))
    made: Method = method(base, condition, method.Settings(**settings))
    return made


def load(name: str | Path, base: "Base", **changed: Any) -> Method:
    """A method that makes pictures.

    Args:
        name: "base"; the folder of a trained method; or a ControlNet, as `load_controlnet` takes it.
        changed: settings of `pictures` other than those it was trained with, such as strength=3.2.

    Raises `MaquetteError` for what is no method and no ControlNet, and for unknown settings.
    """
    if name == "base":
        return make("base", base, "", **changed)
    if not (Path(name) / RECORD).is_file():
        from maquette.baselines.plain import controlled

        return controlled(name, base, **changed)
    from maquette.baselines.trained import fill

    path = Path(name) / RECORD
    try:
        record = read_json(path)
        kind, condition = str(record["method"]), str(record["condition"])
        settings = {**record["settings"], **changed}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise MaquetteError(f"{str(path)!r} describes no comparison method ({error}); train it again.") from error
    return fill(make(kind, base, condition, **settings), Path(name), record.get("base"))
