"""What the studio offers, as plain values: bases, ControlNets, families, conditions and detectors."""

from collections.abc import Mapping
from typing import Any

from maquette.base import Base
from maquette.checkpoints.families import FAMILIES
from maquette.conditions.registry import detectors, load_others
from maquette.conditions.requirements import drawn_by
from maquette.conditions.spec import DetectorSpec
from maquette.errors import MaquetteError
from maquette.metrics.registry import metric_of

Values = dict[str, Any]


def base_values(base: Base) -> Values:
    """The base that is loaded, with its defaults and what a request must suit."""
    return {
        "name": base.name,
        "family": base.backbone.family,
        "size": base.size,
        "size_multiple": base.size_multiple,
        "slots": len(base.backbone.slots),
        "samplers": list(base.noise.samplers),
        **vars(base.defaults),
        "device": base.device.type,
        "dtype": str(base.dtype).removeprefix("torch."),
    }


def families() -> list[str]:
    """The families of base models that this version knows."""
    return [family.name for family in FAMILIES]


def net_values(offered: Mapping[str, str]) -> list[Values]:
    """The ControlNets that requests may name."""
    return [{"name": name, "condition": condition} for name, condition in offered.items()]


def condition_values(base: Base, offered: Mapping[str, str]) -> list[Values]:
    """The conditions that there are ControlNets for, what detects them, and how a picture is compared with one."""
    found = []
    for condition in dict.fromkeys(offered.values()):
        name = drawn_by(condition, base.name)
        metric = metric_of(name)
        found.append(
            {
                "name": condition,
                "nets": [net for net, of in offered.items() if of == condition],
                "detector": name if name in detectors and is_here(detectors[name]) else None,
                "fidelity": metric.label if metric else None,
            }
        )
    return found


def detector_values() -> list[Values]:
    """The detectors with their options."""
    load_others()
    return [
        {
            "name": spec.name,
            "draws": spec.draws,
            "writes_text": spec.outputs_text,
            "here": is_here(spec),
            "options": [option._asdict() for option in spec.options.described()],
        }
        for spec in (detectors[name] for name in detectors)
    ]


def is_here(spec: DetectorSpec) -> bool:
    """Whether a detector works without a download."""
    try:
        spec.check_present()
    except MaquetteError:
        return False
    return True
