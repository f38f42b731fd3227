"""An evaluation as one HTML page that holds everything: tables, pictures with their scores, the protocol."""

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from maquette.evaluation.report import Report
from maquette.foundation.files import atomic_write

TILE = 192  # pixels: the longest side of a picture on the page
QUALITY = 90

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; color: #28282c;
  background: #faf9f6; }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; }}
td, th {{ text-align: left; vertical-align: top; padding: .15rem 1rem .15rem 0; border-bottom: 1px solid #dcdad4; }}
td:nth-child(n+2) {{ font-variant-numeric: tabular-nums; }}
.pictures td, .pictures th {{ padding-right: .4rem; border: 0; }} .pictures img {{ display: block; width: 9rem; }}
.pictures p {{ margin: 0; width: 9rem; font-size: .75rem; overflow-wrap: anywhere; }}
.setup td {{ overflow-wrap: anywhere; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<div class="wide">{scores}</div>
{further}
<h2>Pictures</h2>
<p>The first {count} {kind}. Under each picture its score ({label}), beside it that of the same prompt and noise
without control; under the source its text.</p>
<div class="wide">{pictures}</div>
<h2>How it was measured</h2>
<div class="wide setup">{setup}</div>
</body></html>
"""


def write_page(report: Report, path: Path) -> None:
    """Write the page, atomically."""
    further = report.further()
    words = "<p>Means ± standard deviation over the images; of whole sets, values with their 95 % interval.</p>"
    page = PAGE.format(
        title=escape(f"{report.setup.get('controlnet', {}).get('name', '')} on {report.condition}".strip()),
        summary=escape(report.table().splitlines()[0]),
        scores=_table(_cells(report.table())),
        further=f'<h2>Further measures</h2><div class="wide">{_table(further)}</div>{words}' if further else "",
        count=len(report.pictures.get("source", [])),
        kind=escape(report.kind),
        label=escape(report.label),
        pictures=_pictures(report),
        setup=_table(report.facts()),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, "utf-8")


def _cells(markdown: str) -> list[list[str]]:
    """The rows of the first table in a Markdown text, without its rule."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return [row for row in rows if set("".join(row)) - {"-"}]


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head, *others = rows
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in others)
    return f"<table><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>{body}</table>"


def _pictures(report: Report) -> str:
    """A row of pictures for each of the first pairs: condition, source, then each prompt with and without control."""
    columns = ["condition", "source"]
    for kind in report.controlled:
        columns += [kind, f"{kind}, no control"]
    rows = [
        "<tr>" + "".join(f"<td>{_picture(report, column, row)}</td>" for column in columns) + "</tr>"
        for row in range(len(report.pictures["source"]))
    ]
    heads = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f'<table class="pictures"><tr>{heads}</tr>{"".join(rows)}</table>'


def _picture(report: Report, column: str, row: int) -> str:
    image = report.pictures[column][row]
    kind = column.removesuffix(", no control")
    alt = f"{column}, {report.names[row]}"
    words = _words(report, column, kind, row)
    return f'<img src="{_embedded(image)}" alt="{escape(alt, quote=True)}"><p>{escape(words)}</p>'


def _words(report: Report, column: str, kind: str, row: int) -> str:
    """The score of a picture and its prompt."""
    if column == "source":
        return report.prompts.get("true", [""] * (row + 1))[row]
    if column == "condition":
        return Path(report.names[row]).name
    score = (report.scores if column == kind else report.scores_without)[kind][row]
    prompt = report.prompts[kind][row] if column == kind and kind in ("conflicting", "automatic") else ""
    return f"{'–' if math.isnan(score) else f'{score:.3f}'} {prompt}".strip()


def _embedded(image: Image.Image) -> str:
    """A picture as a data URL: JPEG, no larger than it is shown on a sharp screen."""
    small = image.convert("RGB")
    small.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
