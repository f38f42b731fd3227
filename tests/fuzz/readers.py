"""How each kind of file is read: by the same functions as a user's, with everything around it intact."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import datasets
import torch
from PIL import Image, PngImagePlugin

from maquette.cli.generation.varied import varied
from maquette.conditions.drawing.class_maps import read_classes
from maquette.conditions.drawing.people import read_people
from maquette.conditions.drawing.skeletons import people_map
from maquette.conditions.labels import read_class_map
from maquette.conditions.networks.pretrained import read_preprocessor_config
from maquette.data.check import check
from maquette.data.crop import ResizeCrop
from maquette.data.pairs import SourcePairs
from maquette.data.sources.diode import depth_drawn
from maquette.data.sources.jsonl import Columns, RowError, Source, read
from maquette.data.sources.open import open_source
from maquette.data.sources.shards import Shards
from maquette.errors import MaquetteError
from maquette.formats.lora import UNET, add_lora
from maquette.foundation.images import open_image
from maquette.foundation.reading.documents import read_json
from maquette.foundation.weights import open_weights
from maquette.sampling.metadata import KEY, Record
from maquette.studio.http.webui import Translation
from maquette.studio.requests.limits import Limits
from maquette.studio.requests.request import Request
from maquette.studio.trainings.read import seconds_left
from maquette.training import checkpoint
from maquette.training.config import TrainingConfig
from maquette.training.monitor.metrics_log import Log
from tests.fuzz import samples
from tests.fuzz.families import Families


class Readers:
    """Every kind of file by name, read in a folder in which all else is whole."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        datasets.disable_progress_bars()
        self.folder = folder
        self.kinds: dict[str, Callable[[Path, str], None]] = {
            "picture": _picture, "weights": _weights, "index": _index, "tar": _tar, "rows": _rows,
            "parquet": _parquet, "record": _record, "people": _people, "training": _training, "array": _array,
            "lora": self._lora, "preprocessor": _preprocessor, "state": _state, "request": self._request,
            "metrics": _metrics,
        }  # fmt: skip
        self.families = Families(folder)
        self.base = self.families.bases["sd15"]
        self.kinds |= {
            "base": self.families.read_base, "controlnet": self.families.read_net, "net": self.families.read_file,
        }  # fmt: skip

    def read(self, kind: str, path: Path, name: str) -> None:
        """Read a file; `name` is its place in a folder, for kinds that have several."""
        self.kinds[kind](path, name)

    def _lora(self, path: Path, _: str) -> None:
        network = self.base.backbone.network
        parts = {UNET: {name: value.clone() for name, value in network.state_dict().items()}}
        for weight in (1.0, -0.5):
            add_lora(open_weights(path), parts, weight)

    def _request(self, path: Path, name: str) -> None:
        """A body of the studio, or, under another name, of sd-webui."""
        try:
            values = read_json(path)
        except ValueError as error:  # as `studio.http.wire` has it
            raise MaquetteError(str(error)) from error
        limits, nets = Limits(), {"diorama/canny": "canny"}
        if name == "webui":
            values = Translation(values, SimpleNamespace(nets=nets, limits=limits)).request
        Request.read(values, limits).check(self.base, nets)


def _picture(path: Path, _: str) -> None:
    for reader in (open_image, read_classes, lambda given: read_class_map(given, "it", "ade20k")):
        _say(lambda reader=reader: reader(path))
    open_image(path)


def _say(call: Callable[[], object]) -> None:
    """Call, where a sentence is as good an end as a value."""
    try:
        call()
    except MaquetteError:
        return


def _weights(path: Path, _: str) -> None:
    weights = open_weights(path)
    for name in weights:
        weights[name].float()


def _index(path: Path, _: str) -> None:
    _weights(path, "")


def _every_row(source: Source) -> None:
    """Read all rows, the broken ones to their sentence; then check the whole as `data check` does."""
    pairs = SourcePairs("canny", source, ResizeCrop((64, 64)))
    for number in range(min(len(source), 20)):
        try:
            read(source[number])
            pairs.signature(number)
            pairs.content(number)
        except RowError:
            continue
    if len(source) <= 20:
        str(check(source, ResizeCrop((64, 64))))


def _tar(path: Path, _: str) -> None:
    _every_row(Shards([path], Columns(has_conditions=False)))


def _rows(path: Path, _: str) -> None:
    Image.new("RGB", (64, 64)).save(path.parent / "1.png")
    _every_row(open_source(path.parent, Columns(has_conditions=False)))


def _parquet(path: Path, _: str) -> None:
    _every_row(open_source(path, Columns(has_conditions=False)))


def _record(path: Path, _: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, path.read_text("utf-8", "replace"))
    Image.new("RGB", (8, 8)).save(path.with_suffix(".png"), pnginfo=info)
    record = varied(Record.load(path.with_suffix(".png")), {})
    assert record.settings["count"] == 1


def _people(path: Path, _: str) -> None:
    people = read_people(path)
    if people.size[0] * people.size[1] < 10**7:
        people_map(people)


def _training(path: Path, _: str) -> None:
    TrainingConfig.load(path)


def _preprocessor(path: Path, _: str) -> None:
    settings = read_preprocessor_config(path.parent)
    assert all(0 < side < 10**5 for side in settings["size"].values())


def _state(path: Path, _: str) -> None:
    """A damaged state is refused; one that is read has the values that were saved."""
    state, tensors = checkpoint.last(path.parent), samples.tensors()
    assert state is not None
    assert (state["step"], state["log"]) == (2, [{"step": 1, "loss": 0.5}]), "another state"
    assert all(torch.equal(state["net"][name], value) for name, value in tensors.items()), "other values"


def _array(path: Path, _: str) -> None:
    try:
        depth_drawn(path.with_name("a.png"))
    except (OSError, ValueError) as error:  # as its only caller has it
        raise MaquetteError(str(error)) from error


def _metrics(path: Path, _: str) -> None:
    """As the page reads a run."""
    log = Log(path.parent, "canny")
    log.verdict(), log.best(), log.settled_at(2)
    seconds = seconds_left(log.lines(), 1000)
    assert seconds is None or abs(round(seconds)) >= 0
