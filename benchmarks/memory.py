"""Memory that generating takes beside the weights: estimated from the networks' shapes, and measured.

    OMP_NUM_THREADS=1 python benchmarks/memory.py                              # all cases, minutes
    OMP_NUM_THREADS=1 python benchmarks/memory.py real:decoding:512:1 real:bands:512:1

A case is BASE:WORK:SIZE:BATCH, a process each. BASE: diorama, or real: Stable Diffusion 1.5's shapes with random
weights; float32. WORK: denoising, with guidance; decoding; or bands, decoding with low memory. Prints MiB, and seconds
of the processor that the work took.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CASES = (
    *(f"diorama:{work}:{size}:{batch}" for size, batch in ((128, 8), (256, 4)) for work in ("denoising", "decoding")),
    "diorama:bands:512:1", "real:denoising:512:1", "real:decoding:512:1", "real:bands:512:1", "real:bands:1024:1",
)  # fmt: skip


def status(name: str) -> int:
    """Bytes of this process, as Linux tells them."""
    return 1024 * int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0])


def base_of(name: str) -> Any:
    """A base in float32; real: with weights of the right shapes."""
    import torch

    import maquette as mq

    if name != "real":
        return mq.load_base(name, "cpu", "float32")
    sys.path.insert(0, str(Path(__file__).parent))
    from real_models import MODELS

    return MODELS["sd15"].make(torch.float32)[0]


def measure(case: str) -> dict[str, Any]:
    """One case, in this process."""
    import torch

    from maquette.foundation.memory import return_freed
    from maquette.sampling.memory.need import Request

    name, work, size, batch = case.split(":")
    torch.set_grad_enabled(False)
    base, side = base_of(name), int(size)
    text = base.encode_text(["a red house"])
    request = Request(base, (), text, (side, side), int(batch), 2, tiny=False, low_memory=work == "bands")
    estimated = request.needs()["denoising" if work == "denoising" else "decoding"]
    network = base.backbone.network if work == "denoising" else base.autoencoder
    with base.on_device(network):
        return_freed()
        Path("/proc/self/clear_refs").write_text("5")  # Linux begins anew to record the peak of memory
        before, started = status("VmRSS"), time.process_time()
        request.denoise() if work == "denoising" else request.decode()
        seconds = time.process_time() - started
    measured = status("VmHWM") - before
    return {
        "case": case, "estimated": estimated >> 20, "measured": measured >> 20,
        "ratio": round(estimated / measured, 2), "seconds": round(seconds, 1),
    }  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    print("| case | estimated, MiB | measured, MiB | ratio | seconds |\n| --- | --- | --- | --- | --- |")
    for case in sys.argv[1:] or CASES:
        command = [sys.executable, __file__, "--case", case]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"| {' | '.join(str(value) for value in found.values())} |", flush=True)


if __name__ == "__main__":
    main()
