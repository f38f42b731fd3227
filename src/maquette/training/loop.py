"""The loop that trains a ControlNet."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from maquette.base import Base
from maquette.checkpoints import load_base
from maquette.conditions.perception import Eye
from maquette.controlnet.contract import Contract, fingerprint
from maquette.controlnet.network import ControlNet
from maquette.data.diorama import Pairs, condition_named
from maquette.diorama import dataset
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import to_unit
from maquette.metrics.fidelity import NAMES, needs_eye
from maquette.training import checkpoint, schedule, step
from maquette.training.attention import plain_attention
from maquette.training.cache import Cache
from maquette.training.config import TrainingConfig
from maquette.training.convergence import Monitor
from maquette.training.run import CONFIG, STATE, Log

FULL_WIDTH, FULL_WIDTH_RATE = 320, 1e-4  # channels of Stable Diffusion's first blocks, and more than it bears
LOG_EVERY = 25  # steps between two lines of loss


def train(config: TrainingConfig, base: Base | None = None, cache: Cache | None = None) -> Path:
    """Train a ControlNet; the finished run's folder, which `load_controlnet` takes.

    The folder holds the ControlNet (config.json, diffusion_pytorch_model.safetensors), training.json,
    metrics.jsonl, curve.png, grids/ and state.pt, from which `resume` goes on.

    Args:
        base, cache: what `config` says would be loaded and encoded, where several runs share it.

    Raises `MaquetteError` when the folder holds another run, or none to go on with.
    """
    _check_folder(config)
    base = base or load_base(config.base, config.device)
    _check_base(base, config)
    pairs = Pairs.load(config.condition, range(dataset.TRAIN, dataset.TRAIN + config.scenes))
    monitor = _monitor(config, base) if config.evaluate_every else None
    cache = cache or Cache.build(base, pairs.images, pairs.captions)
    assert len(cache.moments) == len(pairs), "the cache is of other pairs"
    telling = torch.from_numpy(pairs.telling())
    net = ControlNet.attach(base, config.encoder, config.connect, config.kind, config.seed).float().train()
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    parts: checkpoint.Parts = {"net": net, "optimiser": optimiser}
    start = checkpoint.restore(config.output / STATE, parts)
    if start > config.max_steps:
        raise MaquetteError(
            f"The run in {str(config.output)!r} has done {start} steps already; max_steps is {start} or more, not "
            f"{config.max_steps}."
        )
    config.save(config.output / CONFIG)
    log = Log(config.output, f"{config.base}/{config.condition}", NAMES[config.condition])
    log.rewind(start)
    noise = step.noise_schedule(base)
    if monitor and not log.curve()[0]:
        _measure(monitor, net, log, 0)
    bar = tqdm(range(start, config.max_steps), initial=start, total=config.max_steps, desc="training", unit=" steps")
    with plain_attention(base.device, base.backbone.network, net):
        for done in bar:
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + done)  # chance is of the step alone
            rows = telling[torch.randint(len(telling), (config.batch_size,), generator=generator)]
            latents = cache.latents(rows, generator).to(base.device)
            text = cache.text(rows, config.prompt_drop, generator).to(base.device)
            condition = _draw(pairs, rows, config.seed, done).to(base.device)
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * _share(config, done)
            with _precision(config, base):
                loss = step.loss(base, net, noise, latents, text, condition, generator)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
            optimiser.step()
            last = done + 1 == config.max_steps
            if (done + 1) % LOG_EVERY == 0 or last:
                log.write(done + 1, loss=round(loss.item(), 5))
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            if monitor and ((done + 1) % config.evaluate_every == 0 or last):
                bar.write(_measure(monitor, net, log, done + 1))
            if (done + 1) % config.checkpoint_every == 0 or last:
                checkpoint.save(config.output / STATE, done + 1, parts)
    net.contract = _contract(config, base)
    net.save(config.output)
    return config.output


def _check_base(base: Base, config: TrainingConfig) -> None:
    """What this training knows, and a learning rate that is not another base's."""
    if len(base.clips) != 1:
        reason = "is an SDXL, which this training does not know" if base.clips else "came without a text encoder"
        raise MaquetteError(f"The base {base.name!r} {reason}; give an SD 1.x or 2.x with its text encoder.")
    if base.backbone.prediction not in step.PREDICTIONS:
        raise MaquetteError(
            f"The base {base.name!r} predicts {base.backbone.prediction!r}, and training knows "
            f"{' and '.join(step.PREDICTIONS)}; give such a base."
        )
    if base.backbone.slots[0].channels >= FULL_WIDTH and config.learning_rate > FULL_WIDTH_RATE:
        warnings.warn(
            f"A learning rate of {config.learning_rate:g} is made for narrow bases; Stable Diffusion's ControlNets "
            "were trained at 1e-5.",
            MaquetteWarning,
            stacklevel=3,
        )


def _contract(config: TrainingConfig, base: Base) -> Contract:
    """What the ControlNet was trained to be given."""
    made = condition_named(config.condition)
    return Contract(
        stated=True,
        detector=f"diorama/{config.condition}",
        detector_version=f"maquette {version('maquette')}",
        detector_options=made.words,
        resize="none: drawn at the pictures' size",
        base=config.base,
        base_fingerprint=fingerprint(base.backbone.network.state_dict()),
        prompt_drop=config.prompt_drop,
        optimiser_steps=config.max_steps,
    )


def _check_folder(config: TrainingConfig) -> None:
    """The run's folder must be free, or hold what is to be resumed, begun with the same settings."""
    kept = config.output / CONFIG
    if config.resume:
        before = vars(TrainingConfig.load(kept))
        may_differ = {"output", "resume", "device", "checkpoint_every"}
        if config.decay == "constant":  # under a cosine, the last step decides every learning rate
            may_differ.add("max_steps")
        changed = [name for name, value in vars(config).items() if name not in may_differ and before[name] != value]
        if changed:
            raise MaquetteError(
                f"The run in {str(config.output)!r} was begun with other settings ({', '.join(changed)}); "
                "resume it with the same, or give another output."
            )
    elif kept.exists():
        raise MaquetteError(f"{str(config.output)!r} holds a run already; give --resume to go on, or another output.")


def _monitor(config: TrainingConfig, base: Base) -> Monitor:
    seeds = range(dataset.VALIDATION, dataset.VALIDATION + config.evaluate_scenes)
    return Monitor(
        base,
        Pairs.load(config.condition, seeds),
        Eye(device=str(base.device)) if needs_eye(config.condition) else None,
    )


def _measure(monitor: Monitor, net: ControlNet, log: Log, done: int) -> str:
    """Fidelity and gain after so many steps, logged and drawn; a line for the reader."""
    grids = log.folder / "grids"
    grids.mkdir(exist_ok=True)
    score, gains = monitor.measure(net, grids / f"step-{done:06d}.png"), monitor.gain(net)
    gain = sum(gains.values()) / len(gains)
    levels = {f"gain at t={level}": round(value, 5) for level, value in gains.items()}
    log.write(done, fidelity=round(score, 4), gain=round(gain, 5), **levels)
    log.draw()
    hold = log.converged()
    held = f", took hold at step {hold}" if hold is not None else ""
    return f"step {done}: {log.score} {score:.3f}, gain {gain:.4f}{held}"


def _draw(pairs: Pairs, rows: Tensor, seed: int, done: int) -> Tensor:
    """Condition maps (B, 3, H, W) of one step."""
    rng = np.random.default_rng((seed, done))
    return torch.stack([to_unit(pairs.draw(int(row), rng)) for row in rows])


def _share(config: TrainingConfig, done: int) -> float:
    return getattr(schedule, config.decay)(done, config.max_steps, config.warmup)


def _precision(config: TrainingConfig, base: Base) -> AbstractContextManager[object]:
    return torch.autocast(base.device.type, torch.bfloat16) if config.bfloat16 else nullcontext()
