"""What single files of several families share: autoencoders, CLIP text encoders, and tokenizers, which none holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTokenizer

from maquette.checkpoints.networks import filled_clip, filled_vae
from maquette.errors import shortened
from maquette.formats import configurations, topology, vae_names
from maquette.foundation.devices import Placement
from maquette.foundation.hub import is_hub_id, snapshot
from maquette.foundation.reading.rules import check_values
from maquette.foundation.weights import Weights
from maquette.text.clip import Clip, MissingTokenizer, read_tokenizer

VAE = "first_stage_model."
TOKENIZER = "openai/clip-vit-large-patch14"  # the vocabulary of Stable Diffusion 1.x, 2.x, XL and 3
TOKENIZER_FILES = ("tokenizer*.json", "vocab.json", "merges.txt", "special_tokens_map.json")

T = TypeVar("T")


def read_vae(weights: Weights, where: Placement, **known: Any) -> AutoencoderKL | None:
    """The autoencoder of a whole model; None for a file without.

    Args:
        known: settings that tensors do not tell, such as scaling_factor.

    Raises `MaquetteError` for tensors that are none of an autoencoder.
    """
    vae = weights.below(VAE)
    if not vae.shapes:
        return None
    levels = topology.count(vae.shapes, r"encoder\.down\.(\d+)\.")
    named = vae.renamed(
        {name: vae_names.to_diffusers(name, levels) for name in vae if not name.startswith(("loss.", "model_ema."))}
    )
    shapes = {name: vae_names.shape(name, shape) for name, shape in named.shapes.items()}
    shaped = Weights(vae.source, shapes, lambda name: vae_names.shaped(name, named[name]), vae.metadata)
    settings = {**topology.vae_config(shapes), **known}
    return filled_vae(check_values(settings, configurations.VAE, str(weights.source)), shaped, where)


def read_clip(
    network_class: Any, clip: Weights, openclip: bool, tokenizer: str | Path, where: Placement, part: str = "tokenizer"
) -> Clip:
    """A CLIP under the names of transformers, with its tokenizer. OpenCLIP's differs only in its padding token.

    Args:
        part: folder of its tokenizer, where `tokenizer` is a base's.

    Raises `MaquetteError` for tensors that are none of a CLIP.
    """
    values = check_values(topology.text_config(clip.shapes, openclip), configurations.CLIP, str(clip.source))
    encoder = filled_clip(network_class, CLIPTextConfig(**values), clip, where)
    pad = {"pad_token": "!"} if openclip else {}
    return Clip(encoder, _clip_tokenizer(tokenizer, part, **pad))


def tokenizer_from(
    name: str | Path, part: str, files: tuple[str, ...], read: Callable[[Path], T]
) -> tuple[T | None, str]:
    """A tokenizer from its folder, a base's folder that has it as `part`, or the Hub; and what kept it from being read.

    Args:
        files: patterns of what is taken from the Hub.
    """
    try:
        on_hub = is_hub_id(str(name)) and not Path(name).exists()
        folder = snapshot(str(name), files) if on_hub else Path(name)
        return read(folder / part if (folder / part).is_dir() else folder), ""
    except Exception as error:  # the library reads tokenizers with errors of any type
        return None, shortened(next(iter(str(error).splitlines()), type(error).__name__))


def _clip_tokenizer(name: str | Path, part: str, **settings: str) -> CLIPTokenizer | MissingTokenizer:
    found, reason = tokenizer_from(name, part, TOKENIZER_FILES, lambda folder: read_tokenizer(folder, **settings))
    return found or MissingTokenizer(
        f"A file of weights contains no tokenizer, and {str(name)!r} could not be loaded ({reason}). Download it once "
        "while online, or give its folder (tokenizer=)."
    )
