"""What chance decides about a row: prompts and conditions are dropped by their share, the same in any process."""

import numpy as np
import torch
from tests.own_pairs import write_pairs

from maquette.data.crop import ResizeCrop
from maquette.data.pairs import SourcePairs
from maquette.data.sources.open import open_source
from maquette.noise.ddpm import DDPM
from maquette.training.config import TrainingConfig
from maquette.training.data.dataset import LatentSpec, SampleIndex, TrainingDataset


def draws(folder, **changes) -> TrainingDataset:
    pairs = SourcePairs.open("rings", open_source(folder), ResizeCrop((64, 64)))
    config = TrainingConfig(condition="rings", output="unused", data=str(folder), **changes)
    return TrainingDataset(
        pairs, None, config.data, [np.arange(len(pairs))], LatentSpec(DDPM({}), 4, 8, 64), config.seed
    )


def test_about_the_asked_share_is_dropped(tmp_path) -> None:
    rows = draws(write_pairs(tmp_path / "pairs"), prompt_drop=0.5, condition_drop=0.25)
    drawn = [rows[SampleIndex(step, 0, step % 12)] for step in range(400)]
    assert 160 < sum(one["words"] == "" for one in drawn) < 240
    assert 70 < sum(not one["conditions"].any() for one in drawn) < 130


def test_a_row_s_chance_is_its_place_s(tmp_path) -> None:
    rows = draws(write_pairs(tmp_path / "pairs"))
    first, again, later, beside = (rows[SampleIndex(*place, 3)] for place in ((5, 2), (5, 2), (6, 2), (5, 3)))
    assert torch.equal(first["noise"], again["noise"]) and first["timesteps"] == again["timesteps"]
    assert not torch.equal(first["noise"], later["noise"]) and not torch.equal(first["noise"], beside["noise"])
    assert not torch.equal(first["noise"], first["sample"])
