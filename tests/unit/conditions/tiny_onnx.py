"""Files of ONNX, written out by hand: tiny networks in the places of YOLOX and DWPose.

Field numbers are those of onnx.proto3.
"""

from pathlib import Path

import numpy as np

FLOAT, INTS = 1, 7


def write_tiny_dwpose(folder: Path, boxes: np.ndarray, seen: tuple[int, int]) -> Path:
    """YOLOX that answers `boxes` (1, places, 85) to any image of 64×64, and DWPose that sees all 133 points where a
    crop of `seen` (width, height) is brightest."""
    same = _node("Identity", ["always"], ["found"])
    (folder / "yolox_l.onnx").write_bytes(_model([same], {"always": boxes}, (1, 3, 64, 64), ["found"]))
    width, height = seen
    nodes = [
        _node("ReduceMax", ["pixels"], ["bright"], {"axes": [1], "keepdims": 0}),
        _node("ReduceMax", ["bright"], ["columns"], {"axes": [1], "keepdims": 1}),
        _node("MatMul", ["columns", "twice_x"], ["fine_x"]),
        _node("Add", ["fine_x", "points_x"], ["across"]),
        _node("ReduceMax", ["bright"], ["rows"], {"axes": [2], "keepdims": 1}),
        _node("Transpose", ["rows"], ["row"], {"perm": [0, 2, 1]}),
        _node("MatMul", ["row", "twice_y"], ["fine_y"]),
        _node("Add", ["fine_y", "points_y"], ["down"]),
    ]
    known = {"twice_x": _twice(width), "twice_y": _twice(height)}
    known |= {"points_x": np.zeros((1, 133, 2 * width)), "points_y": np.zeros((1, 133, 2 * height))}
    model = _model(nodes, known, (1, 3, height, width), ["across", "down"])
    (folder / "dw-ll_ucoco_384.onnx").write_bytes(model)
    return folder


def _twice(side: int) -> np.ndarray:
    """(side, 2 side): each value to the even place that stands for it."""
    matrix = np.zeros((side, 2 * side))
    matrix[np.arange(side), 2 * np.arange(side)] = 1
    return matrix


def _model(nodes: list[bytes], known: dict[str, np.ndarray], given: tuple[int, ...], answers: list[str]) -> bytes:
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"tiny")
    for name, value in known.items():
        tensor = b"".join(_field(1, side) for side in value.shape) + _field(2, FLOAT) + _field(8, name.encode())
        graph += _field(5, tensor + _field(9, value.astype("<f4").tobytes()))
    shape = b"".join(_field(1, _field(1, side)) for side in given)
    graph += _field(11, _field(1, b"pixels") + _field(2, _field(1, _field(1, FLOAT) + _field(2, shape))))
    graph += b"".join(_field(12, _field(1, name.encode()) + _field(2, _field(1, _field(1, FLOAT)))) for name in answers)
    return _field(1, 8) + _field(8, _field(2, 13)) + _field(7, graph)


def _node(kind: str, given: list[str], answers: list[str], settings: dict[str, int | list[int]] | None = None) -> bytes:
    node = b"".join(_field(1, name.encode()) for name in given) + b"".join(_field(2, name.encode()) for name in answers)
    node += _field(4, kind.encode())
    for name, value in (settings or {}).items():
        many = isinstance(value, list)
        held = b"".join(_field(8, number) for number in value) if many else _field(3, value)
        node += _field(5, _field(1, name.encode()) + held + _field(20, INTS if many else 2))
    return node


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
