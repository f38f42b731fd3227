"""The studies on a tiny base: whole, resumed, and against `maquette evaluate`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maquette.ablation.request import Request
from maquette.ablation.run import ablate
from maquette.ablation.studies import design, transfer
from maquette.diorama import dataset
from maquette.diorama.wording import world_of
from maquette.training.monitor import convergence

pytestmark = pytest.mark.filterwarnings("ignore:The prompt has")  # a letter is a token of the tiny base

SMALL = {"scenes": 8, "batch_size": 4, "steps": 2, "seeds": 1, "tested": 6, "sampling_steps": 1}
TINY = {"conditions": ("canny",), "variants": ("zero", "lite"), **SMALL}


@pytest.fixture
def request_of(base, tmp_path, monkeypatch):
    """A tiny study in a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "SHARD", 8)
    monkeypatch.setattr(convergence, "STEPS", 1)

    def make(study: str, output: str = "out", **changes) -> Request:
        return Request(study, tmp_path / output, str(base), **{**TINY, **changes})

    return make


def result(folder: Path) -> dict:
    found = json.loads((folder / "result.json").read_text())
    for cell in found["cells"].values():
        cell.pop("seconds")
    return found


def test_a_study_of_designs(request_of, maquette, base) -> None:
    """Its numbers are those of `maquette evaluate` on the ControlNets that it leaves behind."""
    folder = ablate(request_of("design", variants=("lite",)), "maquette ablate ...")
    found = result(folder)
    assert list(found["cells"]) == ["canny-lite-seed0"]
    assert found["command"] == "maquette ablate ..." and found["settings"]["seeds"] == 1
    net = folder / "nets" / "canny-lite-seed0"
    code, _, err = maquette("evaluate", net, "--scenes", 6, "--steps", 1, "--base", base, "-o", "evaluated")
    assert code == 0, err
    (report,) = (json.loads(path.read_text()) for path in Path("evaluated").glob("*.json"))
    cell = found["cells"]["canny-lite-seed0"]
    assert (cell["mean"], cell["ceiling"], cell["floor"]) == (
        report["controlled"],
        report["ceiling"],
        report["floor"],
    )
    assert cell["setup"]["controlnet"]["hash"] == report["setup"]["controlnet"]["hash"]
    for kind, scores in cell["scores"].items():
        assert cell["mean"][kind] == pytest.approx(np.mean(scores)) and len(scores) == 6
    assert not list(folder.glob("nets/*/state-*"))  # of finished trainings
    with Image.open(folder / "cells" / "canny-lite-seed0.png") as sheet:
        assert sheet.width > 6 * 128
    page = (folder / "result.md").read_text()
    assert f"{np.mean(cell['scores']['none']):.3f} ± {np.std(cell['scores']['none'], ddof=1):.3f} [" in page


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_and_ends_the_same(request_of, monkeypatch) -> None:
    whole = result(ablate(request_of("design", "whole")))
    done, plain = [], design.evaluate

    def killed(*arguments, **options):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(plain(*arguments, **options))
        return done[-1]

    monkeypatch.setattr(design, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        ablate(request_of("design", "parts"))
    assert [path.stem for path in Path("parts/cells").glob("*.json")] == ["canny-zero-seed0"]
    monkeypatch.setattr(design, "evaluate", plain)
    finished = Path("parts/cells/canny-zero-seed0.json").stat().st_mtime_ns
    parts = result(ablate(request_of("design", "parts")))
    assert Path("parts/cells/canny-zero-seed0.json").stat().st_mtime_ns == finished
    for study in (whole, parts):
        for name in ("hours", "command"):
            study.pop(name)
    assert json.dumps(parts).replace("parts/nets", "whole/nets") == json.dumps(whole)


def test_other_settings_need_another_folder(request_of, maquette) -> None:
    Path("out").mkdir()
    Path("out/study.json").write_text(json.dumps({"study": "design"}))
    code, _, err = maquette("ablate", "design", "-o", "out", "--conditions", "canny")
    assert code == 2 and "was started with other settings (base, batch_size, conditions," in err


@pytest.mark.slow
def test_every_study_runs_to_its_tables(request_of, net, maquette, base) -> None:
    """Pairs by size, guidance in four ways, two controls, other methods, and convergence over levers."""
    sizes = result(ablate(request_of("pairs", "pairs", sizes=(4, 8))))
    assert [table["rows"][0][0] for table in sizes["tables"]] == ["scenes", "scenes"]
    assert list(sizes["cells"]) == ["canny-4-seed0", "canny-8-seed0"]
    trained = "pairs/nets/canny-8-seed0"
    ways = result(ablate(request_of("guidance", "guidance", nets=(trained,))))
    assert len(ways["cells"]) == 4 and len(ways["tables"][0]["rows"]) == 6
    both = result(ablate(request_of("composition", "two", nets=(f"{trained}+{trained}",))))
    cells = list(both["cells"].values())
    assert cells[1]["scores"] == cells[2]["scores"]  # the same ControlNet, first or second
    early = result(ablate(request_of("coarse", "coarse", nets=(trained,), sampling_steps=4)))
    assert len(early["tables"][0]["rows"]) == 6
    never, *_, always = early["cells"].values()
    assert never["scores"]["true"] != always["scores"]["true"]
    others = result(ablate(request_of("methods", "others", conditions=("segmentation",), steps=6)))
    assert [row[0] for row in others["tables"][0]["rows"][1:]] == [
        "base",
        "piti",
        "taming",
        "ldm",
        "lite",
        "controlnet",
    ]
    fidelity = [float(row[1].split()[0]) for row in others["tables"][1]["rows"][1:]]
    assert sum(fidelity) == pytest.approx(sum(range(1, 7)), abs=0.05)  # ranks of six methods
    levers = {"prompt_drop": (0.0,)}
    curves = result(ablate(request_of("convergence", "curves", steps=6, every=2, levers=levers)))
    assert list(curves["cells"]) == ["canny-usual-seed0", "canny-prompt_drop=0.0-seed0"]
    for cell in curves["cells"].values():
        assert cell["steps"] == [0, 2, 4, 6] and np.array(cell["scores"]).shape == (4, 6)
    code, _, err = maquette("ablate", "guidance", "--nets", net, "--base", base, "--tested", 6, "-o", "other")
    assert code == 2 and "was trained on unknown maps, but studies test on the diorama's scenes" in err
    code, _, err = maquette(
        "ablate",
        "guidance",
        "--nets",
        trained,
        "--base",
        base,
        "--seeds",
        2,
        "-o",
        "none",
        "--only-estimate",
        "--tested",
        6,
    )
    assert code == 0 and "seeds has no effect on the study guidance" in err and not Path("none/result.md").exists()


@pytest.mark.slow
def test_a_base_fine_tuned_to_nights(request_of, monkeypatch) -> None:
    """Four ways on scenes at night; on its own base, the ControlNet and the base are what they were."""
    monkeypatch.setattr(dataset, "SHARD", 64)  # one, which this process renders
    trained = ablate(request_of("pairs", "pairs", sizes=(8,))) / "nets" / "canny-8-seed0"
    folder = ablate(request_of("transfer", nets=(str(trained),), scenes=48, steps=3))
    found = result(folder)
    assert len(found["cells"]) == 5 and [row[0] for row in found["tables"][0]["rows"]][1:] == list(transfer.WAYS)
    home, as_it_is, by_offset, there = (found["cells"][transfer.name_of(str(trained), way)] for way in transfer.WAYS)
    assert home["setup"]["base"]["hash"] != as_it_is["setup"]["base"]["hash"] == there["setup"]["base"]["hash"]
    assert home["setup"]["controlnet"]["hash"] == as_it_is["setup"]["controlnet"]["hash"]
    assert by_offset["setup"]["controlnet"]["hash"] != home["setup"]["controlnet"]["hash"]
    shown = (folder / "night-pairs-canny" / "metadata.jsonl").read_text().splitlines()
    assert shown and len(shown) == sum(world_of(seed).setting.night for seed in range(48))
