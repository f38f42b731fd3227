"""Progress bars with rate and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def steps_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; yields the function (done, total) that updates it."""
    with tqdm(desc=label, unit=" steps") as bar:

        def move(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move
