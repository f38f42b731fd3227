"""The five settings: light, sky, ground and hills, and their phrases in captions."""

from dataclasses import dataclass

from maquette.diorama.solids import Array, vector
from maquette.diorama.things import linear


@dataclass(frozen=True)
class Setting:
    """Colours and light of a kind of scene; colours are linear RGB (3,)."""

    phrases: tuple[str, ...]  # one ends the caption
    zenith: Array
    horizon: Array
    ground: tuple[Array, Array]  # light and dark patches
    hills: tuple[Array, Array]  # near and far range
    sun: Array  # colour times strength
    ambient: Array
    elevation: tuple[float, float]  # of the sun or moon, degrees
    night: bool = False


SETTINGS = {
    "day": Setting(
        phrases=("on a sunny day", "on the grass", "in a green meadow"),
        zenith=linear((0.30, 0.53, 0.92)),
        horizon=linear((0.82, 0.91, 0.99)),
        ground=(linear((0.38, 0.66, 0.25)), linear((0.27, 0.54, 0.20))),
        hills=(linear((0.33, 0.58, 0.42)), linear((0.52, 0.70, 0.68))),
        sun=vector(1.05, 1.00, 0.88),
        ambient=vector(0.36, 0.40, 0.47),
        elevation=(35, 60),
    ),
    "sunset": Setting(
        phrases=("at sunset", "in the evening light"),
        zenith=linear((0.36, 0.30, 0.52)),
        horizon=linear((0.99, 0.62, 0.36)),
        ground=(linear((0.52, 0.36, 0.24)), linear((0.43, 0.29, 0.21))),
        hills=(linear((0.40, 0.25, 0.33)), linear((0.60, 0.36, 0.38))),
        sun=vector(1.15, 0.78, 0.52),
        ambient=vector(0.36, 0.32, 0.38),
        elevation=(16, 28),
    ),
    "night": Setting(
        phrases=("at night", "under the moon"),
        zenith=linear((0.04, 0.06, 0.19)),
        horizon=linear((0.18, 0.22, 0.42)),
        ground=(linear((0.30, 0.44, 0.42)), linear((0.23, 0.36, 0.37))),
        hills=(linear((0.09, 0.11, 0.24)), linear((0.13, 0.16, 0.31))),
        sun=vector(0.36, 0.42, 0.56),
        ambient=vector(0.13, 0.15, 0.22),
        elevation=(35, 60),
        night=True,
    ),
    "snow": Setting(
        phrases=("in the snow", "on a winter day"),
        zenith=linear((0.62, 0.74, 0.88)),
        horizon=linear((0.90, 0.93, 0.97)),
        ground=(linear((0.94, 0.95, 0.99)), linear((0.84, 0.88, 0.95))),
        hills=(linear((0.76, 0.82, 0.90)), linear((0.84, 0.88, 0.94))),
        sun=vector(0.62, 0.60, 0.56),
        ambient=vector(0.44, 0.47, 0.54),
        elevation=(28, 50),
    ),
    "desert": Setting(
        phrases=("in the desert", "on the sand"),
        zenith=linear((0.45, 0.68, 0.90)),
        horizon=linear((0.99, 0.91, 0.75)),
        ground=(linear((0.93, 0.75, 0.47)), linear((0.85, 0.64, 0.37))),
        hills=(linear((0.84, 0.60, 0.38)), linear((0.90, 0.73, 0.55))),
        sun=vector(0.95, 0.88, 0.74),
        ambient=vector(0.36, 0.35, 0.36),
        elevation=(30, 60),
    ),
}
