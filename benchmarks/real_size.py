"""Generation at published shapes, one ControlNet and guidance, compared with diffusers' pipeline.

    make bench                                       # or: python benchmarks/real_size.py --turns 2
    python benchmarks/real_size.py --steps 20 --turns 1
    python benchmarks/real_size.py --cases maquette-bfloat16,diffusers-bfloat16 --size 256
    python benchmarks/real_size.py --model sd3 --steps 1 --cases maquette-bfloat16,diffusers-bfloat16
    python benchmarks/real_size.py --steps 4 --turns 1 --cases maquette-bfloat16,maquette-bfloat16-half
    OMP_NUM_THREADS=1 python benchmarks/real_size.py # beside other work: then read the seconds of the processor

Models are those of benchmarks/real_models.py, Stable Diffusion 1.5 without `--model`. Weights are random, and the same
for every case. Each case runs in a process of its own, in turns. Prints as a table
seconds of the fastest turn for a step and for decoding, passed and of the processor, peak memory of the process once it
has loaded, and how far its final latents are from those of diffusers in float32, and in its own precision, as shares
of their deviation; appends them with date, device, versions and commit to benchmarks/real_size.jsonl.

| case | what it is |
| --- | --- |
| diffusers-float32 | the pipeline as it comes |
| diffusers-bfloat16 | as an expert tunes it: bfloat16, channels last |
| maquette-float32, maquette-bfloat16 | `generate`, in these precisions |
| -none, -half, -two after either | without control, with control in the first half of the steps, with two ControlNets |
"""

import argparse
import copy
import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

CASES = ("diffusers-float32", "maquette-float32", "diffusers-bfloat16", "maquette-bfloat16")
PROMPT, GUIDANCE = "a red house in the snow", 9.0


def with_maquette(model: Any, base: Any, published: Any, condition: Any, _: str, controls: str = "") -> Any:
    """Functions that generate latents in some steps, and decode them."""
    import maquette as mq
    from maquette.checkpoints.controlnets import read_controlnet

    with tempfile.TemporaryDirectory() as folder:
        published.save_pretrained(folder)
        published.to("meta")  # so that its weights are not held twice
        net = read_controlnet(Path(folder), base.backbone).eval().requires_grad_(False)
    nets = {"none": [], "two": [net, copy.deepcopy(net)]}.get(controls, [net])
    given = [mq.Control(one, condition, end=0.5 if controls == "half" else 1.0) for one in nets]
    size = (condition.shape[3], condition.shape[2])
    settings = {"guidance": GUIDANCE, "sampler": model.sampler, "returns": "latents", "size": size}

    def latents(steps: int) -> Any:
        return mq.generate(base, PROMPT, given, steps=steps, **settings)

    return latents, base.decode_latents


def with_diffusers(model: Any, base: Any, published: Any, condition: Any, dtype: str) -> Any:
    """Functions that generate latents in some steps, and decode them."""
    import torch

    pipe = model.pipeline(base, published)
    network, vae = base.backbone.network, pipe.vae
    if dtype == "bfloat16":
        for one in (network, published, vae):
            one.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    settings = {"guidance_scale": GUIDANCE, "output_type": "latent", **model.given(condition)}

    def latents(steps: int) -> Any:
        shape = (1, model.channels, *(side // 8 for side in condition.shape[2:]))
        start = torch.randn(shape, generator=torch.manual_seed(0)).to(network.dtype)
        return pipe(PROMPT, latents=start, num_inference_steps=steps, **settings).images

    @torch.no_grad()
    def decode(found: Any) -> Any:
        found = found.to(vae.dtype) / vae.config.scaling_factor + (vae.config.shift_factor or 0)
        return pipe.image_processor.postprocess(vae.decode(found, return_dict=False)[0])

    return latents, decode


def clocks() -> dict[str, float]:
    """Seconds that have passed, and those of the processor that this process has had."""
    passed, had = time.perf_counter(), time.process_time()
    return {"step": passed, "decoding": passed, "step_cpu": had, "decoding_cpu": had}


def run(name: str, case: str, size: int, steps: int, output: Path) -> None:
    """One case, in this process: its numbers as JSON on standard output, its latents in a file."""
    import torch
    from real_models import MODELS

    library, dtype, *controls = case.split("-")
    torch.set_grad_enabled(False)
    model = MODELS[name]
    base, published = model.make(getattr(torch, dtype))
    condition = torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(0))
    functions = with_maquette if library == "maquette" else with_diffusers
    latents, decode = functions(model, base, published, condition, dtype, *controls)
    ctypes.CDLL(None).malloc_trim(0)  # what was freed since goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # Linux begins anew to record the peak of memory
    decode(latents(1))  # kernels are chosen and made at the first call
    before = clocks()
    found = latents(steps)
    between = clocks()
    decode(found)
    after = clocks()
    seconds = {name: (between[name] - before[name]) / steps for name in before if "step" in name}
    seconds |= {name: after[name] - between[name] for name in before if "decoding" in name}
    torch.save(found.float(), output)
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
    print(json.dumps({**{name: round(value, 2) for name, value in seconds.items()}, "peak_gib": round(peak, 2)}))


def turns(settings: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Each case's fastest turn and largest memory."""
    found: dict[str, dict[str, float]] = {}
    for _ in range(settings.turns):
        for case in settings.cases.split(","):
            command = [sys.executable, __file__, "--model", settings.model, "--case", case]
            command += ["--size", str(settings.size), "--steps", str(settings.steps), "--output", str(folder / case)]
            line = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(case, line, flush=True)
            before = found.get(case, line)
            best = {name: min(line[name], before[name]) for name in line if name != "peak_gib"}
            found[case] = {**best, "peak_gib": max(line["peak_gib"], before["peak_gib"])}
    return found


def differences(case: str, folder: Path) -> dict[str, float]:
    """How far latents are from diffusers' in float32, and in the case's precision: at most, and root mean square."""
    import torch

    apart = {}
    for name, reference in ("float32", CASES[0]), ("same_precision", f"diffusers-{case.partition('-')[2]}"):
        if case in CASES and (folder / reference).exists():
            exact, found = torch.load(folder / reference), torch.load(folder / case)
            difference = (found - exact) / exact.std()
            apart[f"largest_from_{name}"] = float(f"{difference.abs().max():.1e}")
            apart[f"rms_from_{name}"] = float(f"{difference.square().mean().sqrt():.1e}")
    return apart


def table(lines: list[dict[str, Any]]) -> str:
    """Measurements as a Markdown table, a row for each case."""
    where = ("date", "commit", "device", "threads", "versions", "model", "size", "steps")
    names = [name for name in lines[0] if name not in where]
    rows = [names, ["---"] * len(names), *([str(line.get(name, "")) for name in names] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="sd15")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--case")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    settings = parser.parse_args()
    if settings.case:
        run(settings.model, settings.case, settings.size, settings.steps, settings.output)
        return
    with tempfile.TemporaryDirectory() as name:
        found = turns(settings, Path(name))
        apart = {case: differences(case, Path(name)) for case in found}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout
    where = {
        "date": date.today().isoformat(), "commit": commit.strip(), "device": platform.machine(),
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "versions": {package: version(package) for package in ("torch", "diffusers")},
        "model": settings.model, "size": settings.size, "steps": settings.steps,
    }  # fmt: skip
    lines = [{**where, "case": case, **numbers, **apart[case]} for case, numbers in found.items()]
    with Path(__file__).with_suffix(".jsonl").open("a") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    print(table(lines))


if __name__ == "__main__":
    main()
