"""Addresses of sd-webui and its ControlNet extension, answered where they have a counterpart here.

What a request holds beyond that is told in a sentence of the answer's `info`, not dropped silently.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from maquette.conditions.registry import detectors
from maquette.errors import MaquetteError
from maquette.foundation.settings import problem
from maquette.noise.choices import SAMPLERS
from maquette.sampling.metadata import Record, record_of
from maquette.studio.engine import Engine
from maquette.studio.http.catalogue import is_here
from maquette.studio.http.wire import client_of, ended, read_values, refusal, text_of
from maquette.studio.jobs import BusyError, Finished
from maquette.studio.pictures import Picture

VERSION = 3  # of the extension's interface
NONE = ("none", "None", "", None)
MODULES = {
    "openpose": "pose", "openpose_full": "pose", "depth_midas": "depth", "normal_midas": "normal",
    "softedge_hed": "hed", "scribble_xdog": "xdog", "lineart_realistic": "lineart", "lineart_anime": "lineart_anime",
    "seg_ofade20k": "segmentation", "mlsd": "mlsd", "canny": "canny",
}  # fmt: skip
"""The extension's names of detectors; ours are known too."""

TYPES = {
    "canny": "Canny", "depth": "Depth", "normal": "NormalMap", "pose": "OpenPose", "mlsd": "MLSD", "lineart": "Lineart",
    "softedge": "SoftEdge", "scribble": "Scribble", "segmentation": "Segmentation",
}  # fmt: skip
NAMES_OF_SAMPLERS = {
    "euler a": "euler-ancestral", "dpm++ 2m": "dpm++", "dpm++ 2m karras": "dpm++-karras",
    **{name: name for name in SAMPLERS},
}  # fmt: skip
BALANCES = {
    "balanced": "balanced", "my prompt is more important": "prompt", "controlnet is more important": "control",
    "0": "balanced", "1": "prompt", "2": "control",
}  # fmt: skip
FITS = {
    "just resize": "stretch", "crop and resize": "cut", "resize and fill": "pad",
    "scale to fit (inner fit)": "cut", "inner fit (scale to fit)": "cut", "envelope (outer fit)": "pad",
    "outer fit (shrink to fit)": "pad", "0": "stretch", "1": "cut", "2": "pad",
}  # fmt: skip
USED = {
    "prompt", "negative_prompt", "steps", "cfg_scale", "width", "height", "seed", "batch_size", "n_iter",
    "sampler_name", "sampler_index", "scheduler", "alwayson_scripts",
}  # fmt: skip
USED_OF_UNIT = {
    "enabled", "module", "model", "image", "input_image", "weight", "guidance_start", "guidance_end", "guidance",
    "control_mode", "resize_mode", "threshold_a", "threshold_b", "advanced_weighting", "effective_region_mask",
    "save_detected_map",
}  # fmt: skip
NOTHING: tuple[Any, ...] = (None, False, 0, -1, "", [], {}, "None")


class Translation:
    """A request of the web UI in the studio's words, and what has none."""

    def __init__(self, values: Any, engine: Engine) -> None:
        """Raises `MaquetteError` for what cannot be understood."""
        if not isinstance(values, dict):
            raise MaquetteError("The body is an object, as for sd-webui's /sdapi/v1/txt2img.")
        self.notes: list[str] = []
        self._engine, self._options_of = engine, {"canny": ("low", "high")}
        self._ignore(values, USED, "")
        units = [unit for unit in self._units(values) if unit.get("enabled", True)]
        fits = dict.fromkeys(_named(FITS, unit.get("resize_mode", 1), "resize_mode") for unit in units)
        if len(fits) > 1:
            self.notes.append(f"All units get the resize mode of the first here: {next(iter(fits))}.")
        self.maps = [number for number, unit in enumerate(units) if unit.get("save_detected_map", True)]
        self.request = {
            "prompt": values.get("prompt", ""),
            "negative_prompt": values.get("negative_prompt", ""),
            "steps": values.get("steps"),
            "guidance": values.get("cfg_scale"),
            "size": [values.get("width", 512), values.get("height", 512)],
            "seed": secrets.randbelow(2**31) if values.get("seed", -1) in (-1, None) else values["seed"],
            "count": _count(values),
            "sampler": self._sampler(values),
            "fit": next(iter(fits), "cut"),
            "layers": [self._layer(unit, number) for number, unit in enumerate(units, 1)],
        }

    def _ignore(self, values: Mapping[str, Any], used: set[str], where: str) -> None:
        self.notes += [
            f"{name!r}{where} has no counterpart here and was left out."
            for name, value in values.items()
            if name not in used and value not in NOTHING
        ]

    def _units(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        scripts = values.get("alwayson_scripts") or {}
        if not isinstance(scripts, dict):
            raise MaquetteError("alwayson_scripts is an object with scripts by name.")
        found: list[Any] = []
        for name, script in scripts.items():
            if name.lower() == "controlnet" and isinstance(script, dict) and isinstance(script.get("args"), list):
                found += script["args"]
            else:
                self.notes.append(f"The script {name!r} has no counterpart here and was left out.")
        if not all(isinstance(unit, dict) for unit in found):
            raise MaquetteError("alwayson_scripts.controlnet.args is a list of units, each an object.")
        return found

    def _sampler(self, values: Mapping[str, Any]) -> str | None:
        name = values.get("sampler_name") or values.get("sampler_index")
        if name is None:
            return None
        scheduler = str(values.get("scheduler") or "automatic").lower()
        full = f"{name} {scheduler}" if scheduler == "karras" else str(name)
        if scheduler not in ("automatic", "karras"):
            self.notes.append(f"The scheduler {scheduler!r} has no counterpart here and was left out.")
        return _named(NAMES_OF_SAMPLERS, full, "sampler_name")

    def _layer(self, unit: dict[str, Any], number: int) -> dict[str, Any]:
        self._ignore(unit, USED_OF_UNIT, f" of unit {number}")
        model = str(unit.get("model") or "None").partition(" [")[0]
        if model not in self._engine.nets:
            raise MaquetteError(
                f"There is no model {model!r}; /controlnet/model_list lists them: {', '.join(self._engine.nets)}."
            )
        module, image = unit.get("module", "none"), unit.get("image", unit.get("input_image"))
        if isinstance(image, dict):
            self._ignore(image, {"image"}, f" in the image of unit {number}")
            image = image.get("image")
        is_map = module in NONE
        condition = self._engine.nets[model] if is_map else MODULES.get(str(module), str(module))
        layer = {
            "condition": condition,
            "net": model,
            "picture": image,
            "is_map": is_map,
            "weight": unit.get("advanced_weighting") or unit.get("weight", 1.0),
            "start": unit.get("guidance_start", 0.0),
            "end": unit.get("guidance_end", unit.get("guidance", 1.0)),
            "balance": _named(BALANCES, unit.get("control_mode", 0), "control_mode"),
            "mask": unit.get("effective_region_mask"),
            "options": {} if is_map else self.thresholds(condition, unit.get("threshold_a"), unit.get("threshold_b")),
        }
        return {name: value for name, value in layer.items() if value is not None}

    def thresholds(self, condition: str, *values: Any) -> dict[str, Any]:
        """The detector's options that the two thresholds stand for."""
        names = self._options_of.get(condition, ())
        given = [value for value in values if value is not None and value != -1]  # -1: as the detector has it
        known = [float(value) for value in given if problem(value, float) is None and value > 0]
        if known and len(known) == len(names):
            return dict(zip(names, known, strict=True))
        if given:
            needed = f"takes {len(names)} above 0" if names else "has no counterpart for them"
            self.notes.append(f"The thresholds {given} were left out: {condition!r} {needed}.")
        return {}


def router(engine: Engine) -> APIRouter:
    """The addresses under /controlnet and /sdapi."""
    routes = APIRouter()
    _add_lists(routes, engine)
    _add_making(routes, engine)
    return routes


def _add_lists(routes: APIRouter, engine: Engine) -> None:
    @routes.get("/controlnet/version", summary="The version of the extension's interface that is followed")
    def version() -> dict[str, int]:
        return {"version": VERSION}

    @routes.get("/controlnet/model_list", summary="The ControlNets")
    def models() -> dict[str, list[str]]:
        return {"model_list": list(engine.nets)}

    @routes.get("/controlnet/module_list", summary="The detectors")
    def modules() -> dict[str, Any]:
        return {"module_list": ["none", *_modules()], "module_detail": {name: _detail(name) for name in _modules()}}

    @routes.get("/controlnet/settings", summary="How many units a request may have")
    def settings() -> dict[str, int]:
        return {"control_net_unit_count": engine.limits.layers}

    @routes.get("/controlnet/control_types", summary="Detectors and ControlNets of each condition")
    def types() -> dict[str, Any]:
        found = {"All": _type(["none", *_modules()], list(engine.nets))}
        for condition in dict.fromkeys(engine.nets.values()):
            own = [name for name in _modules() if name.rsplit("/")[-1] == condition]
            nets = [net for net, of in engine.nets.items() if of == condition]
            found[TYPES.get(condition, condition)] = _type(["none", *own], nets)
        return {"control_types": found}


def _add_making(routes: APIRouter, engine: Engine) -> None:
    @routes.post("/controlnet/detect", summary="Condition maps of pictures")
    async def detect(request: Request) -> Any:
        values = await read_values(request)
        return await _told(run_in_threadpool(detected, values))

    def detected(values: Any) -> dict[str, Any]:
        values = values if isinstance(values, dict) else {}
        given, module = values.get("controlnet_input_images"), str(values.get("controlnet_module", "none"))
        if not isinstance(given, list) or not 0 < len(given) <= engine.limits.count:
            raise MaquetteError(f"controlnet_input_images is a list of 1 to {engine.limits.count} images in base64.")
        condition, translation = MODULES.get(module, module), Translation({}, engine)
        options = translation.thresholds(condition, *(values.get(f"controlnet_threshold_{one}") for one in "ab"))
        pictures = [Picture.read(one, engine.limits.picture_bytes) for one in given]
        for picture in pictures:
            picture.size(engine.limits.picture_pixels)
        with engine.detectors.room():
            maps = [engine.detectors.detect(condition, picture.image(), options) for picture in pictures]
        if any(isinstance(one, str) for one in maps):
            raise MaquetteError(f"{module} writes text, which is not a condition map.")
        if values.get("controlnet_processor_res", -1) not in NOTHING:
            translation.notes.append("Maps have the pictures' own size; controlnet_processor_res was left out.")
        info = " ".join(["Success", *translation.notes])
        return {"images": [text_of(one) for one in maps if not isinstance(one, str)], "info": info}

    @routes.post("/sdapi/v1/txt2img", summary="Make pictures as sd-webui does")
    async def txt2img(request: Request) -> Any:
        values = await read_values(request)
        return await _told(made(values, request))

    async def made(values: Any, request: Request) -> dict[str, Any]:
        translation = await run_in_threadpool(Translation, values, engine)
        job = await run_in_threadpool(engine.submit, translation.request, client_of(request))
        await ended(job, request)
        notes = [*translation.notes, *job.notes]
        return await run_in_threadpool(_answer, values, translation, job.result(), notes)


async def _told(answer: Any) -> Any:
    """An answer, or what is wrong as the web UI says it: {"detail": sentence}. Raises `HTTPException`."""
    try:
        return await answer
    except BusyError as error:
        return refusal(error)
    except MaquetteError as error:
        where = f" ({error.field})" if error.field else ""
        raise HTTPException(422, f"{error}{where}") from error


def _answer(
    values: Mapping[str, Any], translation: Translation, pictures: Sequence[Finished], notes: Sequence[str]
) -> dict[str, Any]:
    records = [record_of(one.image) for one in pictures]
    first = records[0]
    assert isinstance(first, Record), "every picture that is made has a record"
    info = {
        "prompt": first.prompt,
        "negative_prompt": first.settings["negative_prompt"],
        "seed": pictures[0].seed,
        "all_seeds": [one.seed for one in pictures],
        "all_prompts": [one.prompt for one in pictures],
        "width": first.settings["size"][0],
        "height": first.settings["size"][1],
        "sampler_name": first.settings["sampler"],
        "cfg_scale": first.settings["guidance"],
        "steps": first.settings["steps"],
        "batch_size": len(pictures),
        "index_of_first_image": 0,
        "notes": list(notes),
    }
    maps = [first.controls[number].map for number in translation.maps]
    return {
        "images": [*(text_of(one.image) for one in pictures), *maps],
        "parameters": values,
        "info": json.dumps(info),
    }


def _count(values: Mapping[str, Any]) -> Any:
    numbers = values.get("batch_size", 1), values.get("n_iter", 1)
    if not all(isinstance(number, int) and 0 < number < 1000 for number in numbers):
        raise MaquetteError(f"batch_size and n_iter are whole numbers from 1, not {numbers[0]!r} and {numbers[1]!r}.")
    return numbers[0] * numbers[1]


def _named(known: Mapping[str, str], value: Any, field: str) -> str:
    found = known.get(str(value).lower())
    if found is None:
        raise MaquetteError(f"{field} {str(value)[:80]!r} has no counterpart here; known are {', '.join(known)}.")
    return found


def _modules() -> list[str]:
    """Detectors that draw maps and work without a download."""
    return [name for name in detectors if is_here(detectors[name]) and not detectors[name].outputs_text]


def _detail(name: str) -> dict[str, Any]:
    options = detectors[name].options.described()
    sliders = [{"name": option.name, "value": option.default} for option in options if option.name != "seed"]
    return {"model_free": False, "sliders": sliders}


def _type(modules: list[str], models: list[str]) -> dict[str, Any]:
    return {
        "module_list": modules,
        "model_list": models,
        "default_option": modules[-1] if len(modules) == 2 else "none",
        "default_model": models[0] if models else "None",
    }
