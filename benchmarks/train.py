"""Cost of a training step, compared with fine-tuning the base and with diffusers' ControlNet training in the same run.

    python benchmarks/train.py                                                     # a CPU, at a quarter of the size
    python benchmarks/train.py --device cuda --width 320 --size 512 --batch-size 4 # Stable Diffusion 1.5's real shapes

Weights are random: a U-Net, an autoencoder and a text encoder of Stable Diffusion 1.5's shapes, with `width` in place
of 320 channels. Each case runs in a separate process, three times in turns. Prints seconds per step (the median of the
fastest turn), peak memory beyond that of the imports, and their ratios; appends them with date, device and commit to
benchmarks/train.jsonl.

| case | what a step does |
| --- | --- |
| controlnet | maquette: the locked half in bfloat16, latents and text features from the cache |
| middle | the same, with only the middle block connected |
| finetune | the whole base is trained, from the same cached latents and features |
| diffusers | the step of train_controlnet.py: autoencoder, text encoder, both networks, its AdamW |
| data | no network: reading cached pairs, samples per second |
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

STEPS, WARM = 8, 3  # timed steps, and warm-up steps
TURNS = 3  # since other work on the machine varies
TOKENS = 77


def make_base(width: int) -> Any:
    """A complete base of Stable Diffusion 1.5's shapes, with random weights."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from maquette.backbones.unet import UNetBackbone
    from maquette.base import Base
    from maquette.text.clip import Clip, ClipText, MissingTokenizer

    torch.manual_seed(0)
    text_width = 768 * width // 320
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=(width, 2 * width, 4 * width, 4 * width), cross_attention_dim=text_width
    )
    vae = AutoencoderKL(
        block_out_channels=[channels * width // 320 // 32 * 32 for channels in (128, 256, 512, 512)],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=text_width, intermediate_size=4 * text_width, num_attention_heads=12, num_hidden_layers=12
        )
    )
    schedule = dict(DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").config)
    clip = Clip(text, MissingTokenizer("the benchmark does not tokenize text"))
    return Base("random", UNetBackbone(unet), vae.eval(), ClipText(clip), schedule, 512)


def inputs(settings: argparse.Namespace, base: Any) -> dict[str, Any]:
    """One batch: images (B, 3, H, W), token ids (B, L), condition maps, and cached latents and features."""
    import torch

    generator = torch.Generator().manual_seed(0)
    count, side = settings.batch_size, settings.size
    return {
        "images": torch.rand((count, 3, side, side), generator=generator).mul(2).sub(1),
        "tokens": torch.randint(1000, (count, TOKENS), generator=generator),
        "condition": torch.rand((count, 3, side, side), generator=generator),
        "latents": torch.randn((count, 4, side // 8, side // 8), generator=generator),
        "text": torch.randn((count, TOKENS, base.backbone.text.width), generator=generator),
    }


def controlnet(settings: argparse.Namespace, connect: str) -> Callable[[], None]:
    import torch

    import maquette as mq
    from maquette.text.conditioning import Conditioning
    from maquette.training.distributed.world import World
    from maquette.training.hardware import faster_attention
    from maquette.training.loss import loss
    from maquette.training.stages import stage_of
    from maquette.training.state import State

    base = make_base(settings.width)
    batch = {
        name: value.to(settings.device)
        for name, value in inputs(settings, base).items()
        if name not in ("images", "tokens")
    }
    base.backbone.network.to(settings.device, torch.bfloat16)
    net = mq.ControlNet.attach(base).float().train()
    config = mq.TrainingConfig(
        condition="canny", output="unused", device=settings.device, connect=connect, learning_rate=1e-5
    )
    state = State.make(config, base, net, World(settings.device))
    state.enter(stage_of(config.model, 0, None))
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        state.optimizer.zero_grad()
        noise = torch.randn(batch["latents"].shape, generator=generator).to(settings.device)
        timesteps = torch.randint(1000, (settings.batch_size,), generator=generator).to(settings.device)
        text, condition = Conditioning(batch["text"]), batch["condition"]
        with faster_attention(base.device, *state.networks):
            with torch.autocast(settings.device, torch.bfloat16):
                value = loss(state.model, base.noise, batch["latents"], text, condition, timesteps, noise)
            state.backward(value)
        state.step()

    return step


def finetune(settings: argparse.Namespace) -> Callable[[], None]:
    import torch
    import torch.nn.functional as F

    from maquette.training.hardware import faster_attention

    base = make_base(settings.width)
    unet = base.backbone.unet.to(settings.device).train().requires_grad_(True)
    batch = {
        name: value.to(settings.device) for name, value in inputs(settings, base).items() if name in ("latents", "text")
    }
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        noise = torch.randn_like(batch["latents"])
        timesteps = torch.randint(1000, (settings.batch_size,), device=settings.device)
        noisy = base.noise.noised(batch["latents"], noise, timesteps)
        with faster_attention(base.device, unet):
            with torch.autocast(settings.device, torch.bfloat16):
                prediction = unet(noisy, timesteps, batch["text"]).sample
            F.mse_loss(prediction.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()

    return step


def diffusers(settings: argparse.Namespace) -> Callable[[], None]:
    """The steps of train_controlnet.py with mixed_precision=bf16, in their order."""
    import torch
    import torch.nn.functional as F
    from diffusers import ControlNetModel, DDPMScheduler

    base = make_base(settings.width)
    unet, vae, text = base.backbone.unet, base.autoencoder, base.text.text_encoders[0].encoder
    for locked in (unet, vae, text):
        locked.to(settings.device, torch.bfloat16)
    net = ControlNetModel.from_unet(unet).to(settings.device, torch.float32).train()
    batch = {name: value.to(settings.device) for name, value in inputs(settings, base).items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-6)
    schedule = DDPMScheduler.from_config(base.scheduler_config)

    def step() -> None:
        with torch.no_grad():
            latents = vae.encode(batch["images"].to(torch.bfloat16)).latent_dist.sample() * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(1000, (settings.batch_size,), device=settings.device)
        noisy = schedule.add_noise(latents.float(), noise.float(), timesteps).to(torch.bfloat16)
        with torch.no_grad():
            states = text(batch["tokens"], return_dict=False)[0]
        with torch.autocast(settings.device, torch.bfloat16):
            down, middle = net(
                noisy, timesteps, encoder_hidden_states=states, controlnet_cond=batch["condition"].to(torch.bfloat16),
                return_dict=False,
            )  # fmt: skip
            prediction = unet(
                noisy, timesteps, encoder_hidden_states=states,
                down_block_additional_residuals=[residual.to(torch.bfloat16) for residual in down],
                mid_block_additional_residual=middle.to(torch.bfloat16), return_dict=False,
            )[0]  # fmt: skip
        F.mse_loss(prediction.float(), noise.float()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


CASES: dict[str, Callable[[argparse.Namespace], Callable[[], None]]] = {
    "controlnet": lambda settings: controlnet(settings, "all"),
    "middle": lambda settings: controlnet(settings, "middle"),
    "finetune": finetune,
    "diffusers": diffusers,
}


def measure(settings: argparse.Namespace) -> dict[str, float]:
    """Seconds per step and peak memory in GiB of one case, in this process."""
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel  # noqa: F401
    from transformers import CLIPTextModel  # noqa: F401

    import maquette.training.loop  # noqa: F401
    from maquette.training.hardware import keep_pages

    before = resident()
    if settings.case != "diffusers":
        keep_pages(torch.device(settings.device))
    step, seconds = CASES[settings.case](settings), []
    for number in range(WARM + STEPS):
        started = time.perf_counter()
        step()
        if settings.device == "cuda":
            torch.cuda.synchronize()
        if number >= WARM:
            seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() if settings.device == "cuda" else resident() - before
    return {"seconds": statistics.median(seconds), "peak": peak / 2**30}


def resident() -> int:
    """Peak memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def samples_a_second() -> float:
    """Cached 512-pixel pairs read and collated on one core: posteriors, features and condition files."""
    import numpy as np
    import torch
    from PIL import Image

    from maquette.data.crop import CropView, ResizeCrop
    from maquette.data.pairs import SourcePairs
    from maquette.data.sources.open import open_source
    from maquette.noise.ddpm import DDPM
    from maquette.training.config import TrainingConfig
    from maquette.training.data.dataset import Batch, LatentSpec, SampleIndex, TrainingDataset
    from maquette.training.data.filling import text_key
    from maquette.training.data.latent_cache import Cache
    from maquette.training.data.tensor_store import Store

    torch.set_num_threads(1)
    count = 256
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = []
        for number in range(count):
            edges = np.zeros((512, 512, 3), np.uint8)
            edges[number::40] = edges[:, number::40] = 255
            Image.fromarray(edges).save(folder / f"{number}.png")
            lines.append(
                json.dumps({"file_name": f"{number}.png", "conditioning_image": f"{number}.png", "text": str(number)})
            )
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
        store = Store(folder / "cache.sqlite")
        keys = np.random.default_rng(0).integers(1, 255, (count, 1, 16), np.uint8)
        store.put((key.tobytes(), {"moments": torch.zeros(8, 64, 64, dtype=torch.half)}) for key in keys)
        store.put([(b"chunk".ljust(16), {"keys": torch.from_numpy(keys)})])
        chunks = np.frombuffer(b"chunk".ljust(16), np.uint8)[None]
        hidden_states = torch.zeros(TOKENS, 768, dtype=torch.bfloat16)
        store.put((text_key(b"", prompt), {"hidden_states": hidden_states}) for prompt in ["", *map(str, range(count))])
        pairs = SourcePairs.open("edges", open_source(folder), ResizeCrop((512, 512)))
        config = TrainingConfig(condition="edges", output="unused", data=str(folder))
        spec = LatentSpec(DDPM({}), 4, 8, 64)
        cache = Cache(store, chunks, (CropView(),), b"", count)
        dataset = TrainingDataset(pairs, cache, config.data, [np.arange(count)], spec, config.seed)
        started = time.perf_counter()
        for start in range(0, count, 32):
            Batch.of([dataset[SampleIndex(0, row, row)] for row in range(start, start + 32)])
        return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=160, help="channels of the first block, a multiple of 160")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--case", choices=list(CASES), help="measure only this case, in this process")
    settings = parser.parse_args()
    if settings.case:
        print(json.dumps(measure(settings)))
        return
    turns = [{case: run_case(case) for case in CASES} for _ in range(TURNS)]
    results = {case: min((turn[case] for turn in turns), key=lambda result: result["seconds"]) for case in CASES}
    ours = results["controlnet"]
    line = {
        "date": date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
        ).stdout.strip(),
        **description(settings),
        **{f"{case} {name}": round(value, 3) for case, values in results.items() for name, value in values.items()},
        "time over finetune": round(ours["seconds"] / results["finetune"]["seconds"], 3),
        "memory over finetune": round(ours["peak"] / results["finetune"]["peak"], 3),
        "speed over diffusers": round(results["diffusers"]["seconds"] / ours["seconds"], 3),
        "memory over diffusers": round(ours["peak"] / results["diffusers"]["peak"], 3),
        "middle over all": round(results["middle"]["seconds"] / ours["seconds"], 3),
        "cached samples a second and core": round(samples_a_second()),
    }
    print(json.dumps(line, indent=1))
    with Path(__file__).with_suffix(".jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def run_case(case: str) -> dict[str, float]:
    child = subprocess.run([sys.executable, *sys.argv, "--case", case], check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return result


def description(settings: argparse.Namespace) -> dict[str, object]:
    import torch

    cpu = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return {
        "device": torch.cuda.get_device_name() if settings.device == "cuda" else cpu,
        "dtype": "bfloat16",
        "width": settings.width,
        "size": settings.size,
        "batch": settings.batch_size,
    }


if __name__ == "__main__":
    main()
