"""What a ControlNet is fed in use is what it was fed in training: maps of another size, and the order of detection."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import randomise, tiny_base
from tests.own_pairs import write_pairs

import maquette as mq
from maquette.checkpoints.controlnets import load_contract
from maquette.checkpoints.info import info
from maquette.conditions.detect import Detector
from maquette.conditions.labels import colour_labels
from maquette.controlnet.contract import OURS, Contract
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.data.crop import CropView, ResizeCrop
from maquette.data.pairs import SourcePairs
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteWarning
from maquette.foundation.images import MapKind, fit
from maquette.foundation.pixels import to_unit
from maquette.sampling.denoiser import EncodedControl
from maquette.training import loop


@pytest.fixture(scope="module")
def base():
    return tiny_base("sd15", context=96)


@pytest.fixture(scope="module")
def net(base) -> ControlNet:
    return randomise(ControlNet.attach(base))


def fed(base, net: ControlNet, condition: Image.Image, size: tuple[int, int] = (64, 64)) -> torch.Tensor:
    """The map (3, H, W) that a generation of that size encodes."""
    return EncodedControl.of(base, Control(net, condition), size, 1).maps[0]


def class_maps(folder: Path, size: tuple[int, int] = (90, 60)) -> list[Image.Image]:
    """Put maps of five classes, a colour each, in the place of a folder's maps."""
    write_pairs(folder, size=size)
    colours = np.random.default_rng(1).integers(0, 256, (5, 3)).astype(np.uint8)
    maps = []
    for number in range(12):
        classes = np.random.default_rng(number).integers(0, 5, (size[1] // 5, size[0] // 5))
        maps.append(Image.fromarray(colours[np.kron(classes, np.ones((5, 5), int))]))
        maps[-1].save(folder / "maps" / f"{number}.png")
    return maps


def colours_of(values: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in (values.permute(1, 2, 0).reshape(-1, 3) * 255).round().int().tolist()}


@pytest.mark.parametrize("kind", ["smooth", "lines", "classes"])
def test_a_map_is_resized_as_the_contract_says(base, net, monkeypatch, kind: MapKind) -> None:
    contract = Contract(stated=True, categorical=kind == "classes", lines=kind == "lines")
    monkeypatch.setattr(net, "contract", contract)
    edges = mq.detect("canny", Image.effect_noise((150, 170), 90).convert("RGB"))
    assert torch.equal(fed(base, net, edges), to_unit(fit(edges, (64, 64), kind)))
    assert (len(colours_of(fed(base, net, edges))) == 2) == (kind != "smooth")


@pytest.mark.parametrize("changes", [{"categorical": True}, {"condition": "segmentation"}])
def test_classes_are_mixed_neither_in_training_nor_in_use(base, settings, tmp_path, changes) -> None:
    """The maps of a user's own classes, named so by a setting, or by the condition's name."""
    maps = class_maps(tmp_path / "pairs")
    run = mq.train(settings(evaluate_every=0, **changes), base)
    net = mq.load_controlnet(run, base)
    assert net.contract.categorical and "nearest pixel" in (net.contract.resize or "")
    framing = ResizeCrop((64, 64), kind=net.contract.kind)
    pairs = SourcePairs.open(changes.get("condition", "rings"), open_source(tmp_path / "pairs"), framing)
    for row, condition in enumerate(maps):
        in_use = fed(base, net, condition)
        assert torch.equal(in_use, to_unit(pairs.condition_map(row, CropView(), None)))
        assert colours_of(in_use) <= colours_of(to_unit(condition))


def test_training_sees_a_segmentation_s_classes_unmixed(base, settings, tmp_path, monkeypatch) -> None:
    """The batches themselves."""
    maps = class_maps(tmp_path / "pairs")
    known = set.union(*(colours_of(to_unit(condition)) for condition in maps))
    seen = set()

    def look(run, batch, done, loss) -> None:
        seen.update(tuple(colour) for colour in batch.conditions.reshape(-1, 3).tolist())

    monkeypatch.setattr(loop.Run, "check_finite", look)
    mq.train(settings(evaluate_every=0, condition="segmentation"), base)
    assert seen and seen <= known


def test_a_folder_of_class_numbers_is_trained_on(base, settings, tmp_path, monkeypatch) -> None:
    write_pairs(tmp_path / "pairs")
    numbers = np.random.default_rng(0).integers(0, 151, (12, 64, 96))
    for row in range(12):
        Image.fromarray(numbers[row].astype(np.uint8)).save(tmp_path / "pairs" / "maps" / f"{row}.png")
    batches = []
    monkeypatch.setattr(loop.Run, "check_finite", lambda run, batch, done, loss: batches.append(batch))
    run = mq.train(settings(condition="segmentation", palette="ade20k", evaluate_every=0), base)
    for batch in batches:
        for row, condition in zip(batch.rows.tolist(), batch.conditions, strict=True):
            expected = fit(colour_labels(numbers[row], "ade20k"), (64, 64), "classes")
            assert (condition.numpy() == np.asarray(expected)).all()
    assert load_contract(run).detector_options == "class numbers in the colours of ade20k"
    with pytest.warns(
        MaquetteWarning, match="has one channel with values up to 1[0-9][0-9], as images of class numbers"
    ):
        mq.train(settings(condition="segmentation", evaluate_every=0, output=tmp_path / "grey"), base)


def test_the_contract_says_the_order(base, settings, tmp_path) -> None:
    """Ready maps of their frame's size were detected in frames, larger ones before; of others nothing is known."""
    folder = write_pairs(tmp_path / "pairs", size=(130, 130))
    for path in sorted(folder.glob("*.png")):
        mq.detect("canny", Image.open(path)).save(folder / "maps" / path.name)
    with pytest.warns(MaquetteWarning, match="canny maps of 130×130, which training resizes to 64×64"):
        larger = mq.train(settings(condition="canny", evaluate_every=0), base)
    for path in sorted(folder.glob("*.png")):
        Detector("canny").in_frame(Image.open(path), (64, 64)).save(folder / "maps" / path.name)
    framed = mq.train(settings(condition="canny", evaluate_every=0, output=tmp_path / "framed"), base)
    detected = settings(condition="canny", detect=True, evaluate_every=0, output=tmp_path / "detected")
    unknown = mq.train(settings(evaluate_every=0, output=tmp_path / "unknown"), base)
    orders = [load_contract(run).order for run in (larger, framed, mq.train(detected, base), unknown)]
    assert orders == ["detect, then resize", "frame, then detect", "frame, then detect", None]
    assert "order             detect, then resize" in info(larger)
    assert "lines             True" in info(larger) and "categorical       False" in info(larger)


def test_the_order_is_in_both_places_that_hold_the_contract(base, net, tmp_path) -> None:
    """In config.json and in the weights' metadata."""
    net.contract = replace(net.contract, stated=True, order="detect, then resize", categorical=True)
    net.save(tmp_path)
    assert load_contract(tmp_path) == net.contract
    assert load_contract(tmp_path / "diffusion_pytorch_model.safetensors") == net.contract
    config = json.loads((tmp_path / "config.json").read_text())
    del config[OURS]["contract"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_contract(tmp_path) == net.contract


def test_the_bundled_contracts_say_order_and_kind() -> None:
    kinds = {name: load_contract(f"diorama/{name}") for name in ("canny", "segmentation", "depth", "scribble")}
    assert {contract.order for contract in kinds.values()} == {"frame, then detect"}
    assert [contract.kind for contract in kinds.values()] == ["lines", "classes", "smooth", "lines"]
