"""Judges on random weights, in files as they are published."""

import json
from pathlib import Path

import torch
from tests.unit.conditions.random_weights import by_formula
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from maquette.metrics.inception import InceptionNetwork

SIDE = 32  # pixels of the tiny CLIP's input


def write_clip(folder: Path, width: int = 8) -> Path:
    """A CLIP whose tokenizer knows letters, with vectors of `width` numbers."""
    letters = [chr(number) for number in range(97, 123)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    start, end = len(words) - 2, len(words) - 1
    common = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    text = {**common, **ends, "vocab_size": len(words), "max_position_embeddings": 16}
    vision = {**common, "image_size": SIDE, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=width)).save_pretrained(folder)
    tokenizer = CLIPTokenizer(vocab={word: n for n, word in enumerate(words)}, merges=[], model_max_length=16)
    tokenizer.save_pretrained(folder)
    settings = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_center_crop": True,
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def write_head(path: Path, width: int, layers: int = 5) -> tuple[Path, nn.Module]:
    """An aesthetic head as LAION publishes it, of one layer or of five, and the module it was saved from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        stack = [nn.Linear(width, 6), nn.Dropout(0.2), nn.Linear(6, 5), nn.Dropout(0.2), nn.Linear(5, 4)]
        stack += [nn.Dropout(0.1), nn.Linear(4, 3), nn.Linear(3, 1)]
        head = nn.Linear(width, 1) if layers == 1 else nn.Sequential(*stack)
    prefix = "" if layers == 1 else "layers."
    torch.save({f"{prefix}{name}": value for name, value in head.state_dict().items()}, path)
    return path, head


def write_inception(path: Path) -> Path:
    """Inception's file on random weights, with the classifier's tensors."""
    with torch.device("meta"):
        state = InceptionNetwork().state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    tensors = by_formula(shapes)
    torch.save({**tensors, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)
    return path
