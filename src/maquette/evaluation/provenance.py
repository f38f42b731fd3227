"""What an evaluation's numbers depend on, beside the data: versions, networks with their hashes, sampling."""

import platform
from importlib.metadata import version
from typing import Any

from maquette.base import Base
from maquette.controlnet.network import ControlNet
from maquette.evaluation.protocol import Protocol
from maquette.sampling.recording import net_hash
from maquette.sampling.speed import NEUTRAL

PACKAGES = ("maquette", "torch", "diffusers", "transformers", "numpy", "pillow", "opencv-python-headless")


def provenance(base: Base, net: ControlNet | None, protocol: Protocol) -> dict[str, Any]:
    """Everything by name, to be stored with the scores; without a ControlNet, of the base alone."""
    sampling = protocol.sampling(base)
    of_net = {"name": net.name, "hash": net_hash(net), "detector": net.contract.detector} if net is not None else None
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "base": {"name": base.name, "hash": base.hash(), "dtype": str(base.dtype).removeprefix("torch.")},
        "controlnet": of_net,
        "device": base.device.type,
        "sampling": {
            "speed": protocol.speed,
            "sampler": sampling.sampler,
            **{name: getattr(sampling, name) for name in NEUTRAL},
            "steps": protocol.steps,
            "guidance": protocol.guidance,
            "seeds": f"{protocol.seed} + the number of the image, with and without control",
            "batch size": protocol.batch_size,
            "generated images": "8 bits, scored as decoded: never stored, so never compressed",
        },
    }
