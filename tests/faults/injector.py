"""Let each write, rename, sync and creation of a file fail once, in turn; run the writer again; compare.

LD_PRELOAD=fault.so python tests/faults/injector.py SCENARIO [POINTS [FIRST]]
LD_PRELOAD=fault.so python tests/faults/injector.py SCENARIO [POINTS [FIRST]] kills
LD_PRELOAD=fault.so python tests/faults/injector.py SCENARIO SIZES disks
LD_PRELOAD=fault.so python tests/faults/injector.py SCENARIO closed

POINTS: how many of the places to try, evenly spread from FIRST on; by default all. Each is tried with an error of the
disk, a disk that stays full, and a kill in the middle of the write; with kills, with that alone. SIZES: disks with as
many numbers of bytes left, from one to one less than the writer writes. The last line printed is JSON: the number of
places (or of bytes) and of outcomes.

closed: instead of all that, write as another user into a folder that is not theirs; prints how that ended.

The writers run in forked processes of this one, which has imported everything.
"""

import ctypes
import json
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from tests.faults.scenarios import SCENARIOS, Scenario, base, contents

from maquette.errors import MaquetteError, MaquetteWarning

KINDS = {"error": 0, "full": 1, "kill": 2, "room": 3}
PLACES = ("error", "full", "kill")  # of a place; the last is of a number of bytes
DONE, SAID, ELSE, KILLED = "done", "said", "else", "killed"
CODES = {0: DONE, 3: SAID, 4: ELSE}
NOBODY = 65534  # a user that owns nothing
AGAIN = 3  # runs that may follow a fault


def forked(
    scenario: Scenario, folder: Path, at: int = 0, kind: str = "error", user: int | None = None
) -> tuple[str, str, int]:
    """Run a writer in a process of its own; returns how it ended, what it printed, and its number of places or bytes.

    Args:
        at: the number of the place that fails, or the bytes that there is room for; 0 for none.
        user: whose process it is; by default this one's.
    """
    log = folder.with_suffix(".log")
    process = os.fork()
    if process == 0:
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            if user is not None:
                os.setuid(user)
            code = _write(scenario, folder, at, kind)
            counted = ctypes.CDLL(None).fault_bytes if kind == "room" else ctypes.CDLL(None).fault_count
            counted.restype = ctypes.c_long
            print(f"places {counted()}", flush=True)
            os._exit(code)
        finally:
            os._exit(4)
    _, status = os.waitpid(process, 0)
    text = log.read_text(errors="replace")
    last = text.split()[-1] if text.split() else ""
    code = os.waitstatus_to_exitcode(status)
    return CODES.get(code, KILLED if code == -9 else ELSE), text, int(last) if last.isdigit() else 0


def _write(scenario: Scenario, folder: Path, at: int, kind: str) -> int:
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", MaquetteWarning)
    ctypes.CDLL(None).fault_arm(ctypes.c_long(at), KINDS[kind], f"{folder}/".encode())
    try:
        scenario.write(folder)
    except (MaquetteError, OSError) as error:  # the command line prints both as a sentence
        print(f"maquette: {error}", flush=True)
        return 3
    except BaseException:
        traceback.print_exc()
        return 4
    return 0


def tried(scenario: Scenario, folder: Path, expected: dict[str, str], at: int, kind: str) -> tuple[str, str]:
    """Inject a fault and run again; returns the outcome, and what there is to say about it."""
    scenario.prepare(folder)
    ended, text, _ = forked(scenario, folder, at, kind)
    where = next((line for line in text.splitlines() if line.startswith("fault: ")), "no fault")
    try:
        if ended == ELSE:
            raise AssertionError(text)
        scenario.check(folder)
        said = ended == SAID
        for _ in range(AGAIN):
            ended, text, _ = forked(scenario, folder)
            said = said or ended == SAID or "MaquetteWarning" in text
            if ended == DONE:
                break
        assert ended == DONE, text
        scenario.check(folder)
        found = scenario.result(folder)
        different = sorted(name for name in {**expected, **found} if expected.get(name) != found.get(name))
        left = [path.name for path in folder.rglob(".*.maquette-*")]
        assert not left, f"temporary files stay: {left}"
        if different:
            assert "MaquetteWarning" in text, f"other results without a word: {different}"
            return "said", where
        return "equal", where
    except Exception as error:
        return "else", f"{where}: {type(error).__name__}: {error}"


def main(name: str, count: int | None = None, first: int = 1, kinds: tuple[str, ...] = PLACES) -> None:
    """Try a scenario's places, or its numbers of bytes, and print what came of them."""
    scenario = SCENARIOS[name]
    base()
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "work"  # the same each time: records name the files that they were made from
        scenario.prepare(folder)
        ended, text, places = forked(scenario, folder, kind=kinds[0])
        assert ended == DONE, text
        expected = scenario.result(folder)
        shutil.rmtree(folder)
        chosen = range(first, places + 1, max(1, places // count) if count else 1)
        for at in chosen:
            for kind in kinds:
                outcome, words = tried(scenario, folder, expected, at, kind)
                outcomes[outcome] += 1
                print(f"{kind} at {at}: {outcome}, {words}", flush=True)
                shutil.rmtree(folder)
    print(json.dumps({"places": places, "tried": len(chosen) * len(kinds), **outcomes, "failures": outcomes["else"]}))


def closed(name: str) -> None:
    """Let a scenario write where it may not, and print how it ended, what it said, and what has changed."""
    scenario = SCENARIOS[name]
    base()
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        first, folder = (Path(temporary) / part for part in ("first", "work"))
        scenario.prepare(first)
        scenario.write(first)  # so that all is imported, which the other user may not read
        scenario.prepare(folder)
        before = contents(folder, "*")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        ended, text, _ = forked(scenario, folder, user=NOBODY if os.geteuid() == 0 else None)
        print(json.dumps({"ended": ended, "text": text, "changed": contents(folder, "*") != before}))
        folder.chmod(0o755)
        for path in folder.rglob("*"):
            path.chmod(0o755)


if __name__ == "__main__":
    how, numbers = sys.argv[-1], [int(number) for number in sys.argv[2:] if number.isdigit()]
    if how == "closed":
        closed(sys.argv[1])
    else:
        main(sys.argv[1], *numbers, kinds={"disks": ("room",), "kills": ("kill",)}.get(how, PLACES))
