import pytest

from maquette.training.monitor.report import _minutes


@pytest.mark.parametrize(("seconds", "words"), [(10, "0 minutes"), (70, "1 minute"), (600, "10 minutes")])
def test_minutes(seconds, words) -> None:
    assert _minutes(seconds) == words
