"""Hypothesis strategies for broken files of each kind: whole ones, changed where readers look."""

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.fuzz import samples

NUMBERS = st.sampled_from(
    [0, -1, 1, 2, 3, 255, 1000, -1000, 2**31, 10**7 + 1, 10**9, 2**63, 10**12, 10**30, 1e308, 0.5, -0.0, float("nan"),
     float("inf")]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["", "x", "\ud83d", "a\0b", "../../../etc/passwd", "/dev/zero", "/dev/stdin", "é" * 300, "[" * 1000, "null", "🏠",
     "1.png", "ddim", "UNet2DConditionModel", "CrossAttnDownBlock2D", "%", "A" * 100_000]
)  # fmt: skip
DEEP = st.sampled_from([70, 500, 5000])


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(min(depth, 300)):  # json.dumps itself takes no more; deeper ones are written as text
        value = [value]
    return value


VALUES = st.one_of(
    st.none(), st.booleans(), NUMBERS, TEXTS, st.just([]), st.just({}), DEEP.map(_nested),
    st.lists(st.one_of(NUMBERS, TEXTS, st.just([1])), max_size=4), st.just([1] * 70_000),
    st.dictionaries(TEXTS, NUMBERS, max_size=2), NUMBERS, NUMBERS,
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in _places(item, (*path, key)))]


def _set(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _set(value[path[0]], path[1:], new)
    return copy


def _without(value: Any, path: tuple[Any, ...]) -> Any:
    if len(path) > 1:
        return _set(value, path[:1], _without(value[path[0]], path[1:]))
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if path != (key,)}
    return [item for number, item in enumerate(value) if path != (number,)] if isinstance(value, list) else value


@st.composite
def changed_json(draw: st.DrawFn, whole: Any) -> Any:
    """A value with one to three of its parts replaced, removed or added."""
    value = whole
    for _ in range(draw(st.integers(1, 3))):
        places = _places(value)
        path = draw(st.sampled_from(places[1:] or places))
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if how == "replace":
            value = _set(value, path, draw(VALUES))
        elif how == "remove":
            value = _without(value, path)
        elif isinstance(value, dict):
            value = {**value, draw(TEXTS): draw(VALUES)}
    return value


@st.composite
def bytes_changed(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes cut, overwritten, doubled, or with something put in between."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        if not content:
            break
        # most of what readers trust stands at the start or at the end
        at = draw(st.one_of(st.integers(0, len(content) - 1), st.integers(0, min(64, len(content) - 1))))
        at = len(content) - 1 - at if draw(st.booleans()) else at
        how = draw(st.sampled_from(["bit", "number", "cut", "remove", "double", "insert", "zero"]))
        if how == "bit":
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "number":
            width = draw(st.sampled_from([1, 2, 4, 8]))
            number = draw(st.sampled_from([0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))
            order = draw(st.sampled_from(["little", "big"]))
            content[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, order)
        elif how == "cut":
            del content[at:]
        elif how == "remove":
            del content[at : at + draw(st.sampled_from([1, 8, 512]))]
        elif how == "double":
            content[at:at] = content[at : at + draw(st.sampled_from([1, 64, 1024]))]
        elif how == "insert":
            content[at:at] = draw(st.sampled_from([b"\0", b"\xff" * 8, b"[" * 200_000, b"\xed\xa0\xbd", b"-", b"\n"]))
        else:
            length = draw(st.sampled_from([1, 16, 512]))
            content[at : at + length] = bytes(len(content[at : at + length]))
    return bytes(content)


def document(whole: Any) -> st.SearchStrategy[bytes]:
    """A JSON file: valid with other values, or broken as text."""
    text = changed_json(whole).map(samples.as_json)
    return st.one_of(text, text, text, bytes_changed(samples.as_json(whole)), DEEP.map(lambda n: b"[" * n * 20))


def of(wholes: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.sampled_from(wholes).flatmap(bytes_changed)


@st.composite
def png_chunks(draw: st.DrawFn) -> bytes:
    """A PNG with a changed chunk whose checksum is right."""
    whole, chunks, at = samples.picture(), [], 8
    while at < len(whole):
        (length,) = struct.unpack(">I", whole[at : at + 4])
        chunks.append((whole[at + 4 : at + 8], whole[at + 8 : at + 8 + length]))
        at += 12 + length
    number = draw(st.integers(0, len(chunks) - 1))
    kind, content = chunks[number]
    kind = draw(st.sampled_from([kind, kind, b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"PLTE"]))
    chunks.insert(number, (kind, draw(bytes_changed(content or b"\0"))))
    if draw(st.booleans()):
        del chunks[number + 1]
    return whole[:8] + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in chunks
    )


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"


@st.composite
def safetensors(draw: st.DrawFn, wholes: list[bytes]) -> bytes:
    """A header with other values, of the length that is stated."""
    whole = draw(st.sampled_from(wholes))
    length = int.from_bytes(whole[:8], "little")
    header = json.dumps(draw(changed_json(json.loads(whole[8 : 8 + length])))).encode()
    return len(header).to_bytes(8, "little") + header + whole[8 + length :]


@st.composite
def peft_settings(draw: st.DrawFn) -> bytes:
    """A LoRA with other settings in its metadata."""
    whole = samples.loras()[1]
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    settings = draw(document(json.loads(header["__metadata__"]["lora_adapter_metadata"])))
    header["__metadata__"]["lora_adapter_metadata"] = settings.decode("utf-8", "replace")
    content = json.dumps(header).encode()
    return len(content).to_bytes(8, "little") + content + whole[8 + length :]


@st.composite
def archive(draw: st.DrawFn) -> bytes:
    """An archive of torch with a part changed, and its checksums right; sometimes packed."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(samples.checkpoints()[1])) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    name = draw(st.sampled_from([*[next(name for name in parts if name.endswith("data.pkl"))] * 4, *parts]))
    parts[name] = draw(bytes_changed(parts[name]))
    if draw(st.integers(0, 9)) == 0:
        parts["archive/data/0"] = bytes(2**26)
    packed = zipfile.ZIP_DEFLATED if draw(st.integers(0, 4)) == 0 else zipfile.ZIP_STORED
    with zipfile.ZipFile(content, "w", packed) as written:
        for name, part in parts.items():
            written.writestr(name, part)
    return content.getvalue()


@st.composite
def tar_headers(draw: st.DrawFn) -> bytes:
    """A tar with a field of a header changed, and its checksum right; or cut at a member's boundary."""
    content = bytearray(draw(st.sampled_from(samples.tars())))
    heads = [at for at in range(0, len(content), 512) if content[at + 257 : at + 262] == b"ustar"]
    at = draw(st.sampled_from(heads))
    how = draw(st.sampled_from(["size", "kind", "name", "cut", "zero"]))
    if how == "size":
        size = draw(st.sampled_from([b"-1000", b"77777777777", b"x", b"\x80" + b"\xff" * 11, b"\xff" * 12, b" ", b"0"]))
        content[at + 124 : at + 136] = size.ljust(12, b"\0")
    elif how == "kind":
        content[at + 156 : at + 157] = draw(st.sampled_from([b"L", b"K", b"x", b"g", b"S", b"1", b"2", b"5", b"X"]))
    elif how == "name":
        name = draw(st.sampled_from([b"", b"\xff.png", b"../../x.png", b"/etc/passwd", b".png", b"a.b.png", b"0.png"]))
        content[at : at + 100] = name.ljust(100, b"\0")
    elif how == "cut":
        del content[at:]
    else:
        content[at : at + 512] = bytes(512)
    if how in ("size", "kind", "name"):
        content[at + 148 : at + 156] = b" " * 8
        content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    return bytes(content)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """metadata.jsonl with one row that is broken."""
    rows = [samples.as_json(row) for row in samples.ROWS]
    rows.insert(draw(st.integers(0, 2)), draw(document(samples.ROWS[0])))
    return b"\n".join(rows) + draw(st.sampled_from([b"", b"\n", b"\0", b"\r\n"]))


@st.composite
def metrics(draw: st.DrawFn) -> bytes:
    """metrics.jsonl of which one to three lines are broken."""
    rows = list(map(samples.as_json, samples.METRICS))
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(rows) - 1))
        rows[number] = draw(document(samples.METRICS[number]))
    return b"\n".join(rows) + b"\n"


@st.composite
def changed_tensors(draw: st.DrawFn, whole: bytes) -> bytes:
    """A safetensors file of which one to three tensors are missing, or have another name, shape or type."""
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    outer = [name for name in header if "blocks." not in name and name != "__metadata__"]
    for _ in range(draw(st.integers(1, 3))):
        names = [name for name in header if name != "__metadata__"]
        name = draw(st.sampled_from([one for one in outer if one in header] if draw(st.booleans()) else names))
        how = draw(st.sampled_from(["remove", "rename", "shape", "shape", "metadata"]))
        if how == "remove":
            del header[name]
        elif how == "rename":
            other = st.sampled_from(["x." + name, name + ".up", re.sub(r"\d+", "9" * 20, name), "difference", ""])
            header[draw(st.one_of(other, st.sampled_from(names)))] = header.pop(name)
        elif how == "shape":
            shape = header[name]["shape"]
            others = [[], [0], [1], shape[::-1], shape[:-1], [*shape, 1], [2 * side for side in shape]]
            header[name] = {**header[name], "shape": draw(st.sampled_from(others))}
        else:
            key = draw(st.sampled_from(["maquette.config", "maquette.checksums", "maquette"]))
            header["__metadata__"] = {key: draw(document({name: 1})).decode("utf-8", "replace")}
    return _with_tensors(header, whole[8 + length :])


def _with_tensors(header: dict[str, Any], content: bytes) -> bytes:
    """A safetensors file with these tensors, their values taken from `content`, repeated or cut as their shapes ask."""
    parts: list[bytes] = []
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            size = math.prod(entry["shape"]) * WIDTHS[entry["dtype"]]
            part = (content[start:end] or b"\0") * (size // max(1, end - start) + 1)
            place = sum(map(len, parts))
            parts.append(part[:size])
            header[name] = {**entry, "data_offsets": [place, place + size]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "F16": 2, "BF16": 2, "U8": 1}  # bytes of a value
_LAYER = {
    "condition": "canny", "net": "diorama/canny", "picture": samples.in_base64(), "is_map": True, "weight": 1.0,
    "start": 0.0, "end": 1.0, "balance": "balanced", "curve": [[0, 1], [1, 0.5]], "options": {"low": 100},
}  # fmt: skip
_UNIT = {
    "enabled": True, "module": "canny", "model": "diorama/canny [1]", "image": samples.in_base64(), "weight": 1.0,
    "guidance_start": 0, "guidance_end": 1, "control_mode": 0, "resize_mode": 1, "threshold_a": 100, "threshold_b": 200,
}  # fmt: skip
REQUESTS: dict[str, Any] = {
    "studio": {
        "prompt": "a red house", "layers": [_LAYER], "image": samples.in_base64(), "strength": 0.5, "steps": 2,
        "guidance": 9.0, "sampler": "ddim", "size": [128, 128], "seed": 4, "count": 2, "fit": "cut",
    },
    "webui": {
        "prompt": "a red house", "steps": 2, "cfg_scale": 9, "width": 128, "height": 128, "seed": -1, "batch_size": 1,
        "sampler_name": "DPM++ 2M", "scheduler": "Karras", "alwayson_scripts": {"controlnet": {"args": [_UNIT]}},
    },
}  # fmt: skip
"""Bodies of requests, by whose they are."""


KINDS: dict[str, Callable[[], st.SearchStrategy[bytes]]] = {
    "picture": lambda: st.one_of(of(samples.pictures()), of(samples.pictures()), png_chunks(), st.just(EPS)),
    "weights": lambda: st.one_of(of(samples.checkpoints()), safetensors(samples.checkpoints()[:1]), archive()),
    "lora": lambda: st.one_of(of(samples.loras()), safetensors(samples.loras()), peft_settings()),
    "index": lambda: document(samples.INDEX),
    "tar": lambda: st.one_of(of(samples.tars()), tar_headers()),
    "rows": lines,
    "parquet": lambda: of(samples.tables()),
    "record": lambda: document(samples.record()),
    "people": lambda: document(samples.PEOPLE),
    "training": lambda: document(samples.TRAINING),
    "array": lambda: of(samples.arrays()),
    "preprocessor": lambda: document(samples.PREPROCESSOR),
    "state": lambda: of([samples.state()]),
    "metrics": metrics,
}
"""Kinds of one file whose samples are made; those of bases and ControlNets are what `Families` saved."""

NAMES = {
    "picture": "a.png", "weights": "a.pth", "index": "model.safetensors.index.json", "tar": "a.tar",
    "rows": "metadata.jsonl", "parquet": "a.parquet", "record": "a.json", "people": "a.json",
    "training": "training.json", "array": "a_depth.npy", "base": "part.json", "controlnet": "config.json",
    "lora": "lora.safetensors", "preprocessor": "preprocessor_config.json", "state": "state-000002.pt",
    "net": "net.safetensors", "request": "request.json", "metrics": "metrics.jsonl",
}  # fmt: skip
