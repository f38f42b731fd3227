"""Setting up a run: checks of its folder and base, its networks, monitor and contract."""

import warnings
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import torch
from torch import nn

from maquette.base import Base
from maquette.checkpoints import load_base, load_controlnet
from maquette.conditions.networks.perception import PerceptionModel
from maquette.conditions.requirements import drawn_by, kind_of, resizing_words
from maquette.controlnet.contract import Contract, fingerprint
from maquette.controlnet.network import ControlNet
from maquette.controlnet.save import WEIGHTS
from maquette.data import diorama
from maquette.data.pairs import Pairs
from maquette.data.random_detectors import DRAWS, random_detector
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.devices import DTYPES
from maquette.foundation.images import Order
from maquette.metrics.fidelity import SceneScorer, Scorer, map_scorer, needs_eye
from maquette.noise.process import PREDICTIONS
from maquette.training import checkpoint
from maquette.training.config import CONFIG, TrainingConfig
from maquette.training.data.split import TrainingData
from maquette.training.monitor.convergence import Monitor
from maquette.training.monitor.metrics_log import SAVED, Log
from maquette.training.monitor.tracking import check_tracker
from maquette.training.stages import warn_of_rate
from maquette.training.validation import detects, without_effect


def check_folder(config: TrainingConfig) -> None:
    """Check that the run's folder is free, or holds the run to resume, with the same settings.

    Raises `MaquetteError` if it holds another run, or the settings have changed, or the states that were saved are
    gone, or the tracker is unknown.
    """
    check_tracker(config.monitor.track, config.output)
    for message in without_effect(config.items()):
        warnings.warn(message, MaquetteWarning, stacklevel=3)
    kept = config.output / CONFIG
    if config.resume:
        before = TrainingConfig.load(kept)
        pairs = zip(config.items(), before.items(), strict=True)
        changed = [s.flat for (s, value), (_, old) in pairs if value != old and not s.may_differ_in(config)]
        if changed:
            raise MaquetteError(
                f"The run in {str(config.output)!r} was started with other settings ({', '.join(changed)}); "
                "resume it with the same ones, or choose another output."
            )
        if not checkpoint.states(config.output):
            _check_none_lost(config, before.checkpoint_every)
    elif kept.exists() or checkpoint.states(config.output):
        raise MaquetteError(
            f"{str(config.output)!r} holds a run already; continue it with --resume, or choose another output."
        )


def _check_none_lost(config: TrainingConfig, every: int) -> None:
    """Raises `MaquetteError` if a run without states has saved any, which it tells by its log and its files.

    Args:
        every: the steps between states so far; the lines of a run of version 0.2 do not tell when one was saved.
    """
    log, whole = Log(config.output, config.condition), config.output / WEIGHTS
    saved = [*log.column(SAVED)[0], *(line["step"] for line in log.lines() if line["step"] > every)]
    if not saved and not whole.exists():
        return
    names = sorted(path.name for path in config.output.glob("[!.]*"))
    reached = f"has saved its state up to step {max(saved)}" if saved else "was finished"
    raise MaquetteError(
        f"The run in {str(config.output)!r} {reached}, and its states (state-*.pt) are gone; there are "
        f"{', '.join(names)}. Put a state back, or start again in another folder."
    )


def check_base(base: Base, config: TrainingConfig) -> None:
    """Check that the base can be trained on, and warn about a learning rate that is too high for it.

    Raises `MaquetteError` if it has no text encoder, is in half precision where float32 is needed, or predicts
    something unknown or other than `prediction` says.
    """
    if base.text_encoder is None:
        raise MaquetteError(f"The base {base.name!r} came without a text encoder; load one that has it.")
    if base.dtype != torch.float32 and (config.model.unlock or config.hardware.precision == "float32"):
        raise MaquetteError(
            f"The base {base.name!r} was loaded in {str(base.dtype).removeprefix('torch.')}; to "
            f"{'train it (unlock)' if config.model.unlock else 'compute in float32 (precision)'}, load it in float32."
        )
    if config.prediction not in (None, base.noise.prediction):
        raise MaquetteError(
            f"The base {base.name!r} predicts {base.noise.prediction!r}, not {config.prediction!r}; leave "
            "prediction out."
        )
    if base.noise.prediction not in PREDICTIONS:
        raise MaquetteError(
            f"The base {base.name!r} predicts {base.noise.prediction!r}, but training supports "
            f"{', '.join(PREDICTIONS)}; use such a base."
        )
    warn_of_rate(config.optimizer.learning_rate, base)


def open_networks(config: TrainingConfig, shared: Base | None, device: str) -> tuple[Base, ControlNet]:
    """The base, and a new or trained ControlNet on it in float32.

    A base loaded here is converted to the training precision after its weights were copied; its autoencoder and text
    encoders stay in float32, since their outputs are cached.

    Raises `MaquetteError` for a base that does not suit the configuration, and for a union or one that paints in
    to start from.
    """
    base = shared or load_base(config.base, device, "float32", prediction=config.prediction)
    check_base(base, config)
    model = config.model
    if model.start_from is None:
        net = ControlNet.attach(base, model.encoder, model.connect, model.variant, config.seed, model.blocks)
    else:
        net = load_controlnet(model.start_from, base)
        if net.control.types:
            raise MaquetteError(
                f"{model.start_from!r} follows several kinds of condition, and training knows one; start from a "
                "ControlNet of one kind, or from none."
            )
        if net.control.paints == "only":
            raise MaquetteError(
                f"{model.start_from!r} paints in, and training knows no masks; start from a ControlNet that takes a "
                "condition alone, or from none."
            )
    net = net.float().train()
    if shared is None and not model.unlock:
        nn.Module.to(base.backbone.network, DTYPES[config.hardware.precision])
    return base, net


def check_shares(batch_size: int, accumulation: int, processes: int) -> None:
    """Raises `MaquetteError` if a batch does not divide evenly among processes and accumulation parts."""
    if batch_size % (processes * accumulation):
        raise MaquetteError(
            f"batch_size counts the images of a step over all processes and parts; it must be a multiple of "
            f"{processes} processes × {accumulation} parts, not {batch_size}."
        )


def make_monitor(config: TrainingConfig, base: Base, data: TrainingData) -> Monitor | None:
    """The monitor of the held-out pairs; None without evaluation."""
    if not config.monitor.evaluate_every:
        return None
    device = str(base.device)
    try:
        return Monitor(base, data.evaluated, data.held_out, scorer_of(config, data.evaluated, device))
    except MaquetteError as error:
        return Monitor(base, data.evaluated, data.held_out, None, str(error))


def scorer_of(config: TrainingConfig, pairs: Pairs, device: str) -> Scorer:
    """What scores images generated from pairs: scenes by their exact values, custom pairs by their maps.

    Raises `MaquetteError` where custom pairs cannot be scored.
    """
    condition = config.condition
    if config.data.source is None:
        return SceneScorer(condition, PerceptionModel(device=device) if needs_eye(condition) else None)
    detect = getattr(pairs, "detect", None)
    return map_scorer(condition, device, partial(detect, rng=None) if detect is not None else None)


def contract_of(
    config: TrainingConfig, net: ControlNet, network: nn.Module, steps: int, order: Order | None
) -> Contract:
    """The contract of the trained ControlNet: the inputs it expects, and the base it was trained on.

    Args:
        order: in which the training's conditions came to their frames.
    """
    of_scenes = config.data.source is None
    kind = kind_of(drawn_by(config.condition, "diorama")) if of_scenes else config.data.kind(config.condition)
    detected = config.data.detect or of_scenes
    return replace(
        net.contract,  # with start_from, keeps the channel order and pooling
        stated=True,
        detector=f"diorama/{config.condition}" if of_scenes else config.condition,
        detector_version=f"maquette {version('maquette')}" if detected else None,
        detector_options=_options_in_words(config),
        resize="none: drawn at the images' size" if detected else resizing_words(kind),
        order=order,
        categorical=kind == "classes",
        lines=kind == "lines",
        base=str(config.output / "base") if config.model.unlock else config.base,
        base_fingerprint=fingerprint(network.state_dict()),
        prompt_drop=config.data.prompt_drop,
        optimizer_steps=steps,
    )


def _options_in_words(config: TrainingConfig) -> str | None:
    """How the detector's options were drawn; None for its defaults."""
    data, condition = config.data, config.condition
    if data.palette is not None:
        return f"class numbers in the colours of {data.palette}"
    if data.source is not None and not data.detect:
        return None
    is_set = data.detect_options or data.detect_weights or condition not in DRAWS
    if detects(condition, data.source, data.detect) and is_set:
        return str(random_detector(condition, data.detect_options, data.detect_weights)) or None
    return diorama.CONDITIONS[condition].words
