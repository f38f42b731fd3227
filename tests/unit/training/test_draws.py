"""Randomness of samples: prompts and conditions are dropped at their rates, the same way in any process."""

import numpy as np
import pytest
import torch
from tests.own_pairs import write_pairs

from maquette.data.crop import ResizeCrop
from maquette.data.pairs import SourcePairs
from maquette.data.sources.open import open_source
from maquette.noise.ddpm import DDPM
from maquette.training.config import TrainingConfig
from maquette.training.data.dataset import LatentSpec, SampleIndex, TrainingDataset


def samples(folder, **changes) -> TrainingDataset:
    pairs = SourcePairs.open("rings", open_source(folder), ResizeCrop((64, 64)))
    config = TrainingConfig(condition="rings", output="unused", data=str(folder), **changes)
    return TrainingDataset(
        pairs, None, config.data, [np.arange(len(pairs))], LatentSpec(DDPM({}), 4, 8, 64), config.seed
    )


def test_prompts_and_conditions_are_dropped_at_their_rates(tmp_path) -> None:
    dataset = samples(write_pairs(tmp_path / "pairs"), prompt_drop=0.5, condition_drop=0.25)
    found = [dataset[SampleIndex(step, 0, step % 12)] for step in range(400)]
    assert 160 < sum(sample["prompts"] == "" for sample in found) < 240
    assert 70 < sum(not sample["conditions"].any() for sample in found) < 130


def test_prompts_conflict_at_their_rate_and_nothing_else_changes(tmp_path) -> None:
    folder = write_pairs(tmp_path / "pairs")
    plain, conflicting = samples(folder, prompt_drop=0.5), samples(folder, prompt_drop=0.5, prompt_conflict=0.6)
    others = 0
    for step in range(400):
        index = SampleIndex(step, 0, step % 12)
        before, after = plain[index], conflicting[index]
        assert all(torch.equal(before[name], after[name]) for name in ("images", "conditions", "noise", "timesteps"))
        assert (before["prompts"] == "") == (after["prompts"] == "")
        others += before["prompts"] != after["prompts"]
    assert others == pytest.approx(0.5 * 0.6 * 400, abs=40)


def test_a_conflicting_prompt_is_another_row_s(tmp_path) -> None:
    for count in (2, 4, 10):
        pairs = samples(write_pairs(tmp_path / str(count), count)).pairs
        assert all(pairs.conflicting(row) != pairs.text(row) for row in range(count))
    assert samples(write_pairs(tmp_path / "one", 1)).pairs.conflicting(0) == "a", "where there is no other"


def test_the_randomness_of_a_sample_depends_on_its_index_only(tmp_path) -> None:
    dataset = samples(write_pairs(tmp_path / "pairs"))
    first, again, later, beside = (dataset[SampleIndex(*place, 3)] for place in ((5, 2), (5, 2), (6, 2), (5, 3)))
    assert torch.equal(first["noise"], again["noise"]) and first["timesteps"] == again["timesteps"]
    assert not torch.equal(first["noise"], later["noise"]) and not torch.equal(first["noise"], beside["noise"])
    assert not torch.equal(first["noise"], first["sample"])
