"""The queue: its bound, its waiting times, cancelling, bursts, and pictures that do not depend on who else asks."""

import threading
import time
import warnings

import pytest
from tests.conftest import tiny_base
from tests.tiny_union import published_union
from tests.unit.studio.conftest import LIMITS, request

import maquette as mq
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.sampling.metadata import KEY
from maquette.studio.arguments import controls_of
from maquette.studio.engine import Engine, StoppingError, offered
from maquette.studio.gallery import Gallery
from maquette.studio.jobs import BusyError, Ended, Finished, Note, Progress, Queued
from maquette.studio.making import Making
from maquette.studio.requests.limits import Limits


def wait_for(holds, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_running_request_stops_at_its_next_step(engine, packed) -> None:
    job = engine.submit(request(packed, steps=40, count=4), "a")
    for event in job.events():
        if isinstance(event, Progress) and event.step >= 2:
            job.cancel()
            break
    *_, before, end = job.events()
    assert end == Ended("cancelled") and job.state == "cancelled" and before.step <= 12
    with pytest.raises(MaquetteError, match="cancelled"):
        job.result()


def test_a_waiting_request_leaves_the_queue_at_once_and_the_others_move_up(engine, packed) -> None:
    first = engine.submit(request(packed, steps=40), "a")
    wait_for(lambda: first.state == "running")
    second, third = (engine.submit(request(packed, steps=1), client) for client in "bc")
    assert third.position == 2
    second.cancel()
    assert second.ended and third.position == 1
    first.cancel()
    assert len(third.result()) == 1


def test_queue_and_share_are_bounded_and_say_when(engine, packed) -> None:
    engine.submit(request(packed, steps=2), "x").result()
    jobs = [engine.submit(request(packed, steps=40 - number), "a") for number in range(LIMITS.per_client)]
    with pytest.raises(BusyError, match=r"one client may have; this one would be number \d") as refused:
        engine.submit(request(packed), "a")
    assert refused.value.position in (4, 5)
    wait_for(lambda: jobs[0].state == "running")
    jobs += [engine.submit(request(packed, steps=30 - number), f"b{number}") for number in range(3)]
    with pytest.raises(BusyError, match=r"full.* number 7 of at most 6, about \d+ s") as refused:
        engine.submit(request(packed), "c")
    assert refused.value.position == LIMITS.waiting + 1 and refused.value.seconds > 1
    for job in jobs:
        job.cancel()
    wait_for(lambda: engine.waiting()[0] == 0)


def test_the_time_told_is_about_the_time_it_takes(engine, packed) -> None:
    for _ in range(2):
        engine.submit(request(packed, steps=3), "a").result()
    jobs = [engine.submit(request(packed, steps=steps), "a") for steps in (2, 3, 4)]
    began = time.monotonic()
    told = [event.seconds for _, event in jobs[-1].since(0) if isinstance(event, Queued)][-1]
    wait_for(lambda: jobs[-1].state == "running", 60)
    taken = time.monotonic() - began
    assert told / 3 < taken < told * 3
    assert jobs[-1].result()


def test_a_picture_is_the_same_alone_and_among_others(engine, packed) -> None:
    alone = engine.submit(request(packed, seed=5), "a").result()[0].image.tobytes()
    others = [engine.submit(request(packed, seed=4, count=2), "b"), engine.submit(request(packed, seed=5), "c")]
    pictures = [one for job in others for one in job.result()]
    assert [one.image.tobytes() for one in pictures if one.seed == 5] == [alone, alone]


def test_requests_that_fit_are_made_at_once_with_the_bits_that_each_has_alone(engine, packed) -> None:
    engine.submit(request(packed, steps=1), "a").result()
    before = engine.submit(request(packed, steps=40), "a")
    wait_for(lambda: before.state == "running")
    asked = [
        ("b", {"seed": 11, "prompt": "a red house"}),
        ("c", {"seed": 5, "prompt": "a tree at night", "guidance": 4.0, "negative_prompt": "snow", "count": 2}),
        ("d", {"seed": 900, "prompt": "", "layers": [{"condition": "canny", "picture": mq.diorama.scene(9).image,
                                                      "weight": [0.1 * slot for slot in range(13)]}]}),
    ]  # fmt: skip
    jobs = [engine.submit(request(packed, steps=4, **own), client) for client, own in asked]
    other = engine.submit(request(packed, steps=5), "e")
    told = [[event.seconds for _, event in job.since(0) if isinstance(event, Queued)][-1] for job in (*jobs, other)]
    assert told[0] == told[1] == told[2] < told[3], "they wait for the same, and the other for them"
    before.cancel()
    wait_for(lambda: jobs[0].state != "queued")
    assert [job.state for job in jobs] == ["running"] * 3 and other.state == "queued"
    for job in jobs:
        for made in job.result():
            (expected,) = mq.generate(
                engine.studio.base, job.request.prompt, controls_of(job.request, engine.studio, engine.nets,
                engine.detectors.open), steps=4, seed=made.seed, guidance=job.request.guidance,
                negative_prompt=job.request.negative_prompt,
            )  # fmt: skip
            assert made.image.tobytes() == expected.tobytes()
            assert made.image.info == expected.info, "its record tells of nobody else"
    assert other.result()


def test_one_of_several_is_cancelled_and_the_others_are_told_nothing_of_it(engine, packed) -> None:
    before = engine.submit(request(packed, steps=40), "a")
    wait_for(lambda: before.state == "running")
    long = ("many words " * 60).strip()
    first, second = (engine.submit(request(packed, steps=9, prompt=text), "b") for text in (long, "a house"))
    before.cancel()
    for event in second.events():
        if isinstance(event, Progress):
            first.cancel()
    assert first.state == "cancelled" and second.state == "finished"
    assert any("many words" in note for note in first.notes) and not second.notes


def test_several_listeners_hear_the_same_end(engine, packed) -> None:
    job, heard = engine.submit(request(packed), "a"), []
    threads = [threading.Thread(target=lambda: heard.append(list(job.events()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(events[-1] == Ended("finished") and isinstance(events[-2], Finished) for events in heard)


def test_a_failure_is_told_and_the_next_request_is_carried_out(engine, packed, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret details")

    with monkeypatch.context() as patch:
        patch.setattr(engine.studio, "net", broken)
        with pytest.raises(MaquetteError, match=r"went wrong inside \(RuntimeError\)") as told:
            engine.submit(request(packed), "a").result()
    assert "secret" not in str(told.value)
    assert engine.submit(request(packed, steps=1), "a").result()


def test_a_request_that_failed_makes_no_more_pictures(engine, packed, monkeypatch) -> None:
    """One of two that are made at once fails when the other is past its start: neither it nor later ones are kept."""
    whole, asked = Making._fidelity, []

    def scarce(self, image):
        asked.append(image)
        if len(asked) == 1:
            raise RuntimeError("not enough memory: you tried to allocate 8 GiB")
        return whole(self, image)

    monkeypatch.setattr(Making, "_fidelity", scarce)
    monkeypatch.setattr("maquette.studio.engine.at_once", lambda *_: 2)
    session = engine.gallery.create()
    job = engine.submit(request(packed, count=4, steps=2), "a", session)
    with pytest.raises(MaquetteError, match="not enough memory"):
        job.result()
    kept = len(session.pictures())
    assert engine.submit(request(packed, steps=1), "b").result()
    assert job.state == "failed" and len(session.pictures()) == kept <= 2 and len(asked) <= 3


def test_warnings_of_others_are_no_notes(engine, packed) -> None:
    """The page warns in threads of its own while pictures are made."""
    job = engine.submit(request(packed, steps=20), "a")
    for event in job.events():
        if isinstance(event, Progress):
            with pytest.warns(MaquetteWarning, match="of somebody else"):
                warnings.warn("of somebody else", MaquetteWarning, stacklevel=1)
    assert job.state == "finished" and not job.notes


def test_a_picture_that_cannot_be_kept_is_shown_all_the_same(engine, packed, monkeypatch) -> None:
    session = engine.gallery.create()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("maquette.studio.gallery.save", full)
    job = engine.submit(request(packed, steps=1), "a", session)
    assert job.result()[0].name is None and session.pictures() == []
    assert any(isinstance(event, Note) and "No space left" in event.sentence for event in job.events())


def test_a_burst_of_forty_is_answered_or_refused_each_with_its_own_picture(engine) -> None:
    jobs, refused = {}, {}
    lock = threading.Lock()

    def ask(seed: int) -> None:
        try:
            job = engine.submit({"prompt": "a red house", "seed": seed, "steps": 1}, f"client {seed % 20}")
        except BusyError as error:
            with lock:
                refused[seed] = error
        else:
            with lock:
                jobs[seed] = job

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs) + len(refused) == 40 and len(jobs) >= LIMITS.waiting
    assert all(error.position > 0 and f"number {error.position}" in str(error) for error in refused.values())
    for seed, job in jobs.items():
        (one,) = job.result()
        (expected,) = mq.generate(engine.studio.base, "a red house", steps=1, seed=seed)
        assert one.seed == seed and one.image.tobytes() == expected.tobytes()


def test_closing_finishes_what_is_being_made_and_refuses_the_rest(packed, tmp_path) -> None:
    engine = Engine(device="cpu", limits=Limits(), gallery=Gallery(tmp_path))
    running, waiting = (engine.submit(request(packed, steps=steps), "a") for steps in (4, 5))
    wait_for(lambda: running.state == "running")
    engine.close()
    assert len(running.result()) == 1
    for refusal in (waiting.result, lambda: engine.submit(request(packed), "c")):
        with pytest.raises(MaquetteError, match="The studio is stopping"):
            refusal()
    with pytest.raises(StoppingError):
        engine.submit(request(packed))


def test_what_is_offered() -> None:
    nets = offered("org/base", ["canny=org/net", "runs/depth"])
    assert nets == {"org/net": "canny", "runs/depth": "depth"}
    assert offered("diorama", ["canny=runs/mine"])["diorama/canny"] == "canny"
    assert next(iter(offered("diorama", ["canny=runs/mine"]))) == "runs/mine"


def test_a_union_is_told_the_kind_of_its_condition(packed, tmp_path) -> None:
    base = tiny_base("sdxl")
    save_base(base, tmp_path / "base")
    published_union(base.backbone.unet).save_pretrained(tmp_path / "union")
    nets = [f"canny={tmp_path / 'union'}"]
    union = Engine(str(tmp_path / "base"), "cpu", LIMITS, nets=nets, dtype="float32")
    try:
        asked = request(packed, steps=1, size=[64, 64], prompt="a b")
        (made,) = union.submit(asked, "a").result()
        (other,) = union.submit({**asked, "layers": []}, "a").result()
    finally:
        union.close()
    assert '"type": "canny"' in made.image.info[KEY] and made.image.tobytes() != other.image.tobytes()
