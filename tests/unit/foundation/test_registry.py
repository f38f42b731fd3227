import pytest

from maquette.errors import MaquetteError
from maquette.foundation.registry import Registry


def test_known_and_unknown() -> None:
    shapes: Registry[int] = Registry("shape")
    shapes.add("circle", 1)
    assert shapes["circle"] == 1
    with pytest.raises(MaquetteError, match=r"no shape 'circel'; did you mean 'circle'\? Known: circle"):
        shapes["circel"]
    with pytest.raises(AssertionError):
        shapes.add("circle", 2)
