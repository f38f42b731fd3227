"""Reads one file after the other, each in a process of its own with limits on time and memory.

python -m tests.fuzz.server FOLDER: takes lines [kind, path, name, seconds] and answers each with a line
[outcome, detail]. The process imports once what reading needs, then forks for every file; it has a single thread.
In the end it writes FOLDER/lines.json: what of the readers has run (`tests.fuzz.lines`).
"""

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from typing import NoReturn

from tests.fuzz.lines import Lines

MEMORY = 4 * 2**30  # bytes that reading may take, above what the imports took
WAITING = 10  # seconds that may pass for each second of the processor
LONGEST = 1500  # characters of a sentence
STARTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "webbrowser.open")


class Server:
    """The process that reads, and what it said."""

    def __init__(self, folder: Path, source: Path) -> None:
        self._folder = folder
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MAQUETTE_DEVICE": "cpu",
            "HF_DATASETS_CACHE": str(folder / "datasets"), "TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join([str(source), str(Path(__file__).parents[2])]),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.server", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def read(self, kind: str, path: Path, name: str, seconds: int) -> tuple[str, str]:
        """Outcome, "loads", "sentence" or "else", and what was said."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([kind, str(path), name, seconds]) + "\n")
        self._process.stdin.flush()
        outcome, detail = json.loads(self._process.stdout.readline())
        return outcome, detail

    def close(self) -> dict[str, list[int]]:
        """End it; returns how much of each reader has run, as `tests.fuzz.lines` counts it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        counts: dict[str, list[int]] = json.loads((self._folder / "lines.json").read_text())
        return counts


def serve(folder: Path) -> None:
    import maquette
    from tests.fuzz.readers import Readers

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    readers = Readers(folder)
    lines = Lines(Path(str(maquette.__file__)).parent)
    for line in sys.stdin:
        kind, path, name, seconds = json.loads(line)
        outcome = _in_child(lambda k=kind, p=path, n=name: readers.read(k, Path(p), n), seconds, lines)
        answers.write(json.dumps(outcome) + "\n")
    (folder / "lines.json").write_text(json.dumps(lines.counts()))


def _in_child(read, seconds: int, lines: Lines) -> tuple[str, str]:
    """The outcome of a call in a forked process."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _carry_out(read, theirs, seconds, lines)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        said = answer.read()
    _, status, _ = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hangs = number in (signal.SIGALRM, signal.SIGPROF)
        return "else", f"hangs: over {seconds} s" if hangs else f"killed by signal {number}"
    if not said:
        return "else", f"exits with {os.waitstatus_to_exitcode(status)}: no answer"
    outcome, detail, found = json.loads(said)
    lines.add(found)
    return outcome, detail


def _carry_out(read, answer: int, seconds: int, lines: Lines) -> NoReturn:
    """Call within limits, and write the outcome to a pipe."""

    def tell(outcome: str, detail: str) -> NoReturn:
        sys.settrace(None)
        with os.fdopen(answer, "w") as told:
            told.write(json.dumps([outcome, detail[:3000], lines.found]))
        os._exit(0)

    def watch(event: str, _: object) -> None:
        if event in STARTS:
            tell("else", f"starts something: {event}")

    from maquette.errors import MaquetteError

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor: others may keep it busy
    signal.alarm(WAITING * seconds)
    sys.addaudithook(watch)
    warnings.simplefilter("ignore")
    try:
        lines.start()
        read()
    except MaquetteError as error:
        tell("sentence", str(error)) if len(str(error)) <= LONGEST else tell("else", f"long: {error}")
    except BaseException as error:  # a panic of Rust is no Exception
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/maquette/" in frame.filename] or frames
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        tell("else", f"{type(error).__name__} at {place}: {str(error)[:200]}")
    tell("loads", "")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
