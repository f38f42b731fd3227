"""Whole models in one file of the original layout: a base and, in ControlNet v1.0, the ControlNet with it.

| part | names in the file |
| --- | --- |
| U-Net | model.diffusion_model. |
| autoencoder | first_stage_model. |
| text encoder, 1.x and 2.x | cond_stage_model.transformer. (CLIP), cond_stage_model.model. (OpenCLIP) |
| text encoders, XL | conditioner.embedders.0.transformer. (CLIP), conditioner.embedders.1.model. (OpenCLIP) |
| ControlNet | control_model. |

The networks' configurations follow from the shapes (`formats.topology`). What shapes cannot tell is read from a .yaml
next to the file, its metadata or tensors, or is known of the version; if published models differ, the caller must say.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from maquette.backbones.unet import UNetBackbone
from maquette.base import Base
from maquette.checkpoints.controlnets import read_controlnet, read_yaml
from maquette.checkpoints.networks import filled
from maquette.checkpoints.original.parts import TOKENIZER, read_clip, read_vae
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError
from maquette.formats import configurations, text_names, topology, unet_names
from maquette.foundation.devices import Placement, find_placement
from maquette.foundation.reading.rules import check_values
from maquette.foundation.settings import check_prediction
from maquette.foundation.weights import Weights, open_weights
from maquette.noise.process import Prediction
from maquette.text.clip import Clip, ClipText, XLText
from maquette.text.conditioning import TextEncoder

UNET = "model.diffusion_model."
OPENCLIP_LAYERS = 24  # of the text encoder of SD 2.x, the last of them unused


@dataclass(frozen=True)
class Version:
    """What is known of a version of Stable Diffusion but not stored in its weights."""

    name: str
    clip: str | None  # prefix of CLIP's text encoder
    openclip: str | None  # prefix of OpenCLIP's
    scaling_factor: float  # of latents
    sample_sizes: Mapping[Prediction, int]  # side of the latents it was trained on, by prediction type
    unet: Mapping[str, Any]


SD1 = Version("SD 1.x", "cond_stage_model.transformer.", None, 0.18215, {"epsilon": 64, "v_prediction": 64}, {})
SD2 = Version(
    "SD 2.x", None, "cond_stage_model.model.", 0.18215, {"epsilon": 64, "v_prediction": 96}, {"upcast_attention": True}
)
XL = Version(
    "SDXL",
    "conditioner.embedders.0.transformer.",
    "conditioner.embedders.1.model.",
    0.13025,
    {"epsilon": 128, "v_prediction": 128},
    {},
)
VERSIONS = {version.name: version for version in (SD1, SD2, XL)}


def load_original(path: str | Path, num_heads: int | None = None, **settings: Any) -> tuple[Base, ControlNet]:
    """A base and the ControlNet in the same file (ControlNet v1.0), including the base's modified decoder.

    Args: those of `load_original_base`.
    """
    base = load_original_base(path, num_heads, **settings)
    return base, read_controlnet(Path(path), base.backbone).eval().requires_grad_(False)


def load_original_base(
    path: str | Path,
    num_heads: int | None = None,
    prediction: Prediction | None = None,
    tokenizer: str | Path = TOKENIZER,
    device: str = "cpu",
    dtype: str | torch.dtype = "float32",
) -> Base:
    """Load a base from a file in the original layout (SD 1.x, 2.x, XL). It lacks the parts that the file lacks.

    Args:
        num_heads: of each attention layer, if not as published.
        prediction: what the U-Net predicts, "epsilon" or "v_prediction", if neither the file nor a .yaml next to it
            says so and published models of the version differ (SD 2.x).
        tokenizer: its folder, or its name on the Hub.

    Raises `MaquetteError` if the file holds no U-Net, or does not say enough.
    """
    where = find_placement(device, dtype)
    path = Path(path)
    weights = open_weights(path)
    unet_weights = read_unet(weights)
    _refuse_continuous_noise(weights)
    version = version_of(unet_weights)
    predicts = _prediction(weights, version, prediction)
    text_encoders = _clips(weights, version, tokenizer, where)
    pooled = text_encoders[-1].encoder.config.projection_dim if version is XL and text_encoders else None
    config = {
        **topology.unet_config(unet_weights.shapes, pooled, num_heads),
        **version.unet,
        "sample_size": version.sample_sizes[predicts],
    }
    unet = filled(lambda: UNet2DConditionModel(**config), unet_weights, where)
    stated = weights["scale_factor"].flatten()[:1].tolist() if "scale_factor" in weights else [version.scaling_factor]
    autoencoder = read_vae(weights, where, scaling_factor=next(iter(stated), None))
    downscale = 2 ** (len(autoencoder.config.block_out_channels) - 1) if autoencoder else 8
    backbone = UNetBackbone(unet, downscale)
    size = config["sample_size"] * downscale
    schedule = check_values(_scheduler_config(weights, predicts), configurations.SCHEDULE, str(path))
    return Base(str(path), backbone, autoencoder, _text(text_encoders), schedule, size)


def _refuse_continuous_noise(weights: Weights) -> None:
    """Playground 2.5 and CosXL: XL's U-Net with continuous noise levels (Karras et al. 2022)."""
    found = [name for name in weights if name in ("edm_mean", "edm_std") or name.startswith("edm_vpred.")]
    if found:
        raise MaquetteError(
            f"{str(weights.source)!r} is trained on a continuous noise schedule (its {found[0]!r} says so), which no "
            "ControlNet here was; use a base with DDPM's steps."
        )


def version_of(unet: Weights) -> Version:
    """The version of a U-Net under diffusers' names."""
    return VERSIONS[topology.family(unet.shapes)]


def known_prediction(weights: Weights, version: Version, requested: Prediction | None) -> Prediction | None:
    """From the file, a .yaml next to it, or the caller; otherwise what all published models of the version predict.

    None if these differ. Raises `MaquetteError` for a file that says otherwise than was requested, and for a request of
    what no file predicts.
    """
    check_prediction(requested)
    stated = _stated_prediction(weights)
    if stated and requested and stated != requested:
        raise MaquetteError(
            f"{str(weights.source)!r} says that it predicts {stated!r}, not {requested!r}; leave out prediction."
        )
    return stated or requested or (None if version is SD2 else "epsilon")


def _prediction(weights: Weights, version: Version, requested: Prediction | None) -> Prediction:
    known = known_prediction(weights, version, requested)
    if known is None:
        raise MaquetteError(
            f"{str(weights.source)!r} does not say what it predicts, and of SD 2.x both kinds are published; give "
            "prediction='v_prediction' (2.1, 768 pixels) or 'epsilon' (2.1-base, 512), --prediction on the command "
            "line, or put its .yaml next to it."
        )
    return known


def _stated_prediction(weights: Weights) -> Prediction | None:
    if "v_pred" in weights:  # community XL models
        return "v_prediction"
    name = weights.metadata.get("modelspec.prediction_type", "")
    yaml = weights.source.with_suffix(".yaml")
    if yaml.is_file():
        text = read_yaml(yaml)
        found = re.search(r"parameterization:\s*[\"']?(\w+)", text)
        default = "eps" if re.search(r"LatentDiffusion|ControlLDM", text) else ""  # the default of these classes
        name = found[1] if found else default or name
    known: dict[str, Prediction] = {"v": "v_prediction", "eps": "epsilon", "epsilon": "epsilon"}
    return known.get(name)


def _scheduler_config(weights: Weights, prediction: Prediction) -> dict[str, Any]:
    """Stable Diffusion's noise schedule, or the one in the file if it differs."""
    config: dict[str, Any] = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": "ztsnr" in weights,
    }
    if "betas" in weights:
        betas = weights["betas"].double().flatten()
        known = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        if len(betas) != 1000 or not torch.allclose(betas, known, rtol=1e-3):
            config |= {"trained_betas": betas.tolist(), "num_train_timesteps": len(betas)}
    return config


def read_unet(weights: Weights) -> Weights:
    """The U-Net of a whole model under diffusers' names, loaded lazily.

    Raises `MaquetteError` if there is none, or it is of an unknown family.
    """
    unet = weights.below(UNET)
    if not unet.shapes:
        raise MaquetteError(
            f"{str(weights.source)!r} holds no base: no tensor's name begins with {UNET!r}; give a whole model, or a "
            "folder in diffusers' format."
        )
    try:
        return unet.renamed({name: unet_names.to_diffusers(name) for name in unet})
    except unet_names.UnknownNameError as error:
        raise MaquetteError(
            f"The base in {str(weights.source)!r} is of no known family: its {str(error)!r} is in no U-Net of Stable "
            "Diffusion 1.x, 2.x or XL."
        ) from error


def _clips(weights: Weights, version: Version, tokenizer: str | Path, where: Placement) -> list[Clip]:
    text_encoders = []
    if version.clip and (clip := _clip_names(weights.below(version.clip))).shapes:
        text_encoders.append(read_clip(CLIPTextModel, clip, False, tokenizer, where))
    if version.openclip and (openclip := weights.below(version.openclip)).shapes:
        tensors = _from_openclip(openclip)
        renamed = Weights.held(_without_unused_layer(tensors) if version is SD2 else tensors, openclip.source)
        kind = CLIPTextModelWithProjection if version is XL else CLIPTextModel
        text_encoders.append(read_clip(kind, renamed, True, tokenizer, where))
    return text_encoders


def _from_openclip(openclip: Weights) -> dict[str, Tensor]:
    try:
        return dict(pair for name in openclip for pair in text_names.from_openclip(name, openclip[name]))
    except ValueError as error:
        raise MaquetteError(
            f"The text encoder in {str(openclip.source)!r} is of no known kind: its {error}; fetch it anew."
        ) from error


def _text(text_encoders: list[Clip]) -> TextEncoder | None:
    """XL's two or a single one; None if the file has none."""
    if len(text_encoders) == 2:
        return XLText(text_encoders[0], text_encoders[1], zero_empty_prompt=True)
    return ClipText(text_encoders[0]) if text_encoders else None


def _clip_names(clip: Weights) -> Weights:
    """CLIP's names start with "text_model."; older merges omit it, and some contain an unused projection."""
    return clip.renamed(
        {
            name: name if name.startswith("text_model.") else f"text_model.{name}"
            for name in clip
            if not name.startswith(("text_projection", "logit_scale"))
        }
    )


def _without_unused_layer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """SD 2.x uses the second-to-last hidden states, through the final norm: the output of a model with one layer less.

    OpenCLIP's full model, with 24 layers and a projection, has one layer too many; files converted from diffusers
    do not.
    """
    last = topology.count(dict.fromkeys(tensors, ()), r"text_model\.encoder\.layers\.(\d+)\.") - 1
    if "text_projection.weight" not in tensors and last < OPENCLIP_LAYERS - 1:
        return tensors
    unused = (f"text_model.encoder.layers.{last}.", "text_projection")
    return {name: value for name, value in tensors.items() if not name.startswith(unused)}
