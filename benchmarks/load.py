"""Loading a base and a ControlNet at the real size of Stable Diffusion 1.5, beside diffusers, in one run.

    python benchmarks/load.py

Weights are random, in half precision, in diffusers' format (3 GB in a temporary folder); each load runs in a process of
its own. Prints seconds, and peak memory over the interpreter with everything imported as a share of the weights' size
in bfloat16, and appends them with date, device and commit to benchmarks/load.jsonl.
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

REPEATS = 3


def write_weights(folder: Path) -> int:
    """A base and a ControlNet; how many parameters they have."""
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.set_default_dtype(torch.float16)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    net = ControlNetModel.from_unet(unet)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
    )
    text = CLIPTextModel(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
    )
    words = {word: number for number, word in enumerate(("!", "<|startoftext|>", "<|endoftext|>"))}
    for part, name in ((unet, "unet"), (vae, "vae"), (text, "text_encoder")):
        part.save_pretrained(folder / "base" / name)
    CLIPTokenizer(vocab=words, merges=[], model_max_length=77).save_pretrained(folder / "base" / "tokenizer")
    DDIMScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "base" / "scheduler")
    index = {
        "_class_name": "StableDiffusionControlNetPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "base" / "model_index.json").write_text(json.dumps(index))
    net.save_pretrained(folder / "net")
    return sum(parameter.numel() for part in (unet, vae, text, net) for parameter in part.parameters())


def load(who: str, folder: Path) -> dict[str, float]:
    """Load both in bfloat16; seconds, and bytes of peak memory over what the imports took."""
    import torch
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    import maquette as mq
    from maquette.checkpoints import load_base, load_controlnet

    assert mq.Base
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if who == "maquette":
        base = load_base(folder / "base", dtype="bfloat16")
        net = load_controlnet(folder / "net", base)
        assert net.dtype == torch.bfloat16
    else:
        net = ControlNetModel.from_pretrained(folder / "net", torch_dtype=torch.bfloat16)
        StableDiffusionControlNetPipeline.from_pretrained(
            folder / "base", controlnet=net, torch_dtype=torch.bfloat16, safety_checker=None
        )
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)}


def measured(who: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, who, str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = [sys.executable, __file__, "write", name]
        written = subprocess.run(writer, check=True, capture_output=True, text=True).stdout
        size = 2 * int(written.splitlines()[-1])
        runs: dict[str, list[dict[str, float]]] = {"maquette": [], "diffusers": []}
        for _ in range(REPEATS):
            for who, kept in runs.items():
                kept.append(measured(who, folder))
    git = ["git", "rev-parse", "--short", "HEAD"]
    line = {
        "date": date.today().isoformat(),
        "commit": subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip(),
        "device": f"{platform.machine()} CPU",
        "weights_gigabytes": round(size / 1e9, 2),
    }
    for who, kept in runs.items():
        line[f"{who}_seconds"] = round(statistics.median(one["seconds"] for one in kept), 2)
        line[f"{who}_peak"] = round(max(one["bytes"] for one in kept) / size, 2)
    print(json.dumps(line))
    with Path(__file__).with_suffix(".jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case ["write", folder]:
            print(write_weights(Path(folder)))
        case [who, folder]:
            print(json.dumps(load(who, Path(folder))))
