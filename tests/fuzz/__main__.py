"""make fuzz: broken files for as long as it is let, with the counts of each kind; what breaks is kept in runs/fuzz.

python -m tests.fuzz --minutes 120 [--seed 0] [--kinds tar,rows] [--source src]
python -m tests.fuzz --sets [--seed 0] [--kinds tar,rows]: a fixed number of each, for the table in docs/reliability.md
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.fuzz.fuzzer import SOURCE, Fuzzer
from tests.fuzz.strategies import NAMES

KEPT = Path("runs/fuzz")
AT_ONCE = 100  # files of a kind before the next one
SETS = {
    "picture": 2000, "weights": 400, "base": 250, "controlnet": 100, "net": 100, "index": 150, "lora": 100, "tar": 200,
    "parquet": 200, "record": 260, "state": 120,
}  # fmt: skip
"""2,000 images, 1,100 checkpoints, 400 shards and tables, 260 records and 120 states of a training."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--cases", type=int, default=10**9, help="of each kind, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(NAMES))
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder that holds the package")
    parser.add_argument("--seconds", type=int, default=20, help="that a file may take")
    parser.add_argument("--sets", action="store_true", help="so many files of each kind as SETS says")
    given = parser.parse_args()
    start, seen = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder), given.source.absolute(), given.seconds)
        fuzzer.ready()
        kinds = given.kinds.split(",")
        counts = {kind: SETS.get(kind, 0) if given.sets else given.cases for kind in kinds}
        for kind, count, number in parts(counts, given.seed):
            if time.monotonic() - start > 60 * given.minutes:
                break
            found: list[tuple[str, str, bytes, str]] = []
            fuzzer.run(kind, count, number, found)
            note(found, seen)
        report(fuzzer, seen, time.monotonic() - start)
        coverage(fuzzer.close(), given.source)
    raise SystemExit(bool(seen))


def parts(counts: Mapping[str, int], seed: int) -> Iterator[tuple[str, int, int]]:
    """Kind, number of files and seed, of one kind after the other, until all files have been drawn."""
    for turn in range(-(-max(counts.values()) // AT_ONCE)):
        for kind, count in counts.items():
            if (left := count - turn * AT_ONCE) > 0:
                yield kind, min(AT_ONCE, left), seed + turn


def note(found: list[tuple[str, str, bytes, str]], seen: dict[tuple[str, str, str], int]) -> None:
    """Count what broke by its place; of each place the first is printed and kept."""
    for kind, name, content, detail in found:
        place = (kind, name, detail.split(": ")[0])
        if place not in seen:
            print(f"{kind} {name} {detail[:300]}", flush=True)
            keep(kind, name, content, detail)
        seen[place] = seen.get(place, 0) + 1


def keep(kind: str, name: str, content: bytes, detail: str) -> None:
    """Write a file that broke something, named as the corpus is: kind, place in a folder, digest."""
    KEPT.mkdir(parents=True, exist_ok=True)
    stem = "+".join(filter(None, (kind, name.replace("/", "="), hashlib.sha256(content).hexdigest()[:8])))
    (KEPT / stem).write_bytes(content)
    (KEPT / f"{stem}.txt").write_text(detail)


def report(fuzzer: Fuzzer, seen: dict[tuple[str, str, str], int], seconds: float) -> None:
    """Print the counts of each kind, and the rate."""
    outcomes = ("loads", "sentence", "else", "hangs", "killed by signal")
    print(f"| kind | {' | '.join(outcomes[:3])} |\n| --- | --: | --: | --: |")
    for kind in dict.fromkeys(kind for kind, _ in fuzzer.counts):
        print(f"| {kind} | {' | '.join(str(fuzzer.counts[kind, outcome]) for outcome in outcomes[:3])} |")
    total = sum(fuzzer.counts[kind, outcome] for kind in NAMES for outcome in outcomes[:3])
    print(f"{total} files in {seconds:.0f} s, {total / seconds:.0f} a second; {len(seen)} different faults.")
    for place, count in sorted(seen.items(), key=lambda item: -item[1]):
        print(f"{count:6} {' '.join(place)}")


def coverage(counts: dict[str, list[int]], source: Path) -> None:
    """Print how many lines of each reader's functions have run, and which have not."""
    print("| reader | lines | have run | |\n| --- | --: | --: | --- |")
    for file, (run, every, *left) in sorted(counts.items()):
        name = Path(file).relative_to(source.absolute() / "maquette")
        print(f"| {name} | {every} | {run / every:.0%} | {spans(left)} |")
    run, every = (sum(count[place] for count in counts.values()) for place in (0, 1))
    print(f"{run} of {every} lines of the readers' functions have run, {run / every:.1%}.")


def spans(numbers: list[int]) -> str:
    """Numbers in rising order, with a dash between the first and the last of each unbroken run."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number <= runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, dict.fromkeys(run))) for run in runs)


if __name__ == "__main__":
    main()
