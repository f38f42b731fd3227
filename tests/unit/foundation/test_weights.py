"""Weight files: every format is read lazily; broken or dangerous files raise a clear error."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from maquette.errors import MaquetteError
from maquette.formats.write import write_weights
from maquette.foundation.weights import open_weights


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {
        "a.weight": torch.randn(3, 4),
        "a.bias": torch.randn(3, dtype=torch.bfloat16),
        "one": torch.tensor(1, dtype=torch.int64),
        "none": torch.zeros(0, 2, dtype=torch.float16),
    }


def same(found, expected) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype for name in expected
    )


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.ckpt"])
def test_written_and_read(name: str, tensors, tmp_path) -> None:
    write_weights(tensors, tmp_path / name, {"said": "so"})
    weights = open_weights(tmp_path / name)
    assert same(weights, tensors)
    assert weights.shapes == {key: tuple(value.shape) for key, value in tensors.items()}
    if name.endswith("safetensors"):
        assert weights.metadata == {"format": "pt", "said": "so"}
        assert same(load_file(tmp_path / name), tensors)  # by the library too
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_the_format_follows_from_the_content(tensors, tmp_path) -> None:
    save_file(tensors, tmp_path / "model.pth")
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "model.safetensors")
    torch.save(tensors, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("model.pth", "model.safetensors", "old.bin"):
        assert same(open_weights(tmp_path / name), tensors)


def test_shards_are_read_as_one_file(tensors, tmp_path) -> None:
    shard_of = {name: f"{number % 2}.safetensors" for number, name in enumerate(tensors)}
    for shard in set(shard_of.values()):
        save_file({name: tensors[name] for name, file in shard_of.items() if file == shard}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": ' + str(shard_of).replace("'", '"') + "}")
    assert same(open_weights(index), tensors)
    index.write_text('{"weight_map": {"b": "0.safetensors"}}')
    with pytest.raises(MaquetteError, match=r"says that 'b' is in '0\.safetensors', but it is not"):
        open_weights(index)
    index.write_text("{")
    with pytest.raises(MaquetteError, match="not an index of shards"):
        open_weights(index)


class Payload:
    """A malicious checkpoint: code that runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("modern", [True, False])
def test_code_is_refused_and_not_run(modern: bool, tmp_path) -> None:
    trace, evil = tmp_path / "trace", tmp_path / "evil.pth"
    torch.save({"w": torch.ones(2), "x": Payload(trace)}, evil, _use_new_zipfile_serialization=modern)
    with pytest.raises(MaquetteError, match="would run code that it contains"):
        open_weights(evil)
    assert not trace.exists()
    torch.load(evil, weights_only=False)  # the payload is real
    assert trace.exists()


def test_a_bare_pickle_is_refused(tmp_path) -> None:
    (tmp_path / "w.ckpt").write_bytes(pickle.dumps(Payload(tmp_path / "trace")))
    with pytest.raises(MaquetteError, match=r"w\.ckpt"):
        open_weights(tmp_path / "w.ckpt")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_files(name: str, share: float, tmp_path) -> None:
    path = tmp_path / name
    write_weights({"a": torch.randn(100, 100)}, path, {})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(MaquetteError, match=r"cut off or broken.*fetch it anew"):
        open_weights(path)


def test_files_without_weights(tmp_path) -> None:
    for name, content in (("page.pth", b"<html>404</html>"), ("empty.safetensors", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MaquetteError, match="holds no weights"):
            open_weights(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(MaquetteError, match="no named tensors"):
        open_weights(tmp_path / "list.pth")
    with pytest.raises(MaquetteError, match="cannot be read"):
        open_weights(tmp_path / "missing.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused_when_they_are_read(value, dtype, tmp_path) -> None:
    tensors = {"good": torch.ones(1000, dtype=dtype), "bad": torch.ones(1000, dtype=dtype)}
    tensors["bad"][617] = value
    save_file(tensors, tmp_path / "a.safetensors")
    weights = open_weights(tmp_path / "a.safetensors")
    assert torch.equal(weights["good"], tensors["good"])
    with pytest.raises(MaquetteError, match="'bad' that are not finite"):
        weights["bad"]


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(3, 3).to_sparse(), torch.empty(3, device="meta")],
)
def test_tensors_that_are_no_plain_weights_are_refused(tensor, tmp_path) -> None:
    torch.save({"odd": tensor}, tmp_path / "a.pth")
    with pytest.raises(MaquetteError, match=r"sparse, quantized, nested|cut off or broken|more than weights"):
        open_weights(tmp_path / "a.pth")


def test_weights_keyed_by_numbers_are_refused(tmp_path) -> None:
    torch.save({0: torch.ones(3)}, tmp_path / "a.pth")
    with pytest.raises(MaquetteError, match="no named tensors"):
        open_weights(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "name", ["../b.safetensors", "/etc/passwd", "model.safetensors.index.json", 5, ["a"], "a" * 300]
)
def test_an_index_names_files_beside_it_only(name, tmp_path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "b.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(MaquetteError, match=r"beside it|not an index"):
        open_weights(index)
