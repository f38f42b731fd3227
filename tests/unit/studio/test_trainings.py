"""Trainings as the page knows them: by their folders alone, and the words and curves that it makes of them."""

import re
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest
from PIL import Image
from tests.own_pairs import write_pairs

pytest.importorskip("gradio")

import gradio as gr

from maquette.data.sources.jsonl import BadRow
from maquette.errors import MaquetteError
from maquette.foundation.files import exclusive
from maquette.studio.page import build
from maquette.studio.page.curve import drawn
from maquette.studio.page.draw import Draw
from maquette.studio.page.fields import Fields
from maquette.studio.page.making import Making
from maquette.studio.page.strings import Strings
from maquette.studio.page.train import Train, findings
from maquette.studio.trainings.pairs import look_through
from maquette.studio.trainings.read import PRINTED, Training, seconds_left
from maquette.studio.trainings.run import ASKED, Trainings
from maquette.training.config import CONFIG, TrainingConfig
from maquette.training.monitor.metrics_log import Log

pytestmark = pytest.mark.usefixtures("closed_loops")
WORDS = Strings("en")
JUMP = [0.1] * 8 + [0.8] * 8


@pytest.fixture
def trainings(tmp_path) -> Trainings:
    (tmp_path / "data").mkdir()
    return Trainings(tmp_path / "runs", tmp_path / "data", "diorama", "cpu")


def write_run(trainings: Trainings, name: str = "one", scores: list[float] | None = None, **settings):
    """A folder as a training leaves it: settings, a line and a grid for each measurement, and a loss between."""
    folder = trainings.root / name
    folder.mkdir(parents=True)
    config = TrainingConfig(condition="canny", output=folder, max_steps=400, **settings)
    config.save(folder / CONFIG)
    config.save(folder / ASKED)
    log = Log(folder, "canny")
    for number, score in enumerate(JUMP if scores is None else scores):
        log.write(25 * number, **{"fidelity": score, "gain": 0.1 * score, "gain share": score / 2})
        log.write(25 * number, loss=1 - score / 3)
        (folder / "grids").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "grids" / f"step-{25 * number:06d}.png")
    return folder


def finish(folder) -> None:
    Log(folder, "canny").write(400, loss=0.5)
    (folder / "diffusion_pytorch_model.safetensors").touch()


@pytest.fixture
def tab(trainings, engine) -> Train:
    with gr.Blocks(analytics_enabled=False), gr.Tabs() as tabs:
        with gr.Tab("draw"):
            draw = Draw(Fields(engine, WORDS), Making(engine, WORDS), gr.BrowserState(""))
        with gr.Tab("train"):
            return Train(trainings, draw, tabs)


def test_the_state_follows_from_the_folder(trainings) -> None:
    folder = write_run(trainings)
    assert trainings.training("one").state == "stopped"
    with exclusive(folder):
        assert trainings.training("one").state == "running"
    finish(folder)
    assert trainings.training("one").state == "finished"
    assert [training.name for training in trainings.listed()] == ["one"]


def test_who_goes_on_after_the_end_and_stops_has_not_finished(trainings) -> None:
    folder = write_run(trainings)
    finish(folder)
    TrainingConfig(condition="canny", output=folder, max_steps=500).save(folder / CONFIG)
    assert trainings.training("one").state == "stopped" and trainings.nets() == {}


def test_a_folder_without_a_training_is_none(trainings) -> None:
    (trainings.root / "cache").mkdir(parents=True)
    assert trainings.listed() == []
    for name in ("two", "../data", ".hidden", "", "a/b", "a\0"):
        with pytest.raises(MaquetteError):
            trainings.training(name)


def test_data_sets_are_folders_in_the_one_that_was_named(trainings, tmp_path) -> None:
    write_pairs(trainings.pairs / "mine", 1)
    (tmp_path / "elsewhere").mkdir()
    (trainings.pairs / "link").symlink_to(tmp_path / "elsewhere")
    assert trainings.data("mine") == str((trainings.pairs / "mine").resolve())
    assert "mine" in trainings.data_sets()
    odd = ("a\0b", "\ud83d", "a" * 5000)
    for name in ("..", ".", "", "/etc", "link", "../elsewhere", "org/name", "mine/metadata.jsonl", *odd):
        with pytest.raises(MaquetteError, match="Data sets are folders in") as error:
            trainings.data(name)
        assert error.value.field == "folder"


def test_pictures_of_others_are_no_data_set(tmp_path) -> None:
    kept = tmp_path / "studio" / "gallery"
    (kept / "session" / "pictures").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    trainings = Trainings(tmp_path / "runs", tmp_path, "diorama", "cpu", [kept])
    for name in ("studio", "studio/gallery", "studio/gallery/session", "studio/gallery/session/pictures", "runs"):
        with pytest.raises(MaquetteError, match="is none of them"):
            trainings.data(name)
    assert trainings.data("mine") and trainings.data_sets() == ["mine"]


def test_another_is_not_started_while_one_runs(trainings) -> None:
    with exclusive(write_run(trainings)):
        for begin in (lambda: trainings.start("two", {"condition": "canny"}), lambda: trainings.resume("one")):
            with pytest.raises(MaquetteError, match="'one' is running"):
                begin()
    assert not (trainings.root / "two").exists()


def test_a_name_that_is_taken_and_settings_that_cannot_be_start_nothing(trainings) -> None:
    write_run(trainings)
    for name, settings, words in (
        ("one", {"condition": "canny"}, "already"),
        ("-x", {"condition": "canny"}, "letters"),
        ("two", {"condition": "canny", "max_steps": 0}, "max_steps"),
    ):
        with pytest.raises(MaquetteError, match=words):
            trainings.start(name, settings)
    assert [path.name for path in trainings.root.iterdir()] == ["one"]


@pytest.mark.slow
def test_it_runs_in_a_process_of_its_own_that_tells_why_it_ended(trainings) -> None:
    pairs = write_pairs(trainings.pairs / "broken", 4)
    for path in (pairs / "maps").glob("*.png"):
        path.write_text("no picture")
    training = trainings.start("", {"condition": "canny", "data": str(pairs), "batch_size": 1, "held_out": 1})
    assert training.name == "canny-1" and training.state == "running"
    until = time.monotonic() + 300
    while (training := trainings.training("canny-1")).state == "running":
        assert time.monotonic() < until
        time.sleep(0.2)
    assert training.state == "stopped" and training.failure, training.printed


def test_a_process_of_another_machine_is_not_stopped_here(trainings) -> None:
    folder = write_run(trainings)
    with exclusive(folder):
        (folder / ".owner").write_text("process 1 on another-machine")
        with pytest.raises(MaquetteError, match="runs on another-machine"):
            trainings.stop("one")


def test_why_it_ended_is_told_in_the_commands_words(trainings) -> None:
    folder = write_run(trainings)
    for printed, failure in (
        ("step 25: ...\rmaquette: The disk is full.\n", "The disk is full."),
        ("Traceback ...\nRuntimeError: no such thing\n", "no such thing"),
        ("training:  12%|█▏  | 3/25\r", ""),
        ("Stopped after step 25 and saved; continue with --resume.\n", ""),
    ):
        (folder / PRINTED).write_text("long before\n" * 2000 + printed)
        assert Training.read(folder).failure == failure


def test_its_controlnet_is_there_once_it_has_finished_on_this_base(trainings) -> None:
    folder = write_run(trainings)
    with pytest.raises(MaquetteError, match="not written"):
        trainings.training("one").net_on("diorama")
    finish(folder)
    assert trainings.nets() == {str(folder): "canny"}
    with pytest.raises(MaquetteError, match="--base diorama"):
        trainings.training("one").net_on("another")
    finish(write_run(trainings, "two", unlock="decoder"))
    with pytest.raises(MaquetteError, match=re.escape(f"--base {trainings.root / 'two' / 'base'}")):
        trainings.training("two").net_on("diorama")


def test_the_time_left_is_that_of_the_latest_steps() -> None:
    lines = [{"step": 25 * n, "seconds": 1000 + 50.0 * n} for n in range(20)]
    assert seconds_left(lines, 500) == pytest.approx(50)
    assert seconds_left(lines[:1], 500) is None and seconds_left(lines, 475) is None


@pytest.mark.parametrize("scores", [[], [0.3], JUMP], ids=["none", "one", "jump"])
def test_the_curve_is_drawn_to_scale(trainings, scores) -> None:
    folder = write_run(trainings, scores=scores, seed=1)
    dated = Log(folder, "canny").dated()
    html = drawn(Log(folder, "canny"), 400, dated[0] if dated else None, WORDS)
    if not scores:
        assert html == ""
        return
    figure = ElementTree.fromstring(html[: html.index("</svg>") + 6])
    line = figure.find(".//g[@class='score']/polyline").get("points")
    points = [tuple(map(float, point.split(","))) for point in line.split()]
    assert len(points) == len(scores)
    heights = [y for _, y in points]
    assert heights == sorted(heights, reverse=True), "higher scores stand higher"
    assert (figure.find("./g[@class='sudden']") is not None) == (scores == JUMP)
    if scores == JUMP:
        assert WORDS("sudden", dated[0]) in html and dated[0] == 200
        assert points[8][0] - points[0][0] == pytest.approx((640 - 64 - 12) / 2, abs=0.2), "step 200 of 400 is half way"


def test_names_do_not_become_markup(trainings) -> None:
    folder = write_run(trainings)
    log = Log(folder, "<script>", label="<b>&score</b>")
    assert "<b>" not in drawn(log, 400, None, WORDS)
    report = look_through({"condition": "canny", "data": str(write_pairs(trainings.pairs / "mine", 2))}, 64)
    report.faults.append(BadRow("<img src=x>", "<script>alert(1)</script>"))
    assert "<img" not in findings(report, WORDS) and "<script" not in findings(report, WORDS)


def test_broken_rows_are_named_as_the_command_names_them(trainings, tab) -> None:
    pairs = write_pairs(trainings.pairs / "mine", 6)
    (pairs / "2.png").unlink()
    (pairs / "maps" / "4.png").write_text("no picture")
    command = [
        sys.executable,
        "-m",
        "maquette",
        "data",
        "check",
        str(pairs),
        "--size",
        "128",
        "-o",
        str(pairs / "c.png"),
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    values = {name: field.value for name, field in tab.inputs.items()}
    settings = tab.settings({**values, "of": "pairs", "folder": "mine", "own_condition": "rings"})
    report = look_through(settings, 128)
    assert [f"{fault.where}: {fault.reason}" for fault in report.faults] == printed.splitlines()[:2]
    html = findings(report, WORDS)
    assert all(fault.where in html for fault in report.faults) and WORDS("checked", 4, 2) in html


def test_errors_of_the_form_stand_beside_their_fields(tab) -> None:
    values = {field: field.value for field in tab.inputs.values()}
    own = tab.inputs
    for changes, place in (
        ({own["of"]: "pairs", own["folder"]: "../.."}, "folder"),
        ({own["name"]: "a/b"}, "name"),
        ({own["max_steps"]: -1}, ""),
    ):
        *_, said = tab._start({**values, **changes})
        assert said[tab.errors[place]].startswith("⚠"), place
    assert tab.trainings.listed() == []


def test_a_look_tells_what_is_new_and_only_that(trainings, tab) -> None:
    watch, folder = tab.watch, write_run(trainings)
    first = watch.follow(None, {}, 0)
    assert "converge" in first[watch.said] and "<svg" in first[watch.curve]
    assert not first[watch.use]["interactive"] and first[watch.resume]["interactive"]
    assert first[watch.at]["value"] == 375
    seen = first[watch.seen]
    assert set(watch.follow("one", seen, 375)) == {watch.said}, "nothing is new"
    Image.new("RGB", (8, 8)).save(folder / "grids" / "step-000400.png")
    finish(folder)
    older, newest = watch.follow("one", seen, 100), watch.follow("one", seen, 375)
    assert watch.grid not in older and newest[watch.at]["value"] == 400, "who looks at older pictures keeps them"
    assert newest[watch.use]["interactive"] and WORDS("is_finished", 400, 400) in newest[watch.said]


def test_a_finished_training_is_resumed_only_beyond_its_end(trainings, tab) -> None:
    finish(write_run(trainings))
    assert WORDS("finished_already", 400) in tab.watch._resume("one", None)
    assert "no training" in tab.watch._resume("two", None)


@pytest.mark.parametrize("language", ["en", "ja", "zh"])
def test_a_page_that_trains_builds(engine, trainings, language) -> None:
    assert isinstance(build(engine, language, trainings), gr.Blocks)
