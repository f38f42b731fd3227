"""A LoRA in every published spelling adds α / r · up · down to the weights that it names, and nothing else."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import tiny_base, tiny_unet
from torch import Tensor

import maquette as mq
from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError
from maquette.formats import unet_names
from maquette.formats.write import write_weights

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
UNET = {
    f"{BLOCK}.attn1.to_q": 4,
    f"{BLOCK}.attn2.to_out.0": 2,
    f"{BLOCK}.ff.net.0.proj": 4,
    "mid_block.attentions.0.proj_in": 4,  # a convolution of 1 × 1 in 1.x, linear in 2.x
    "up_blocks.1.resnets.0.conv1": 3,  # a convolution of 3 × 3
    "up_blocks.1.upsamplers.0.conv": 3,
}
TEXT = {"text_model.encoder.layers.0.self_attn.q_proj": 4, "text_model.encoder.layers.1.mlp.fc1": 2}
"""Modules of a base with the rank of their update."""


def weight_of(base: Base, part: str, module: str) -> Tensor:
    network = base.backbone.network if part == "unet" else base.text.modules[0]
    state = network.state_dict()
    return state.get(f"{module}.weight", state.get(f"{module.removeprefix('text_model.')}.weight"))


def matrices(base: Base, seed: int = 3) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """Random down and up of every module in UNET and TEXT, by part and module; kernels as kohya keeps them."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for part, modules in (("unet", UNET), ("text_encoder", TEXT)):
        for module, rank in modules.items():
            shape = weight_of(base, part, module).shape
            down = torch.randn(rank, *shape[1:], generator=generator) / math.sqrt(math.prod(shape[1:]))
            up = torch.randn(shape[0], rank, *([1] * (len(shape) - 2)), generator=generator)
            found[part, module] = (down, up)
    return found


def kohya(found, alpha: float) -> dict[str, Tensor]:
    tensors = {}
    for (part, module), (down, up) in found.items():
        stem = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part] + module.replace(".", "_")
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    return tensors


def original_kohya(found, alpha: float) -> dict[str, Tensor]:
    """As kohya's sd-scripts name the U-Net of XL: after the original layout."""
    levels = unet_names.attentive_levels(tiny_unet("sd15").state_dict())
    renamed = {}
    for (part, module), pair in found.items():
        name = unet_names.to_original(f"{module}.weight", levels).removesuffix(".weight") if part == "unet" else module
        renamed[part, name] = pair
    return {name.replace("lora_te_", "lora_te1_"): value for name, value in kohya(renamed, alpha).items()}


def dotted(found, down: str, up: str) -> dict[str, Tensor]:
    tensors = {}
    for (part, module), pair in found.items():
        tensors |= {f"{part}.{module}.{end}.weight": value for end, value in zip((down, up), pair, strict=True)}
    return tensors


def peft(found, alpha: float) -> dict[str, Tensor]:
    return dotted(found, "lora_A", "lora_B")


def older(found, alpha: float) -> dict[str, Tensor]:
    renamed = dotted(found, "lora.down", "lora.up")
    return {
        re.sub(r"^(text_encoder.*)\.lora\.", r"\1.lora_linear_layer.", name): value for name, value in renamed.items()
    }


def processors(found, alpha: float) -> dict[str, Tensor]:
    attention = {key: pair for key, pair in found.items() if ".attn" in key[1]}
    return {
        re.sub(r"\.(to_q|to_out)(\.0)?\.lora\.", r".processor.\1_lora.", name.removeprefix("unet.")): value
        for name, value in dotted(attention, "lora.down", "lora.up").items()
    }


def peft_alone(found, alpha: float) -> dict[str, Tensor]:
    networks = {key: pair for key, pair in found.items() if key[0] == "unet"}
    return {
        name.replace("unet.", "base_model.model.", 1): value
        for name, value in dotted(networks, "lora_A.default", "lora_B.default").items()
    }


SPELLINGS = {
    "kohya": (kohya, 8),
    "kohya, original layout": (original_kohya, 8),
    "peft": (peft, 8),
    "older": (older, 8),
    "processors": (processors, 2),
    "peft alone": (peft_alone, 6),
}
"""Each spelling, with the number of weights of the above that it can name."""


def slow(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """W + scale · up · down, number by number over the rank, kernels flattened."""
    change = np.zeros((len(weight), weight[0].numel()))
    for row in range(len(weight)):
        for rank in range(len(down)):
            change[row] += float(up[row].flatten()[rank]) * down[rank].flatten().double().numpy()
    return weight.double() + scale * torch.from_numpy(change).reshape(weight.shape)


def states(base: Base) -> dict[str, Tensor]:
    parts = (base.backbone.network, *base.text.modules)
    return {f"{number}.{name}": v.clone() for number, part in enumerate(parts) for name, v in part.state_dict().items()}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_adds_the_explicit_product(spelling: str, tmp_path) -> None:
    write, named = SPELLINGS[spelling]
    base, plain = tiny_base("sd15"), tiny_base("sd15")
    found, before = matrices(base), states(base)
    tensors = write(found, 2.0)
    write_weights(tensors, tmp_path / "lora.safetensors", {})
    base.add_lora(tmp_path / "lora.safetensors", 0.7)
    changed = 0
    for (part, module), (down, up) in found.items():
        was, now = weight_of(plain, part, module), weight_of(base, part, module)
        if torch.equal(was, now):
            continue
        changed += 1
        alpha = 2.0 if "kohya" in spelling else len(down)  # without an α, α is r
        assert torch.allclose(now.double(), slow(was, down, up, 0.7 * alpha / len(down)), atol=1e-5), module
    after = states(base)
    assert changed == named == sum(not torch.equal(before[name], after[name]) for name in before)


def test_it_changes_the_image_and_its_opposite_restores_it(tmp_path) -> None:
    base = tiny_base("sd15", context=16)
    write_weights(kohya(matrices(base), 4.0), tmp_path / "lora.safetensors", {})
    settings = {"prompt": "ab", "steps": 2, "size": (64, 64), "seed": 1}
    plain = np.asarray(mq.generate(base, **settings)[0], np.int16)
    base.add_lora(tmp_path / "lora.safetensors")
    assert np.abs(np.asarray(mq.generate(base, **settings)[0], np.int16) - plain).max() > 2
    base.add_lora(tmp_path / "lora.safetensors", -1)
    assert np.abs(np.asarray(mq.generate(base, **settings)[0], np.int16) - plain).max() <= 1


@pytest.mark.parametrize("spelling", ["kohya", "peft", "metadata"])
def test_the_same_image_as_diffusers(spelling: str, tmp_path) -> None:
    """Its own reading of the file, which needs peft."""
    pytest.importorskip("peft", reason="diffusers loads LoRA through peft")
    from diffusers import StableDiffusionPipeline

    base = tiny_base("sd15")
    save_base(base, tmp_path / "base")
    # with transformers 5 diffusers loses kohya's text attention, and with settings all of the text
    lost = ".self_attn" if spelling == "kohya" else "text_model" if spelling == "metadata" else "nothing"
    found = {key: pair for key, pair in matrices(base).items() if lost not in key[1]}
    tensors = kohya(found, 2.0) if spelling == "kohya" else peft(found, 2.0)
    write_weights(tensors, tmp_path / "lora.safetensors", with_settings(found) if spelling == "metadata" else {})
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "base")
    pipe.load_lora_weights(tmp_path / "lora.safetensors")
    pipe.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}
    theirs = pipe("ab", **settings, generator=torch.Generator("cpu").manual_seed(1)).images[0]
    plain = np.asarray(mq.generate(base, "ab", steps=2, guidance=3.0, size=(64, 64), seed=1)[0], np.int16)
    base.add_lora(tmp_path / "lora.safetensors")
    ours = np.asarray(mq.generate(base, "ab", steps=2, guidance=3.0, size=(64, 64), seed=1)[0], np.int16)
    assert np.abs(ours - np.asarray(theirs, np.int16)).max() <= 1
    assert np.abs(ours - plain).max() > 2


def with_settings(found) -> dict[str, str]:
    """peft's settings as diffusers writes them into a file's metadata."""
    settings = {}
    for part in ("unet", "text_encoder"):
        ranks = {module: len(down) for (where, module), (down, _) in found.items() if where == part}
        if not ranks:
            continue
        settings |= {
            f"{part}.r": 4,
            f"{part}.lora_alpha": 1.0,
            f"{part}.target_modules": list(ranks),
            f"{part}.rank_pattern": ranks,
            f"{part}.alpha_pattern": {next(iter(ranks)): 3.0},
        }
    return {"lora_adapter_metadata": json.dumps(settings)}


def test_alpha_in_pefts_settings(tmp_path) -> None:
    base, plain = tiny_base("sd15"), tiny_base("sd15")
    found = matrices(base)
    write_weights(peft(found, 0.0), tmp_path / "lora.safetensors", with_settings(found))
    base.add_lora(tmp_path / "lora.safetensors")
    for (part, module), (down, up) in found.items():
        alpha = 3.0 if module in (next(iter(UNET)), next(iter(TEXT))) else 1.0
        expected = slow(weight_of(plain, part, module), down, up, alpha / len(down))
        assert torch.allclose(weight_of(base, part, module).double(), expected, atol=1e-5), module


def test_xl_takes_both_text_encoders(tmp_path) -> None:
    base, before = tiny_base("sdxl"), states(tiny_base("sdxl"))
    module = "text_model_encoder_layers_0_mlp_fc1"
    tensors = {}
    for stem, encoder in zip((f"lora_te1_{module}", f"lora_te2_{module}"), base.text.modules, strict=True):
        out, width = next(v.shape for n, v in encoder.state_dict().items() if n.endswith("layers.0.mlp.fc1.weight"))
        tensors |= {f"{stem}.lora_down.weight": torch.randn(2, width), f"{stem}.lora_up.weight": torch.randn(out, 2)}
    write_weights(tensors, tmp_path / "lora.safetensors", {})
    base.add_lora(tmp_path / "lora.safetensors")
    after = states(base)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert [name[0] for name in changed] == ["1", "2"]
    assert all("layers.0.mlp.fc1.weight" in name for name in changed)


def test_what_is_no_lora_for_this_base_is_refused_and_changes_nothing(tmp_path) -> None:
    base = tiny_base("sd15")
    found = matrices(base)
    tensors, before = kohya(found, 4.0), states(base)

    def refused(
        content: dict[str, Tensor], message: str, to: Base = base, metadata: dict[str, str] | None = None
    ) -> None:
        path: Path = tmp_path / "lora.safetensors"
        write_weights(content, path, metadata or {})
        with pytest.raises(MaquetteError, match=message):
            to.add_lora(path)

    refused(tensors, "made for another base: it changes .* by .* times .* has the shape", tiny_base("sd21"))
    refused(tensors, "made for another base: it changes 'lora_unet_.*', which this one does not", tiny_base("sdxl"))
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    refused({**tensors, f"{stem}.dora_scale": torch.ones(1)}, "no LoRA that can be added: .*dora_scale.*no DoRA")
    refused({"conv.weight": torch.ones(1)}, r"no LoRA that can be added: it has a tensor 'conv\.weight'")
    refused({f"{stem}.lora_up.weight": torch.ones(32, 4, 1, 1)}, "lacks half of its update")
    last = next(name for name in reversed(tensors) if "lora_up" in name)
    refused({**tensors, last: torch.full_like(tensors[last], float("inf"))}, "not finite numbers")
    refused({**tensors, f"{stem}.alpha": torch.ones(2)}, "one number, not .1.0, 1.0.")
    for settings in ({"unet.lora_alpha": "four"}, {"unet.alpha_pattern": [4]}):
        kept = {"lora_adapter_metadata": json.dumps(settings)}
        refused(peft(found, 0.0), "one number, not 'four'|are not JSON", metadata=kept)
    with pytest.raises(MaquetteError, match="There is no LoRA"):
        base.add_lora(tmp_path / "nothing.safetensors")
    with pytest.raises(MaquetteError, match="weight of a LoRA is a number, usually 0 to 1, not nan"):
        base.add_lora(tmp_path / "lora.safetensors", float("nan"))
    after = states(base)
    assert all(torch.equal(before[name], after[name]) for name in before)
