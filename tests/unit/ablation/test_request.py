"""A study that cannot run is refused by one sentence, before anything is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from maquette.ablation.request import STUDIES, Request
from maquette.errors import MaquetteError

BAD = {
    "study": ({"study": "desing"}, "There is no study 'desing'; did you mean 'design'?"),
    "variant": ({"variants": ("zero", "light")}, "There is no ControlNet variant 'light'"),
    "method": ({"study": "methods", "methods": ("base", "pity")}, "There is no method 'pity'; did you mean 'piti'?"),
    "condition": ({"conditions": ("cany",)}, "did you mean 'canny'?"),
    "twice": ({"variants": ("lite", "lite")}, "Name each ControlNet variant once, and one at least, not lite, lite."),
    "none": ({"conditions": ()}, "Name each condition of the diorama once, and one at least, not none."),
    "tested": ({"tested": 5}, "tested is 6 or more, since 6 of them are shown, not 5."),
    "seeds": ({"seeds": 0}, "seeds is 1 or more, not 0."),
    "size": ({"study": "pairs", "sizes": (16,)}, "A training set has at least one batch of 32 scenes .*, not 16."),
    "scenes": ({"scenes": 16}, "A training set has at least one batch of 32 scenes .*, not 16."),
    "few": ({"study": "convergence", "steps": 10}, "takes 3 measurements or more, not 2: every 10 steps of 10."),
    "pair": ({"study": "composition", "nets": ("a",)}, "takes two ControlNets joined by .*, not 'a'."),
    "lever": ({"levers": {"lerning_rate": (1,)}}, "did you mean 'learning_rate'?"),
    "value": ({"levers": {"learning_rate": (-1.0,)}}, "learning_rate .*-1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_refused_by_a_sentence(name) -> None:
    changes, message = BAD[name]
    with pytest.raises(MaquetteError, match=message) as caught:
        Request(**{"study": "design", "output": Path("out"), **changes})
    assert "\n" not in str(caught.value)


def test_what_a_study_does_not_use_does_not_change_it() -> None:
    for study, (_, used) in STUDIES.items():
        request = Request(study, Path("out"))
        assert set(request.used) == {"study", "base", "device", *used}
    assert Request("design", Path("a"), every=5).used == Request("design", Path("b")).used


def test_requests_are_read_without_torch() -> None:
    code = "import sys, maquette.cli.ablate; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
