"""Progress of a generation as a bar with rate and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def steps_bar(words: str) -> Iterator[Callable[[int, int], None]]:
    """A bar, and the function (done, total) that moves it."""
    with tqdm(desc=words, unit=" steps") as bar:

        def move(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move
