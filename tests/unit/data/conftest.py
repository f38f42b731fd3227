"""Pairs stored in a folder, in Parquet files and in tar shards."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

Stored = Mapping[str, bytes | str]
"""A stored pair: image and condition as PNG, and the text."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """Let `datasets` use a temporary cache instead of the user's."""
    folder = tmp_path_factory.mktemp("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    datasets.disable_progress_bars()
    return folder


def image(size: tuple[int, int] = (96, 64), seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, kind: str = "PNG", **more: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **more)
    return content.getvalue()


def kept(seed: int, text: str = "a red house") -> Stored:
    return {"image": encoded(image(seed=seed)), "condition": encoded(image(seed=seed + 100)), "text": text}


def as_folder(pairs: Sequence[Stored], folder: Path) -> Path:
    (folder / "edges").mkdir(parents=True)
    lines = []
    for number, pair in enumerate(pairs):
        (folder / f"{number}.png").write_bytes(pair["image"])
        (folder / "edges" / f"{number}.png").write_bytes(pair["condition"])
        line = {"file_name": f"{number}.png", "conditioning_image": f"edges/{number}.png", "text": pair["text"]}
        lines.append(json.dumps(line, ensure_ascii=False))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def as_table(pairs: Sequence[Stored]) -> datasets.Dataset:
    columns = {
        "image": [{"bytes": pair["image"], "path": None} for pair in pairs],
        "conditioning_image": [{"bytes": pair["condition"], "path": None} for pair in pairs],
        "text": [pair["text"] for pair in pairs],
    }
    kinds = {"image": datasets.Image(), "conditioning_image": datasets.Image(), "text": datasets.Value("string")}
    return datasets.Dataset.from_dict(columns, datasets.Features(kinds))


def as_parquet(pairs: Sequence[Stored], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    as_table(pairs).to_parquet(path)
    return path


def tar(path: Path, members: Sequence[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def as_tar(pairs: Sequence[Stored], path: Path, first: int = 0) -> Path:
    members = []
    for number, pair in enumerate(pairs, start=first):
        members.append((f"{number:06}.png", pair["image"]))
        members.append((f"{number:06}.condition.png", pair["condition"]))
        members.append((f"{number:06}.txt", pair["text"].encode()))
    return tar(path, members)
