"""Seeds as they are typed: a number, a list, or random ones."""

import secrets
import sys

from maquette.cli.generation.options import SamplingOptions
from maquette.errors import MaquetteError
from maquette.sampling.config import Sampling

RANDOM = 2**32


def read_seeds(seed: str, seeds: str | None, count: int) -> list[int]:
    """The seed of each image: those listed, or `count` from the first on.

    Raises `MaquetteError` for anything but whole numbers and "random", and for a count below 1.
    """
    if count < 1:
        raise MaquetteError(f"count is a whole number of 1 or more, not {count}.")
    if seeds is not None:
        return [_read(word) for word in seeds.split(",")]
    first = _read(seed)
    return list(range(first, first + count))


def _read(word: str) -> int:
    if word.strip() == "random":
        return secrets.randbelow(RANDOM)
    if not word.strip().isdecimal():
        raise MaquetteError(f"A seed is a whole number of 0 or more, or random, not {word!r}.")
    Sampling.check(seed=int(word))
    return int(word)


def say_seeds(options: SamplingOptions, seeds: list[int]) -> None:
    """Print the seeds if they are random: with them the same images can be generated without a file."""
    if "random" in f"{options.seed},{options.seeds}":
        print(f"Seed: {', '.join(map(str, seeds))}", file=sys.stderr)
