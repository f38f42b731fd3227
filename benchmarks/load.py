"""Loading a base and a ControlNet at the real sizes of Stable Diffusion, compared with diffusers in the same run.

    python benchmarks/load.py               # 1.5, 2.1 and XL
    python benchmarks/load.py sd15          # one of them

Weights are random, in half precision, in diffusers' format (3 to 10 GB in a temporary folder); each load runs in a
separate process. Prints seconds, and peak memory beyond that of the imports as a share of the weights in bfloat16.
Appends them with date, device and commit to benchmarks/load.jsonl.
"""

import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

REPEATS = 3
PIPELINES = {
    "sd15": "StableDiffusionControlNetPipeline",
    "sd21": "StableDiffusionControlNetPipeline",
    "sdxl": "StableDiffusionXLControlNetPipeline",
}


UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768},
    "sd21": {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
    "sdxl": {
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
LARGE_TEXT = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32}
TEXTS: dict[str, list[dict[str, Any]]] = {
    "sd15": [{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}],
    "sd21": [{"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23}],
    "sdxl": [
        {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        {**LARGE_TEXT, "projection_dim": 1280},
    ],
}


def write_weights(family: str, folder: Path) -> int:
    """Write a base and a ControlNet; returns their number of parameters."""
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.set_default_dtype(torch.float16)
    unet = UNet2DConditionModel(sample_size=64, **UNETS[family])
    net = ControlNetModel.from_unet(unet)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
    )
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    texts = [kind(CLIPTextConfig(**config)) for kind, config in zip(kinds, TEXTS[family], strict=False)]
    vocabulary = {word: number for number, word in enumerate(("!", "<|startoftext|>", "<|endoftext|>"))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    index = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index |= {"scheduler": ["diffusers", "DDIMScheduler"]}
    for number, text in zip(("", "_2"), texts, strict=False):
        text.save_pretrained(folder / "base" / f"text_encoder{number}")
        tokenizer.save_pretrained(folder / "base" / f"tokenizer{number}")
        index |= {f"text_encoder{number}": ["transformers", type(text).__name__]}
        index |= {f"tokenizer{number}": ["transformers", "CLIPTokenizer"]}
    for part, name in ((unet, "unet"), (vae, "vae")):
        part.save_pretrained(folder / "base" / name)
    DDIMScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "base" / "scheduler")
    (folder / "base" / "model_index.json").write_text(json.dumps({"_class_name": PIPELINES[family], **index}))
    net.save_pretrained(folder / "net")
    return sum(parameter.numel() for part in (unet, vae, *texts, net) for parameter in part.parameters())


def load(library: str, family: str, folder: Path) -> dict[str, float]:
    """Load both in bfloat16; seconds, and bytes of peak memory beyond that of the imports."""
    import diffusers
    import torch

    import maquette as mq
    from maquette.checkpoints import load_base, load_controlnet

    assert mq.Base
    control, pipeline = diffusers.ControlNetModel, getattr(diffusers, PIPELINES[family])
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if library == "maquette":
        base = load_base(folder / "base", dtype="bfloat16")
        net = load_controlnet(folder / "net", base)
        assert net.dtype == torch.bfloat16
    else:
        net = control.from_pretrained(folder / "net", torch_dtype=torch.bfloat16)
        extra = {} if family == "sdxl" else {"safety_checker": None}
        pipeline.from_pretrained(folder / "base", controlnet=net, torch_dtype=torch.bfloat16, **extra)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)}


def measure(library: str, family: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, library, family, str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def compare(family: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = [sys.executable, __file__, "write", family, name]
        written = subprocess.run(writer, check=True, capture_output=True, text=True).stdout
        size = 2 * int(written.splitlines()[-1])
        runs: dict[str, list[dict[str, float]]] = {"maquette": [], "diffusers": []}
        for _ in range(REPEATS):
            for library, results in runs.items():
                results.append(measure(library, family, folder))
    git = ["git", "rev-parse", "--short", "HEAD"]
    line = {
        "date": date.today().isoformat(),
        "commit": subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip(),
        "device": f"{platform.machine()} CPU",
        "family": family,
        "weights_gigabytes": round(size / 1e9, 2),
    }
    for library, results in runs.items():
        line[f"{library}_seconds"] = round(statistics.median(result["seconds"] for result in results), 2)
        line[f"{library}_peak"] = round(max(result["bytes"] for result in results) / size, 2)
    print(json.dumps(line))
    with Path(__file__).with_suffix(".jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", family, folder]:
            print(write_weights(family, Path(folder)))
        case [library, family, folder]:
            print(json.dumps(load(library, family, Path(folder))))
        case families:
            for family in families or UNETS:
                compare(family)
