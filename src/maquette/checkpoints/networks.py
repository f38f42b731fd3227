"""Building networks from weights: first on the meta device, then filled tensor by tensor, each cast as it is read."""

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, T5Config, T5EncoderModel

from maquette.errors import MaquetteError, shortened
from maquette.formats import configurations
from maquette.formats.vae_names import modern
from maquette.foundation.devices import Placement
from maquette.foundation.reading.documents import read_json
from maquette.foundation.reading.networks import check_network
from maquette.foundation.reading.rules import Rule, check_values
from maquette.foundation.weights import Shape, Weights, find_weights, open_weights
from maquette.text.clip import Clip, read_tokenizer, read_words
from maquette.text.sd3 import T5, read_t5_tokenizer

T = TypeVar("T", bound=nn.Module)
V = TypeVar("V")


def part_settings(folder: Path, part: str, read: Callable[[Path], V]) -> V:
    """The settings of one part of a base, as returned by `read`.

    Raises `MaquetteError` if the part's folder is missing or cannot be read.
    """
    _require_part(folder, part)
    try:
        return read(folder / part)
    except MaquetteError:
        raise
    except Exception as error:  # libraries read settings with errors of any type
        reason = shortened(next(iter(str(error).splitlines()), type(error).__name__))
        raise MaquetteError(
            f"The {part} of the base in {str(folder)!r} cannot be read ({reason}); download it again."
        ) from error


def _require_part(folder: Path, part: str) -> None:
    if not (folder / part).is_dir():
        raise MaquetteError(f"The base in {str(folder)!r} has no folder {part!r}; download it again.")


def part_config(
    folder: Path, part: str, rules: Mapping[str, Rule], name: str = "config.json", tensors: int | None = None
) -> dict[str, Any]:
    """The settings in a JSON file of one part of a base, checked.

    Args:
        rules: for its values (`formats.configurations`).
        name: of the file.
        tensors: the number of its weights, if it is a network.

    Raises `MaquetteError` if it is missing, is no JSON, or holds a value that is out of range.
    """
    values = part_settings(folder, part, lambda path: read_json(path / name))
    source = str(folder / part / name)
    return check_values(values, rules, source) if tensors is None else check_network(values, rules, tensors, source)


def part_weights(folder: Path, part: str) -> Weights:
    """The weights of one part of a base in diffusers' format, loaded lazily.

    Raises `MaquetteError` if there are none.
    """
    _require_part(folder, part)
    path = find_weights(folder / part)
    if path is None:
        raise MaquetteError(f"The base in {str(folder)!r} has no weights in its folder {part!r}; download it again.")
    return open_weights(path)


def filled(build: Callable[[], T], weights: Weights, where: Placement) -> T:
    """A locked network with these weights; no others are ever allocated.

    Raises `MaquetteError` if there is no such network, and if a tensor is missing, does not belong, or has the wrong
    shape.
    """
    try:
        with torch.device("meta"):
            network = build()
    except Exception as error:  # settings that are valid alone but not together
        reason = shortened(next(iter(str(error).splitlines()), type(error).__name__))
        raise MaquetteError(
            f"The configuration of the weights in {str(weights.source)!r} describes no network ({reason}); download "
            "both again."
        ) from error
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    names = {_name(name, expected): name for name in weights if not name.endswith("position_ids")}
    check_tensors(
        weights,
        names,
        expected,
        type(network).__name__,
        foreign="download them again, or use those of its family",
        misshapen="configuration and weights are of different models: download both again",
    )
    state = {name: weights[stored].to(*where) for name, stored in names.items()}
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def check_tensors(
    weights: Weights, names: Mapping[str, str], expected: Mapping[str, Shape], kind: str, foreign: str, misshapen: str
) -> None:
    """Check that weights are exactly those of a network.

    Args:
        names: the name in the file of each of the network's tensors.
        expected: the shapes of the network's tensors.
        kind: of network, for messages.
        foreign, misshapen: advice for tensors that do not belong, or have the wrong shape.

    Raises `MaquetteError` if a tensor is missing, does not belong, or has the wrong shape.
    """
    missing, surplus = expected.keys() - names.keys(), names.keys() - expected.keys()
    source = str(weights.source)
    if missing or surplus:
        raise MaquetteError(
            f"The weights in {source!r} lack {len(missing)} tensors of a {kind} and have {len(surplus)} that do not "
            f"belong (the first: {min(missing | surplus)!r}); {foreign}."
        )
    for name, stored in names.items():
        if weights.shapes[stored] != expected[name]:
            raise MaquetteError(
                f"{stored!r} in {source!r} has the shape {weights.shapes[stored]}, a {kind} needs {expected[name]}; "
                f"{misshapen}."
            )


def _name(stored: str, expected: Container[str]) -> str:
    """The network's name for a tensor: with or without "text_model.", depending on the version of transformers."""
    variants = (stored, stored.removeprefix("text_model."), f"text_model.{stored}")
    return next((name for name in variants if name in expected), stored)


def filled_clip(network_class: Any, config: CLIPTextConfig, weights: Weights, where: Placement) -> Any:
    """A CLIP text encoder; its position ids are generated, since files need not hold them."""
    encoder = filled(lambda: network_class(config), weights, where)
    for name, buffer in list(encoder.named_buffers()):
        module, _, buffer_name = name.rpartition(".")
        ids = torch.arange(buffer.shape[-1], device=where.device)[None]
        encoder.get_submodule(module).register_buffer(buffer_name, ids, persistent=False)
    return encoder


def read_clip(folder: Path, number: str, network_class: Any, where: Placement) -> Clip:
    """A base's CLIP with its tokenizer.

    Args:
        number: "" for the first, "_2" for the second.

    Raises `MaquetteError` if it is missing or broken.
    """
    part = f"text_encoder{number}"
    weights = part_weights(folder, part)
    values = part_config(folder, part, configurations.CLIP, tensors=len(weights))
    whole = values.get("model_type") == "clip"  # with CLIP's images
    config = part_settings(folder, part, lambda _: CLIPTextConfig.from_dict(values["text_config"] if whole else values))
    encoder = filled_clip(network_class, config, weights, where)
    tokenizer = part_settings(folder, f"tokenizer{number}", read_tokenizer)
    return Clip(encoder, tokenizer, read_words(folder / f"tokenizer{number}"))


def read_t5(folder: Path, number: str, where: Placement, length: int) -> T5:
    """A base's T5 with its tokenizer.

    Args:
        number: of its folders, such as "_3".
        length: the tokens that it reads.

    Raises `MaquetteError` if it is missing or broken.
    """
    part = f"text_encoder{number}"
    weights = part_weights(folder, part)
    values = part_config(folder, part, configurations.T5, tensors=len(weights))
    config = part_settings(folder, part, lambda _: T5Config.from_dict(values))
    encoder = filled_t5(config, weights, where)
    return T5(encoder, part_settings(folder, f"tokenizer{number}", read_t5_tokenizer), length)


def filled_t5(config: T5Config, weights: Weights, where: Placement) -> T5EncoderModel:
    """T5's encoder; in bfloat16 instead of float16, in which it overflows. Files hold its embedding once or twice."""
    where = at_least(torch.bfloat16, where)
    once = weights.renamed({name: name for name in weights if name != "encoder.embed_tokens.weight"})

    def build() -> T5EncoderModel:
        encoder = T5EncoderModel(config)
        del encoder.encoder.embed_tokens
        return encoder

    encoder = filled(build, once, where)
    encoder.encoder.embed_tokens = encoder.shared
    return encoder


def filled_vae(config: Mapping[str, Any], weights: Weights, where: Placement) -> AutoencoderKL:
    """An autoencoder; in float32 instead of float16 unless its configuration says that float16 does not overflow."""
    if config.get("force_upcast", True):
        where = at_least(torch.float32, where)
    renamed = weights.renamed({name: modern(name) for name in weights})
    return filled(lambda: AutoencoderKL.from_config(dict(config)), renamed, where)


def at_least(dtype: torch.dtype, where: Placement) -> Placement:
    """A placement in another dtype in place of float16."""
    return where._replace(dtype=dtype) if where.dtype == torch.float16 else where


def renew_positions(part: Any, where: Placement) -> None:
    """Compute the frequencies of a network's rotary positions, which files do not hold."""
    for name in ("rotary_emb", "rotary_pos_emb"):
        if hasattr(part, name):
            kind = type(getattr(part, name))
            setattr(part, name, kind(part.config).to(where.device))
