"""One whole file of each kind, from which broken ones are made; all of them small."""

import base64
import io
import json
import tarfile
from functools import cache

import datasets
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from maquette.sampling.metadata import image_hash, pack


def picture(kind: str = "PNG", mode: str = "RGB", **more: object) -> bytes:
    values = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(values).convert(mode).save(content, kind, **more)
    return content.getvalue()


@cache
def in_base64() -> str:
    """A picture as requests hold it."""
    return base64.b64encode(picture()).decode()


@cache
def pictures() -> list[bytes]:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    return [
        picture(), picture(mode="P"), picture(mode="L"), picture(mode="RGBA"), picture("JPEG"),
        picture("JPEG", "CMYK"), picture("WEBP"), picture("WEBP", lossless=True), picture("BMP"), picture("TIFF"),
        picture("TIFF", compression="tiff_lzw"), picture("PPM"), picture("GIF", save_all=True, append_images=frames),
        picture("TIFF", save_all=True, append_images=frames),
    ]  # fmt: skip


def tensors() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.ones(4, 3), "b": torch.zeros(5, dtype=torch.float16), "n": torch.tensor(3)}


@cache
def checkpoints() -> list[bytes]:
    found = [save(tensors(), {"said": "so"})]
    for modern in (True, False):
        content = io.BytesIO()
        torch.save({"state_dict": tensors(), "epoch": 1}, content, _use_new_zipfile_serialization=modern)
        found.append(content.getvalue())
    return found


@cache
def state() -> bytes:
    """A training's, as `maquette.training.checkpoint` writes it."""
    content = io.BytesIO()
    torch.save({"step": 2, "net": tensors(), "log": [{"step": 1, "loss": 0.5}]}, content)
    return content.getvalue()


@cache
def loras() -> list[bytes]:
    """As kohya's sd-scripts and as diffusers write them, for the tiny base's first attention."""
    down, up = torch.full((2, 16), 0.1), torch.full((16, 2), 0.1)
    kohya = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    dotted = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    settings = json.dumps({"unet.lora_alpha": 4, "unet.alpha_pattern": {"attn1.to_q": 2}, "unet.use_rslora": True})
    return [
        save({f"{kohya}.lora_down.weight": down, f"{kohya}.lora_up.weight": up, f"{kohya}.alpha": torch.tensor(1.0)}),
        save({f"{dotted}.lora_A.weight": down, f"{dotted}.lora_B.weight": up}, {"lora_adapter_metadata": settings}),
    ]


@cache
def tars() -> list[bytes]:
    found = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=kind) as archive:
            for key in ("0", "1", "x" * (120 if kind != tarfile.USTAR_FORMAT else 20)):
                for ending, part in (("png", picture()), ("json", b'{"text": "a red house"}')):
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(part)
                    archive.addfile(info, io.BytesIO(part))
        found.append(content.getvalue())
    return found


@cache
def tables() -> list[bytes]:
    kinds = {"image": datasets.Image(), "text": datasets.Value("string")}
    cells = {"image": [{"bytes": picture(), "path": None}] * 2, "text": ["a", "b"]}
    found = []
    for types, columns in (
        (kinds, cells),
        ({**kinds, "image": datasets.Value("string")}, {**cells, "image": ["1.png", "../2.png"]}),
    ):
        content = io.BytesIO()
        datasets.Dataset.from_dict(columns, datasets.Features(types)).to_parquet(content)
        found.append(content.getvalue())
    return found


@cache
def arrays() -> list[bytes]:
    found = []
    for values in (np.ones((8, 8, 1), np.float32), np.ones((8, 8))):
        content = io.BytesIO()
        np.save(content, values)
        found.append(content.getvalue())
    return found


@cache
def record() -> dict:
    image = Image.new("RGB", (64, 64), "white")
    settings = {
        "steps": 2, "guidance": 9.0, "condition_in": "both", "resolution_weights": "normalised", "sampler": "ddim",
        "strength": 1.0, "feather": None, "negative_prompt": "", "seed": 4, "count": 3, "size": [64, 64],
    }  # fmt: skip
    control = {
        "controlnet": "diorama/canny", "map": pack(image), "weight": 1.0, "start": 0.0, "end": 1.0,
        "curve": [[0, 1], [1, 0.5]], "map_hash": image_hash(image),
    }  # fmt: skip
    return {
        "base": "diorama", "prompt": "a red house", "dtype": "float32", "settings": settings, "controls": [control],
        "number": 1, "device": "cpu", "versions": {"torch": "2.0"},
    }  # fmt: skip


PEOPLE = {
    "people": [{"pose_keypoints_2d": [10.0, 20.0, 1.0] * 18, "hand_left_keypoints_2d": None}],
    "canvas_width": 64,
    "canvas_height": 48,
}
INDEX = {"metadata": {"total_size": 1}, "weight_map": {"a.weight": "model.safetensors", "b": "other.safetensors"}}
TRAINING = {
    "condition": "canny", "output": "runs/x", "max_steps": 10, "data": {"scenes": 100, "prompt_drop": 0.5},
    "model": {"encoder": "paper"}, "optimizer": {"learning_rate": 1e-4}, "monitor": {}, "hardware": {"accumulation": 1},
}  # fmt: skip
PREPROCESSOR = {
    "image_processor_type": "DPTImageProcessor", "size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5], "do_resize": True, "keep_aspect_ratio": True, "ensure_multiple_of": 16,
}  # fmt: skip
METRICS = [
    {"step": step, "seconds": step / 2, "loss": 0.5 / step, "fidelity": 0.1 * step, "gain share": 0.02,
     "fidelity of each": [0.1, None]} for step in range(1, 6)
]  # fmt: skip
ROWS = [{"file_name": "1.png", "text": "a red house"}, {"file_name": "1.png", "text": "a ball"}]


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()
