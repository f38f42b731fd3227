"""The addresses of sd-webui and its ControlNet extension, with the payloads that their clients send."""

import json

import pytest
from tests.unit.studio.conftest import unpack

import maquette as mq

UNIT = {
    "control_mode": 0, "enabled": True, "guidance_end": 1, "guidance_start": 0, "pixel_perfect": True,
    "processor_res": 512, "resize_mode": 1, "threshold_a": 64, "threshold_b": 128, "weight": 1, "module": "canny",
    "model": "diorama/canny [d14c016b]",
}  # fmt: skip
PAYLOAD = {
    "batch_size": 1, "cfg_scale": 4, "comments": {}, "enable_hr": False, "height": 128, "hr_upscaler": "Latent",
    "n_iter": 2, "negative_prompt": "", "override_settings": {}, "prompt": "a red house", "restore_faces": False,
    "sampler_name": "Euler", "seed": 42, "steps": 3, "subseed": -1, "tiling": False, "width": 128,
}  # fmt: skip


def payload(packed: str, *units: dict, **changes) -> dict:
    args = [{**UNIT, "image": packed, **unit} for unit in units or ({},)]
    return {**PAYLOAD, "alwayson_scripts": {"ControlNet": {"args": args}}, **changes}


def test_lists(client) -> None:
    assert client.get("/controlnet/version").json() == {"version": 3}
    models = client.get("/controlnet/model_list?update=true").json()["model_list"]
    assert "diorama/canny" in models
    modules = client.get("/controlnet/module_list?alias_names=false").json()
    assert {"none", "canny"} <= set(modules["module_list"]) and "sliders" in modules["module_detail"]["canny"]
    assert client.get("/controlnet/settings").json() == {"control_net_unit_count": 3}
    types = client.get("/controlnet/control_types").json()["control_types"]
    assert {"All", "Canny", "Depth", "OpenPose", "NormalMap", "Segmentation", "Scribble"} <= set(types)
    assert types["Depth"] == {
        "module_list": ["none", "diorama/depth"],
        "model_list": ["diorama/depth"],
        "default_option": "diorama/depth",
        "default_model": "diorama/depth",
    }


def test_detect(client, picture, packed) -> None:
    values = {
        "controlnet_module": "canny", "controlnet_input_images": [packed, packed], "controlnet_processor_res": -1,
        "controlnet_threshold_a": 64, "controlnet_threshold_b": 128,
    }  # fmt: skip
    told = client.post("/controlnet/detect", json=values).json()
    assert told["info"] == "Success" and len(told["images"]) == 2
    assert unpack(told["images"][0]).tobytes() == mq.detect("canny", picture, low=64, high=128).tobytes()
    for changes in ({"controlnet_module": "nonsense"}, {"controlnet_input_images": []}):
        told = client.post("/controlnet/detect", json={**values, **changes})
        assert told.status_code == 422 and told.json()["detail"]


def test_txt2img_is_generate(client, engine, picture, packed) -> None:
    told = client.post("/sdapi/v1/txt2img", json=payload(packed)).json()
    info = json.loads(told["info"])
    assert info["all_seeds"] == [42, 43] and len(told["images"]) == 3 and told["parameters"]["steps"] == 3
    edges = mq.detect("canny", picture, low=64, high=128)
    control = mq.Control(engine.studio.net("diorama/canny"), edges)
    expected = mq.generate(
        engine.studio.base, "a red house", [control],
        steps=3, guidance=4, sampler="euler", seed=42, count=2, batch_size=1,
    )  # fmt: skip
    assert [unpack(one).tobytes() for one in told["images"]] == [one.tobytes() for one in (*expected, edges)]


def test_what_has_no_counterpart_is_said(client, packed) -> None:
    unit = {"hr_option": "Both", "ipadapter_input": "gASVCAAA", "control_mode": "ControlNet is more important"}
    values = payload(packed, unit, n_iter=1, enable_hr=True, alwayson_scripts_extra=1)
    values["alwayson_scripts"]["ADetailer"] = {"args": []}
    info = json.loads(client.post("/sdapi/v1/txt2img", json=values).json()["info"])
    said = " ".join(info["notes"])
    for words in ("'enable_hr'", "'hr_option' of unit 1", "'ipadapter_input' of unit 1", "'ADetailer'"):
        assert f"{words} has no counterpart here and was left out." in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"sampler_name": "LMS"}, "sampler_name 'LMS'"), ({"width": 100}, "multiples of 64"), ({"steps": 1000}, "steps")],
)
def test_what_cannot_be_done_is_told_as_the_web_ui_does(client, packed, changes, words) -> None:
    told = client.post("/sdapi/v1/txt2img", json=payload(packed, **changes))
    assert told.status_code == 422 and words in told.json()["detail"]


def test_units_that_are_off_and_maps_as_they_are(client, engine, picture, packed) -> None:
    units = {"module": "none", "model": "diorama/depth", "weight": 0.5, "guidance_end": 0.6, "save_detected_map": False}
    told = client.post("/sdapi/v1/txt2img", json=payload(packed, units, {"enabled": False}, n_iter=1)).json()
    control = mq.Control(engine.studio.net("diorama/depth"), picture, 0.5, end=0.6)
    (expected,) = mq.generate(
        engine.studio.base, "a red house", [control], steps=3, guidance=4, sampler="euler", seed=42
    )
    assert [unpack(one).tobytes() for one in told["images"]] == [expected.tobytes()]
