"""Generate what these pages take from elsewhere: settings, detectors, results, and the code's two loops.

python docs/tables.py            # write them into the pages under PAGES
python docs/tables.py --check    # fail if one of these pages is out of date
"""

import ast
import json
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from maquette.conditions.registry import detectors
from maquette.evaluation.protocol import PROMPTS
from maquette.evaluation.report import markdown_table
from maquette.foundation.declared import REQUIRED, Setting, When, settings_of
from maquette.training.config import PARTS, TrainingConfig

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src" / "maquette"
START, END = "<!-- table: python docs/tables.py -->", "<!-- end of table -->"
CONDITIONS = ("canny", "scribble", "segmentation", "depth", "normal", "pose")
LOOPS = {"sampling/generate.py": "sampler.step(", "training/loop.py": "train_step("}
"""Files with the loops that architecture.md quotes, and a call in each loop."""


def settings() -> Iterator[str]:
    """The fields of the configuration, one table for each part; `*` marks those that a resumed run may change."""
    tables: dict[str | None, str] = {None: "At the top of the file."}
    tables |= {name: str(part.__doc__) for name, part in PARTS.items()}
    known = settings_of(TrainingConfig).values()
    for number, (part, title) in enumerate(tables.items()):
        yield from [""] * bool(number)
        yield f"`[{part}]`: {title}" if part else title
        yield ""
        yield "| setting | default | range | meaning |"
        yield "| --- | --- | --- | --- |"
        for setting in (setting for setting in known if setting.part == part):
            default = "(required)" if setting.default is REQUIRED else f"`{setting.usual}`" if setting.usual else ""
            flag = "" if setting.flat == setting.name else f" (`{setting.flat}`)"
            yield f"| `{setting.name}`{flag}{_mark(setting)} | {default} | {setting.range} | {setting.words} |"


def _mark(setting: Setting) -> str:
    if isinstance(setting.may_differ, When):
        return f" \\* {setting.may_differ.words}"
    return " \\*" * setting.may_differ


def fidelities() -> Iterator[str]:
    """The results of the bundled ControlNets; in the last two columns the floor is 0 and the ceiling 1."""
    yield "| condition | scenes | ceiling | floor | true prompt | default | none | conflicting | true | conflicting |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for condition in CONDITIONS:
        report = json.loads((DOCS / "fidelity" / f"diorama-{condition}.json").read_text())
        ceiling, floor, reached = report["ceiling"], report["floor"], report["controlled"]
        scores = [f"{reached[kind]:.3f} ({report['uncontrolled'][kind]:.3f})" for kind in PROMPTS]
        ways = [f"{(reached[kind] - floor) / (ceiling - floor):.2f}" for kind in ("true", "conflicting")]
        cells = [condition, str(report["protocol"]["scenes"]), f"{ceiling:.3f}", f"{floor:.3f}", *scores, *ways]
        yield f"| {' | '.join(cells)} |"


BASE_ROWS = {
    "psnr": ("PSNR of the autoencoder, dB, 1,000 scenes", "{:.2f}"),
    "found": ("things named by 500 captions that are detected", "{:.1%}"),
    "coloured": ("things named that are detected in the right colour", "{:.1%}"),
    "frechet": ("Fréchet distance to 2,000 true scenes, in features of the perception model", "{:.3f}"),
    "straight cubes": ("edges of cubes on straight lines", "{:.1%}"),
    "straight houses": ("edges of houses on straight lines", "{:.1%}"),
    "round balls": ("outlines of balls on circles", "{:.1%}"),
    "plain words found": ("things found that fifty plain prompts name", "{:.1%}"),
    "plain words coloured": ("in the right colour, where these name one", "{:.1%}"),
}
"""What is measured of the base: in words, and as numbers are written."""


def base() -> Iterator[str]:
    """The results of the embedded base."""
    numbers = json.loads((DOCS / "base" / "numbers.json").read_text())
    yield "| mean (95 % interval) | generated | true scenes |"
    yield "| --- | --- | --- |"
    for name, (words, form) in BASE_ROWS.items():
        scores = (_score(numbers.get(which), form) for which in (name, f"{name} of true scenes"))
        yield f"| {words} | {' | '.join(scores)} |"


def _score(score: dict[str, float] | None, form: str) -> str:
    """A mean and its interval, as they are written; nothing where there is none."""
    if score is None:
        return ""
    mean, low, high = (form.format(score[which]).replace("%", " %") for which in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def catalogue() -> Iterator[str]:
    """Every registered detector, and the options of each."""
    yield "| detector | map | library | weights, MB | licence |"
    yield "| --- | --- | --- | --- | --- |"
    for name in detectors:
        spec = detectors[name]
        weights = ", ".join(f"{key} {source.megabytes}" for key, source in spec.weights.items()) or "none"
        licences = ", ".join(dict.fromkeys(source.licence for source in spec.weights.values())) or "–"
        yield f"| `{name}` | {spec.draws} | {spec.library} | {weights} | {licences} |"
    yield ""
    yield "| detector | option | default | range | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for name in detectors:
        for option in detectors[name].options.described():
            allowed = option.range.replace("|", "or")
            yield f"| `{name}` | `{option.name}` | `{option.default!r}` | {allowed} | {option.words} |"


def loops() -> Iterator[str]:
    """The sampling loop and the training loop, as they stand in the source."""
    for number, (path, call) in enumerate(LOOPS.items()):
        yield from [""] * bool(number)
        yield from [f"`{path}`:", "", "```py", _loop(SOURCE / path, call), "```"]


def _loop(path: Path, call: str) -> str:
    """The innermost `for` statement of a file that holds a call."""
    source = path.read_text()
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.For)]
    quoted = (textwrap.dedent(ast.get_source_segment(source, node, padded=True) or "") for node in statements)
    return min((text for text in quoted if call in text), key=len)


STUDIES = ("design", "methods", "sketches", "guidance", "composition", "coarse", "transfer", "convergence", "pairs")
"""In the order of the page; those that were measured have their result in docs/tables."""


def studies() -> Iterator[str]:
    """The reconstruction by the bundled ControlNet, and the tables of the studies that were measured."""
    yield from reconstruction()
    paths = [path for name in STUDIES if (path := DOCS / "tables" / f"{name}.json").exists()]
    for path in paths:
        yield ""
        result = json.loads(path.read_text())
        setups = [setup for cell in result["cells"].values() for setup in _listed(cell["setup"])]
        bases = sorted({setup["base"]["hash"][:12] for setup in setups})
        nets = sorted({setup["controlnet"]["hash"][:12] for setup in setups if setup["controlnet"]})
        for table in result["tables"]:
            yield from [f"**{result['study']}**, {table['title']}:", "", markdown_table(table["rows"]), ""]
        yield from ["```bash", result["command"], "```", ""]
        hashes = f"base {', '.join(bases)}, ControlNets {', '.join(nets)}"
        yield f"{60 * result['hours']:.0f} minutes on one CPU core in use by others besides; hashes: {hashes}."


PAPER = {
    "taming": ("VQGAN (Taming Transformers)", "0.21 ± 0.15", "26.28"),
    "ldm": ("LDM, trained from scratch", "0.31 ± 0.09", "25.35"),
    "piti": ("PITI", "0.26 ± 0.16", "19.74"),
    "lite": ("ControlNet-lite", "0.32 ± 0.12", "17.92"),
    "controlnet": ("ControlNet", "0.35 ± 0.14", "15.27"),
    "base": ("the base without control, true prompt", "–", "6.09"),
}
"""Methods of `maquette ablate methods`: names, and the paper's IoU and FID on ADE20K by OneFormer (v3, tables 2, 3)."""


def reconstruction() -> Iterator[str]:
    """How well class maps are found again in images generated from them, beside the paper's tables."""
    report = json.loads((DOCS / "fidelity" / "diorama-segmentation.json").read_text())
    result = json.loads((DOCS / "tables" / "methods.json").read_text())
    settings, scenes = result["settings"], report["protocol"]["scenes"]
    here = f"the diorama, {settings['steps']} steps, {settings['tested']} test scenes: IoU"
    rows = [["", "the paper: IoU", here, "the paper: FID", "Fréchet distance here"]]
    rows.append(["the images, the ceiling here decoded ones", "0.58 ± 0.10", f"{report['ceiling']:.3f}", "–", "–"])
    for method, (name, iou, fid) in PAPER.items():
        cell = result["cells"][f"segmentation-{method}-seed0"]
        score, distance = statistics.mean(cell["scores"]["true"]), cell["frechet"]["mean"]
        rows.append([name, iou, f"{score:.3f}", fid, f"{distance:.3f}"])
    rows.append([f"ControlNet as bundled, {scenes} test scenes", "–", f"{report['controlled']['true']:.3f}", "–", "–"])
    yield "**reconstruction**, class maps found again in images generated from them, mean IoU:"
    yield from ["", markdown_table(rows), "", "```bash", result["command"]]
    yield from [f"maquette evaluate diorama/segmentation --scenes {scenes} --dtype bfloat16", "```"]


def _listed(setup: Any) -> list[Any]:
    return setup if isinstance(setup, list) else [setup]


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "training.md": settings,
    "detectors.md": catalogue,
    "fidelity.md": fidelities,
    "architecture.md": loops,
    "diorama.md": base,
    "tables.md": studies,
}


def page(before: str, lines: Iterator[str]) -> str:
    """A page with its generated block replaced."""
    head, _, rest = before.partition(START)
    _, _, tail = rest.partition(END)
    return "\n".join([f"{head}{START}\n", *lines, f"\n{END}{tail}"])


if __name__ == "__main__":
    for name, lines in PAGES.items():
        before = (DOCS / name).read_text()
        after = page(before, lines())
        if "--check" in sys.argv and after != before:
            sys.exit(f"docs/{name} is out of date; run python docs/tables.py")
        (DOCS / name).write_text(after)
