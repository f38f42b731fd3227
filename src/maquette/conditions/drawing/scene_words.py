"""Words for what the diorama's perception model sees, in the grammar of the world's own captions.

Things from left to right with their colours, then the setting. What cannot be seen reliably is left out: finishes,
postures, and a setting without sky or ground.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maquette.diorama.captions import enumerated
from maquette.diorama.settings import SETTINGS, Setting
from maquette.diorama.things import CLASSES, COLOUR_NAMES, with_article

SKY, GROUND, FIRST_THING = 0, 2, 3  # classes
SMALLEST = 0.006  # of the image: smaller areas are no things
SHARED = 0.25  # of an area: a colour with less is noise, one with more is a thing of its own
ROOF = 0.1  # of a house's coloured pixels: walls or roofs with less are hidden
ROUND = 0.45  # of its widest row: how wide the upper part of a round tree is, and that of a pine is not
HORIZON = 0.35  # how far the colour of the visible sky is from the horizon's towards the zenith's


@dataclass(frozen=True)
class Seen:
    """A thing in an image."""

    kind: str  # one of CLASSES
    colours: tuple[str, ...]  # the only one; of a house walls, then roof
    area: NDArray[np.bool_]  # (H, W)

    @property
    def column(self) -> float:
        """Mean over its pixels."""
        return float(np.nonzero(self.area)[1].mean())

    @property
    def phrase(self) -> str:
        """As captions name it, without article."""
        name, *roof = self.colours
        if self.kind == "person":
            return f"person in {with_article(name)} shirt"
        noun = f"{_tree_shape(self.area)} tree" if self.kind == "tree" else self.kind
        return f"{name} {noun}" + (f" with {with_article(roof[0])} roof" if roof else "")

    def continues(self, other: "Seen") -> bool:
        """Whether both are of one colour and touch, as the parts of an unclear shape do that is seen as two kinds."""
        if self.kind == other.kind or not set(self.colours) & set(other.colours):
            return False
        grown = cv2.dilate(self.area.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return bool((grown & other.area).any())


def describe(image: NDArray[np.uint8], classes: NDArray[np.uint8], colours: NDArray[np.uint8]) -> str:
    """The caption of an image.

    Args:
        image: RGB (H, W, 3).
        classes: (H, W) index into `diorama.CLASSES`.
        colours: (H, W) 1 + index into `diorama.COLOUR_NAMES`, 0 where no colour is named.
    """
    nouns = [with_article(thing.phrase) for thing in things(classes, colours)] or ["a small scene"]
    return " ".join(filter(None, [enumerated(nouns), setting(image, classes)]))


def things(classes: NDArray[np.uint8], colours: NDArray[np.uint8]) -> list[Seen]:
    """The things in maps (H, W) of classes and colours, as `describe` takes them, from left to right."""
    found: list[Seen] = []
    for thing in sorted(_candidates(classes, colours), key=lambda thing: -int(thing.area.sum())):
        if not any(thing.continues(larger) for larger in found):
            found.append(thing)
    return sorted(found, key=lambda thing: thing.column)


def _candidates(classes: NDArray[np.uint8], colours: NDArray[np.uint8]) -> Iterator[Seen]:
    """Connected areas of one class in maps (H, W), apart from fragments without a colour, such as a leg."""
    for number, kind in enumerate(CLASSES[FIRST_THING:], FIRST_THING):
        count, labels = cv2.connectedComponents((classes == number).astype(np.uint8), connectivity=4)
        for label in range(1, count):
            area = labels == label
            if area.sum() < SMALLEST * area.size or not colours[area].any():
                continue
            if kind == "house":
                yield Seen(kind, _house(area, colours), area)
            else:
                for part in _apart(area, colours):
                    yield Seen(kind, (COLOUR_NAMES[_counts(part, colours).argmax()],), part)


def _apart(area: NDArray[np.bool_], colours: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
    """An area (H, W) as parts of one colour each if they are side by side: things of one kind that touch."""
    counts = _counts(area, colours)
    parts = [area & (colours == 1 + colour) for colour in np.flatnonzero(counts > SHARED * counts.sum())]
    middles = sorted(tuple(np.quantile(np.nonzero(part)[1], (0.25, 0.75))) for part in parts)
    return parts if all(left[1] < right[0] for left, right in itertools.pairwise(middles)) else [area]


def _counts(area: NDArray[np.bool_], colours: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Pixels (10,) of each named colour in an area (H, W)."""
    return np.bincount(colours[area], minlength=len(COLOUR_NAMES) + 1)[1:]


def _house(area: NDArray[np.bool_], colours: NDArray[np.uint8]) -> tuple[str, ...]:
    """Walls and roof: the two most frequent colours of the area (H, W), the roof above; or the only one seen."""
    counts = _counts(area, colours)
    parts = [colour for colour in np.argsort(-counts)[:2] if counts[colour] > ROOF * counts.sum()]
    rows = {colour: np.nonzero(area & (colours == 1 + colour))[0].mean() for colour in parts}
    return tuple(COLOUR_NAMES[colour] for colour in sorted(parts, key=lambda colour: -rows[colour]))


def _tree_shape(area: NDArray[np.bool_]) -> str:
    """ "pine" or "round", by how wide the crown is in its upper part; area (H, W)."""
    widths = area.sum(axis=1)[area.any(axis=1)]
    upper = widths[: max(1, len(widths) // 4)].mean()
    return "round" if upper > ROUND * widths.max() else "pine"


def setting(image: NDArray[np.uint8], classes: NDArray[np.uint8]) -> str:
    """The phrase of the setting whose sky and ground are nearest to the image's (H, W, 3); "" without either."""
    areas = [classes == number for number in (SKY, GROUND)]
    if min(area.sum() for area in areas) < SMALLEST * classes.size:
        return ""
    seen = np.concatenate([np.median(image[area], axis=0) for area in areas]) / 255
    return min(SETTINGS.values(), key=lambda one: float(np.linalg.norm(seen - _look(one)))).phrases[0]


def _look(one: Setting) -> NDArray[np.floating]:
    """Colours of sky and of sunlit ground in a setting, sRGB in [0, 1], (6,)."""
    sky = one.horizon + HORIZON * (one.zenith - one.horizon)
    sunlit = one.ambient + one.sun * np.sin(np.radians(np.mean(one.elevation)))
    ground = np.mean(one.ground, axis=0) * sunlit
    return np.clip(np.concatenate([sky, ground]), 0, 1) ** (1 / 2.2)
