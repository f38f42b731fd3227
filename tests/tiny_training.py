"""A training that takes seconds, as a program, for tests that kill, interrupt or distribute it.

python tests/tiny_training.py '{"output": ..., ...}' [toy, sd3 or zimage], in an empty folder.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import maquette as mq
from maquette.diorama import dataset
from maquette.training.monitor import convergence
from tests.conftest import tiny_base
from tests.tiny_sd3 import tiny_sd3
from tests.tiny_zimage import tiny_zimage
from tests.toy_backbone import toy_base

BASES = {
    "diorama": lambda: tiny_base("diorama", "v_prediction", context=96),
    "toy": toy_base,
    "sd3": lambda: tiny_sd3(t5=False, context=96),
    "zimage": tiny_zimage,
}

SETTINGS = {
    "condition": "canny",
    "scenes": 8,
    "max_steps": 6,
    "batch_size": 4,
    "evaluate_every": 0,
    "checkpoint_every": 2,
    "warmup": 2,
    "precision": "float32",
    "cache_folder": "cache",
}


def main(changes: dict[str, object], base: str = "diorama") -> None:
    dataset.SHARD = 8
    convergence.STEPS = 2
    mq.train(mq.TrainingConfig(**{**SETTINGS, **changes}), BASES[base]())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), *sys.argv[2:])
