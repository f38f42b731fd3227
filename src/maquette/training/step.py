"""One training step: accumulated gradients, clipping and the optimizer update."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from maquette.base import Base
from maquette.foundation.devices import DTYPES
from maquette.foundation.pixels import signed, unit
from maquette.text.conditioning import Conditioning
from maquette.training.data.dataset import Batch
from maquette.training.data.filling import encode
from maquette.training.hardware import with_oom_hint
from maquette.training.loss import loss
from maquette.training.parts import Precision
from maquette.training.state import State


def train_step(state: State, batch: Batch, check: Callable[[Tensor], None]) -> Tensor:
    """Train on this process's samples of a batch; returns their scalar loss.

    Args:
        check: called with the loss before the weights are updated; raises if it is not finite.

    Raises `MaquetteError` if memory runs out, with what would fit.
    """
    compute = partial(_accumulate, state, batch, check)
    return with_oom_hint(compute, state.hardware.accumulation, len(batch), alone=state.world.count == 1)


def _accumulate(state: State, batch: Batch, check: Callable[[Tensor], None], parts: int) -> Tensor:
    """One optimizer step with gradients accumulated over `parts` parts; returns the scalar loss."""
    state.optimizer.zero_grad()
    size = len(batch) // parts
    total = torch.zeros((), device=state.base.device)
    for number in range(parts):
        with state.sync_gradients(number == parts - 1):
            part_loss = _loss(state, batch.part(number * size, (number + 1) * size)) / parts
            state.backward(part_loss)
        total += part_loss.detach()
    check(total)
    state.step()
    return total


def _loss(state: State, part: Batch) -> Tensor:
    """The scalar loss of a part of a batch; only the backbone and the ControlNet run under autocast."""
    base = state.base
    moments = part.moments
    if moments is None:
        assert part.images is not None, "without a cache, the batch holds the images"
        moments = encode(base, signed(part.images))
    latents = base.sample_latents(moments, part.sample).to(base.device)
    text = _text(base, part).to(base.device)
    condition = state.net.condition_input(unit(part.conditions.to(base.device)), base.encode_maps)
    noise, timesteps = part.noise.to(base.device), part.timesteps.to(base.device)
    with precision(state.hardware.precision, base):
        return loss(state.model, base.noise, latents, text, condition, timesteps, noise, state.min_snr)


def _text(base: Base, part: Batch) -> Conditioning:
    """The conditioning of the prompts, from the cache if there is one."""
    height, width = part.conditions.shape[1:3]
    if part.text is None:
        return base.encode_text(part.prompts, (width, height))
    return base.text.with_size(part.text, (width, height))


def precision(name: Precision, base: Base) -> AbstractContextManager[object]:
    """Autocast for training and evaluation; does nothing in float32."""
    if name == "float32":
        return nullcontext()
    return torch.autocast(base.device.type, DTYPES[name])
