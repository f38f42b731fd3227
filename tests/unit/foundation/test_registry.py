import pytest

from maquette.errors import MaquetteError
from maquette.foundation.registry import Registry, unknown


def test_known_and_unknown() -> None:
    shapes: Registry[int] = Registry("shape")
    shapes.add("circle", 1)
    assert shapes["circle"] == 1
    with pytest.raises(MaquetteError, match=r"no shape 'circel'; did you mean 'circle'\? Known: circle"):
        shapes["circel"]
    with pytest.raises(AssertionError):
        shapes.add("circle", 2)


def test_of_many_names_the_nearest_are_given() -> None:
    names = [f"{part}_{number}" for part in ("rate", "size", "seed") for number in range(20)]
    message = unknown("setting", "rate_1x", names)
    assert message.startswith("There is no setting 'rate_1x'; did you mean 'rate_1")
    assert "Nearest of the 60 known: " in message
    assert len(message) < 150
