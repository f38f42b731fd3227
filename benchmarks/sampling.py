"""Generation compared with diffusers' pipeline in the same run: same weights, seeds and steps.

    make bench

Prints seconds per image and ratios, and appends them with date, device and commit to benchmarks/sampling.jsonl.
"""

import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline

import maquette as mq
from maquette.base import Base
from maquette.controlnet.network import ControlNet

COUNT, STEPS, GUIDANCE, REPEATS = 8, 20, 4.0, 5


def with_diffusers(base: Base, net: ControlNet, condition: torch.Tensor) -> Callable[..., None]:
    with tempfile.TemporaryDirectory() as folder:
        net.save(folder)
        published = ControlNetModel.from_pretrained(folder)
    pipe = StableDiffusionControlNetPipeline(
        vae=base.autoencoder,
        text_encoder=base.text.text_encoders[0].encoder,
        tokenizer=base.text.text_encoders[0].tokenizer,
        unet=base.backbone.unet,
        controlnet=published,
        scheduler=DDIMScheduler.from_config(base.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)

    def run(**settings: object) -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in range(COUNT)]
        prompts = ["a red house in the snow"] * COUNT
        pipe(
            prompts,
            image=condition,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=generators,
            **settings,
        )

    return run


def with_maquette(base: Base, net: ControlNet, condition: torch.Tensor) -> Callable[..., None]:
    def run(end: float = 1.0, condition_in: str = "both") -> None:
        control = mq.Control(net, condition, end=end)
        mq.generate(
            base, "a red house in the snow", [control], steps=STEPS, guidance=GUIDANCE, count=COUNT,
            condition_in=condition_in,
        )  # fmt: skip

    return run


def main() -> None:
    base = mq.load_base("diorama")
    net = mq.ControlNet.attach(base)
    condition = torch.rand(1, 3, base.size, base.size, generator=torch.Generator().manual_seed(0))
    ours, theirs = with_maquette(base, net, condition), with_diffusers(base, net, condition)
    cases: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "whole way": (ours, theirs),
        "first half of the steps": (lambda: ours(end=0.5), lambda: theirs(control_guidance_end=0.5)),
        "conditional branch alone": (lambda: ours(condition_in="conditional"), lambda: theirs(guess_mode=True)),
    }
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    for name, (first, second) in cases.items():
        seconds, reference = timed(first, second)
        line = {
            "date": date.today().isoformat(),
            "commit": commit,
            "device": f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
            "case": name,
            "maquette_seconds": round(seconds / COUNT, 3),
            "diffusers_seconds": round(reference / COUNT, 3),
            "ratio": round(seconds / reference, 3),
        }
        print(json.dumps(line))
        with Path(__file__).with_suffix(".jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")


def timed(first: Callable[[], None], second: Callable[[], None]) -> tuple[float, float]:
    """Median seconds of two functions called in turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(REPEATS + 1):
        for function, timings in zip((first, second), seconds, strict=True):
            started = time.perf_counter()
            function()
            if repeat:  # the first is a warm-up
                timings.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


if __name__ == "__main__":
    main()
