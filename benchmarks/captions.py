"""The diorama's captioner against true captions, and the paper's automatic prompts on one sheet.

    python benchmarks/captions.py                                    # 100 test scenes
    python benchmarks/captions.py --sheet docs/grids/prompts.png     # eight test scenes, edges as the condition

A thing counts as right if its caption names its kind and all its colours; a scene, if its things are right, in number
and order too.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

import maquette as mq
from maquette.conditions.requirements import drawn_by
from maquette.foundation.images import image_grid
from maquette.sampling.prompts import DEFAULT_PROMPT, automatic

FIRST, SHOWN = 20_000_000, 8  # test scenes
Named = tuple[str, ...]  # a thing's kind and colours


def named(caption: str) -> list[Named]:
    """The things that a caption names, from left to right: each noun phrase's kind, then its colours in order."""
    phrases = re.split(r", | and an? |^an? ", caption)
    found = []
    for phrase in phrases:
        words = re.findall(r"\w+", phrase)
        kinds = [word for word in words if word in mq.diorama.CLASSES]
        if kinds:
            found.append((kinds[0], *(word for word in words if word in mq.diorama.COLOUR_NAMES)))
    return found


def measure(scenes: list[mq.diorama.Scene]) -> None:
    captions = mq.Detector("diorama/caption", device="cpu")([scene.image for scene in scenes])
    total: Counter[str] = Counter()
    for scene, caption in zip(scenes, captions, strict=True):
        true = [named(thing.phrase)[0] for thing in scene.world.things]
        seen = named(caption)
        total["things"] += len(true)
        total["named"] += len(seen)
        total["kind"] += (Counter(thing[0] for thing in true) & Counter(thing[0] for thing in seen)).total()
        total["kind and colours"] += (Counter(true) & Counter(seen)).total()
        total["setting"] += caption.endswith(scene.world.setting.phrases[0])
        total["scene"] += true == seen
    print(f"{total['things']} things in {len(scenes)} scenes, {total['named']} named")
    for what in ("kind", "kind and colours"):
        print(f"{what} right: {total[what] / total['things']:.1%} of the things, {total[what]} ")
    for what in ("setting", "scene"):
        print(f"{what} right: {total[what] / len(scenes):.0%} of the scenes")


def sheet(path: Path) -> None:
    """Edges, what the default prompt makes of them, and what its caption makes of them; guidance as the base's."""
    base = mq.load_base("diorama")
    scenes = [mq.diorama.scene(FIRST + number) for number in range(SHOWN)]
    rows: list[list] = [[], [], []]
    prompts = []
    net = mq.load_controlnet("diorama/canny", base)
    for scene in scenes:
        edges = mq.detect(drawn_by("canny", "diorama"), scene.image, low=50, high=120)
        control = mq.Control(net, edges)
        prompts += automatic(base, control, seed=scene.seed)
        rows[0].append(edges)
        rows[1] += mq.generate(base, DEFAULT_PROMPT, control, seed=scene.seed)
        rows[2] += mq.generate(base, prompts[-1], control, seed=scene.seed)
        print(prompts[-1])
    labels = ("edges", "default prompt", "automatic prompt")
    image_grid(rows, labels, [[], prompts, []], tile=144).quantize(128).save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--sheet", type=Path, help="write a sheet here instead of measuring")
    arguments = parser.parse_args()
    if arguments.sheet:
        sheet(arguments.sheet)
    else:
        measure([mq.diorama.scene(FIRST + number) for number in range(arguments.scenes)])
