"""Garbage while libraries are imported."""

import gc

import pytest

from maquette.foundation.memory import importing


def test_garbage_is_looked_for_again_even_after_an_import_that_failed() -> None:
    assert gc.isenabled()
    try:
        with pytest.raises(ModuleNotFoundError), importing():
            import no_such_library  # noqa: F401
        assert gc.isenabled()
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def test_garbage_is_not_looked_for_meanwhile() -> None:
    try:
        with importing():
            enabled = gc.isenabled()
        assert not enabled
    finally:
        gc.unfreeze()
