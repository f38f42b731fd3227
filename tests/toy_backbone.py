"""A family of base models unlike a U-Net: a flow-matching transformer on patches of 2 × 2 latents, with masked text as
bytes, and ControlNets that copy half of the blocks and encode the condition's latents."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import save_model
from torch import Tensor, nn

from maquette.backbones.protocol import ControlFamily, Slot
from maquette.backbones.residuals import Residuals
from maquette.backbones.wiring import ceil
from maquette.base import Base
from maquette.checkpoints.families import Family, register
from maquette.checkpoints.networks import filled, part_settings, part_weights
from maquette.text.conditioning import Conditioning, TextEncoder, TextInputs
from tests.conftest import tiny_vae

BLOCKS, COPIED, WIDTH, PATCH, LENGTH = 4, 2, 32, 2, 24
SCHEDULE = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}


def new_block() -> nn.Module:
    """Self-attention, cross-attention to the text, and two linear layers."""
    return nn.TransformerDecoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)


def run(block: nn.Module, x: Tensor, text: Conditioning) -> Tensor:
    """Run a block on a map of tokens (B, WIDTH, h / 2, w / 2)."""
    states = text.hidden_states.to(x.dtype)
    padding = None if text.mask is None else ~text.mask
    return block(x.flatten(2).mT, states, memory_key_padding_mask=padding).mT.unflatten(2, x.shape[2:])


class Start(nn.Module):
    """Embeds latents (B, C, h, w) and time (B,), then runs blocks; ControlNets copy it with the first blocks only."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.embed, self.time = nn.Conv2d(channels, WIDTH, PATCH, stride=PATCH), nn.Linear(2, WIDTH)
        self.blocks = nn.ModuleList(new_block() for _ in range(blocks))

    def first(self, latents: Tensor, timestep: Any) -> Tensor:
        angle = torch.as_tensor(timestep, device=latents.device).expand(len(latents)) / 1000
        time = self.time(torch.stack([angle.cos(), angle.sin()], dim=1).to(latents.dtype))
        return self.embed(latents) + time[:, :, None, None]

    def forward(self, latents, timestep, text, control_features=None, outputs=None) -> tuple[Tensor, ...]:
        x = self.first(latents, timestep)
        maps = [x if control_features is None else x + control_features]
        for block in self.blocks[:outputs]:
            maps.append(run(block, maps[-1], text))
        return tuple(maps[1:])


class ToyTransformer(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, channels: int = 4, size: int = 128) -> None:
        super().__init__()
        self.start, self.out = Start(channels, BLOCKS), nn.ConvTranspose2d(WIDTH, channels, PATCH, stride=PATCH)


class ToyControl(ControlFamily):
    outputs = tuple(Slot(f"blocks.{number}", WIDTH, PATCH) for number in range(COPIED))
    wiring = ceil(COPIED, BLOCKS)
    condition_space = "latents"

    def published(self, name: str) -> str:
        part, rest = name.split(".", 1)
        return {"trainable_copy": "", "condition_encoder": "condition.", "zero_convs": "zero."}[part] + rest

    def config(self, encoder: nn.Module) -> dict[str, Any]:
        return {"_class_name": "ToyControlNet", "num_layers": COPIED}


class ToyBackbone:
    family = "toy"
    slots = tuple(Slot(f"blocks.{number}", WIDTH, PATCH) for number in range(BLOCKS))

    def __init__(self, network: ToyTransformer, downscale: int) -> None:
        self.network, self.downscale = network.requires_grad_(False).eval(), downscale
        self.latent_channels, self.text = network.config.channels, TextInputs(WIDTH)

    def prepare(self, latents: Tensor, timestep: Any, text: Conditioning) -> tuple[Tensor, Conditioning]:
        with torch.set_grad_enabled(self.network.start.embed.weight.requires_grad and torch.is_grad_enabled()):
            return self.network.start.first(latents, timestep), text

    def finish(self, state: tuple[Tensor, Conditioning], residuals: Residuals | None = None) -> Tensor:
        x, text = state
        for block, residual in zip(self.network.start.blocks, residuals or [None] * BLOCKS, strict=True):
            x = run(block, x, text)
            x = x if residual is None else x + residual
        return self.network.out(x)

    def decoder_parameters(self) -> list[nn.Parameter]:
        return [*self.network.start.blocks.parameters(), *self.network.out.parameters()]

    def control(self, config: Mapping[str, Any] | None = None) -> ToyControl:
        return ToyControl()

    def told_config(self, weights: Any) -> dict[str, Any]:
        return {}

    def make_copy(self, outputs: int, config: Mapping[str, Any] | None = None) -> nn.Module:
        copied = deepcopy(self.network.start).requires_grad_(True)
        copied.blocks = copied.blocks[:outputs]
        return copied


class ToyText(TextEncoder):
    """Embedded bytes after a start token, so that no prompt is empty."""

    outputs, vocabulary = TextInputs(WIDTH), "bytes"

    def __init__(self, table: nn.Embedding) -> None:
        self.table, self.modules = table.requires_grad_(False), (table,)

    @torch.no_grad()
    def encode(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        ids = [[1, *prompt.encode()][:LENGTH] for prompt in prompts]
        padded = torch.tensor([[*row, *[0] * (LENGTH - len(row))] for row in ids], device=self.table.weight.device)
        return Conditioning(self.table(padded), mask=padded > 0)

    def warn_of_cut(self, prompt: str) -> None: ...

    def save(self, folder: Path) -> dict[str, list[str]]:
        (folder / "bytes").mkdir()
        save_model(self.table, folder / "bytes" / "model.safetensors")
        return {"bytes": ["tests", "ToyText"]}


@register
class Toy(Family):
    name, part, network_class, controlnet_class = "toy", "transformer", "ToyTransformer", "ToyControlNet"

    def read_network(self, folder, where, downscale):
        config = part_settings(folder, self.part, ToyTransformer.load_config)
        network = filled(lambda: ToyTransformer.from_config(config), part_weights(folder, self.part), where)
        return ToyBackbone(network, downscale), network.config.size

    def read_text(self, folder, where, index, backbone) -> ToyText:
        return ToyText(filled(lambda: nn.Embedding(256, WIDTH), part_weights(folder, "bytes"), where))


def toy_base(seed: int = 0) -> Base:
    torch.manual_seed(seed)
    autoencoder, text = tiny_vae(4), ToyText(nn.Embedding(256, WIDTH))
    return Base("toy", ToyBackbone(ToyTransformer(), 8), autoencoder, text, SCHEDULE, 128)
