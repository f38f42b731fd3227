"""How a ControlNet works, in panels: what each picture shows is what the library makes."""

import threading

import pytest
from tests.unit.studio.conftest import request

import maquette as mq
from maquette.errors import MaquetteError
from maquette.studio import learning
from maquette.studio.learning import STRENGTHS, Panels, Subject
from maquette.studio.trainings.run import Trainings

SUBJECT = Subject("canny", 7, seed=3)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch) -> None:
    monkeypatch.setattr(learning, "STEPS", 2)


@pytest.fixture
def panels(engine, tmp_path) -> Panels:
    return Panels(engine, Trainings(tmp_path, tmp_path, engine.studio.base.name, "cpu"))


def by_library(engine, weight, net=None) -> bytes:
    found = mq.diorama.scene(7)
    control = mq.Control(net or engine.studio.net("diorama/canny"), mq.detect("canny", found.image), weight)
    (image,) = mq.generate(engine.studio.base, found.caption, control, steps=2, seed=3, batch_size=1)
    return image.tobytes()


def test_strength_goes_from_the_base_alone_to_beyond_training(panels, engine) -> None:
    shown = list(panels.strengths(SUBJECT))
    assert [one.value for one in shown] == list(STRENGTHS) and STRENGTHS[0] == 0 and STRENGTHS[-1] == 1.5
    (alone,) = mq.generate(engine.studio.base, mq.diorama.scene(7).caption, steps=2, seed=3, size=(128, 128))
    assert shown[0].image.tobytes() == alone.tobytes()
    assert shown[4].image.tobytes() == by_library(engine, 1.0) and shown[6].image.tobytes() == by_library(engine, 1.5)
    assert all(0 <= one.score <= 1 for one in shown)


def test_a_training_begins_from_the_base_s_picture_with_zero_convolutions_and_from_noise_without(panels) -> None:
    alone, zero, gaussian = panels.beginnings(SUBJECT)
    assert zero.image.tobytes() == alone.image.tobytes() != gaussian.image.tobytes()


def test_one_residual_after_another_is_left_out(panels, engine) -> None:
    whole, *without = panels.residuals(SUBJECT)
    slots = engine.studio.base.backbone.slots
    assert len(without) == len(slots) and [slot.name in one.value for slot, one in zip(slots, without, strict=True)]
    assert whole.image.tobytes() == by_library(engine, 1.0)
    assert without[4].image.tobytes() == by_library(engine, [float(number != 4) for number in range(len(slots))])


def test_the_jump_is_shown_by_what_a_training_of_the_condition_kept(panels, engine, tmp_path) -> None:
    for name, condition, steps in (("mine", "canny", (90, 1000)), ("other", "depth", (5,))):
        folder = tmp_path / name
        folder.mkdir()
        mq.TrainingConfig(condition=condition, output=folder).save(folder / "training.json")
        if condition == "canny":
            with pytest.raises(MaquetteError, match=r"has kept ControlNets on its way here.*--keep-every"):
                next(panels.jump(SUBJECT))
        for step in steps:
            net = engine.studio.net("diorama/canny") if step == 1000 else mq.ControlNet.attach(engine.studio.base)
            net.save(folder / "states" / str(step))
    (tmp_path / "mine" / "states" / "2000").mkdir()  # it is being written
    before, after, ready = panels.jump(SUBJECT)
    assert (before.value, after.value) == (90, 1000)
    assert before.image.tobytes() == by_library(engine, 0) and after.image.tobytes() == ready.image.tobytes()


def test_what_computes_aside_waits_for_requests_and_they_for_it(engine, packed) -> None:
    running = engine.submit(request(packed, steps=9), "a")
    seen = []

    def beside() -> None:
        with engine.aside():
            seen.append(running.state)
            waiting.append(engine.submit(request(packed, steps=1), "b"))
            assert not finished.wait(0.3)
            seen.append(waiting[0].state)

    waiting: list = []
    finished = threading.Event()
    while running.state == "queued":
        finished.wait(0.01)
    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    assert seen == ["finished", "queued"] and waiting[0].result()
