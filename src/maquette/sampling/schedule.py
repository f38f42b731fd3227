"""Samplers by name: diffusers' schedulers on the base's own noise schedule."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {}),
    "dpm++-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
"""Name to class of diffusers and what is set beyond the base's configuration."""


class Scheduler(Protocol):
    """What the loop uses of diffusers' schedulers."""

    timesteps: "Tensor"
    init_noise_sigma: "float | Tensor"
    order: int

    def set_timesteps(self, steps: int, device: Any = None) -> None: ...

    def scale_model_input(self, sample: "Tensor", timestep: "Tensor") -> "Tensor": ...

    def step(self, prediction: "Tensor", timestep: "Tensor", sample: "Tensor", **more: Any) -> Any: ...

    def add_noise(self, original: "Tensor", noise: "Tensor", timesteps: "Tensor") -> "Tensor": ...


def make_scheduler(name: str, schedule: dict[str, Any]) -> Scheduler:
    """A fresh scheduler, one of `SAMPLERS`, on a base's noise schedule."""
    import diffusers  # here, for SAMPLERS is read where nothing heavy is loaded

    kind, settings = SAMPLERS[name]
    known = {key: value for key, value in schedule.items() if not key.startswith("_")}
    scheduler: Scheduler = getattr(diffusers, kind).from_config(known, **settings)
    return scheduler
