"""Seconds from a command to the end of its first step: `maquette generate` on the embedded base, a process each.

    python benchmarks/start.py house.png          # the fastest of five, after one that is not counted

Prints seconds that passed and seconds of the processor, which other work on the machine lengthens too, but less.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 5


def measure(image: str, folder: Path) -> tuple[float, float]:
    """Seconds passed, and of the processor, until the progress bar has counted a step."""
    command = [sys.executable, "-m", "maquette", "generate", image, "--steps", "1", "-o", folder / "out.png"]
    started, said = time.perf_counter(), b""
    with subprocess.Popen([*command, "--overwrite"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        while b"1/1" not in said:
            said += (new := os.read(run.stderr.fileno(), 4096))
            if not new:
                sys.exit(said.decode())
        passed = time.perf_counter() - started
        fields = Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].split()
        run.stderr.read()
    return passed, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # in user's and in system's code


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        measure(sys.argv[1], Path(name))
        passed, had = zip(*(measure(sys.argv[1], Path(name)) for _ in range(RUNS)), strict=True)
    print(f"{min(passed):.1f} s passed, {min(had):.1f} s of the processor")


if __name__ == "__main__":
    main()
