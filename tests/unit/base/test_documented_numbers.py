"""The numbers in the docs are those of the base's report."""

import json
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_base_s_numbers() -> None:
    page, numbers = (DOCS / "diorama.md").read_text(), json.loads((DOCS / "base" / "numbers.json").read_text())
    assert f"| {numbers['psnr']:.2f} dB |" in page
    for name in ("found", "coloured"):
        assert f"| {numbers[name]:.1%} | {numbers[f'{name} in true scenes']:.1%} |".replace("%", " %") in page
    assert f"| {numbers['frechet']:.3f} | {numbers['frechet of true scenes']:.3f} |" in page
