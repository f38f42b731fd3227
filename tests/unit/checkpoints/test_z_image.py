"""Z-Image's files, new ControlNets on it, its text, and what is wrong in one sentence."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import randomise
from tests.own_pairs import write_pairs
from tests.tiny_zimage import FORMS, published, tiny_transformer, tiny_zimage

import maquette as mq
from maquette.backbones.transformers.zimage import ZImageBackbone
from maquette.checkpoints.controlnets import read_controlnet
from maquette.checkpoints.convert import convert, largest_difference, transfer
from maquette.checkpoints.info import info
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats.transformers import zimage


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("base")
    save_base(tiny_zimage(), path)
    return path


def own(net) -> dict[str, torch.Tensor]:
    """Tensors of diffusers' ControlNet, without the base's."""
    return {name: value for name, value in net.state_dict().items() if name.startswith("control_")}


def original(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A base's tensors as ComfyUI's files have them."""
    found = {}
    for name, value in state.items():
        for ours, theirs in ((".to_out.0.", ".out."), (".norm_q.", ".q_norm."), (".norm_k.", ".k_norm.")):
            name = name.replace(ours, theirs)
        for part in ("x_embedder", "final_layer"):
            name = name.replace(f"all_{part}.2-1.", f"{part}.")
        found[f"model.diffusion_model.{name}"] = value
    for name in [name for name in found if name.endswith(".to_q.weight")]:
        stem = name.removesuffix("to_q.weight")
        found[f"{stem}qkv.weight"] = torch.cat([found.pop(f"{stem}to_{part}.weight") for part in "qkv"])
    return found


def test_a_transformer_under_its_original_names(tmp_path) -> None:
    base = tiny_zimage()
    save_base(base, tmp_path)
    (path,) = (tmp_path / "transformer").glob("*.safetensors")
    renamed = original(load_file(path))
    assert "model.diffusion_model.layers.0.attention.qkv.weight" in renamed
    save_file({**renamed, "model.diffusion_model.norm_final.weight": torch.ones(32)}, path)
    loaded = mq.load_base(tmp_path).backbone.network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in base.backbone.network.state_dict().items())
    assert "Z-Image, text 40 wide" in info(path)
    assert "4 × 32" in info(tmp_path)
    with pytest.raises(MaquetteError, match="holds Z-Image's transformer alone"):
        mq.load_base(path)


def test_a_language_model_with_its_head(tmp_path) -> None:
    """As published: below "model.", with or without the layer that names words."""
    base = tiny_zimage()
    save_base(base, tmp_path)
    (path,) = (tmp_path / "text_encoder").glob("*.safetensors")
    stored = load_file(path)
    save_file({**{f"model.{name}": value for name, value in stored.items()}, "lm_head.weight": torch.ones(2, 40)}, path)
    loaded = mq.load_base(tmp_path)
    assert torch.equal(loaded.encode_text(["a"]).hidden_states, base.encode_text(["a"]).hidden_states)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_without_config_tells_its_version(form, tmp_path) -> None:
    """By the zero layers of the refiner, which 2.0 holds and does not use."""
    base = tiny_zimage()
    theirs = published(base.backbone.network, form)
    theirs.save_pretrained(tmp_path / "folder")
    stored = own(theirs)
    if form == "2.0":
        unused = own(published(base.backbone.network, "2.1"))
        unused["control_noise_refiner.0.before_proj.weight"].zero_()
        stored |= {name: value for name, value in unused.items() if name.startswith("control_noise_refiner.")}
    save_file(stored, tmp_path / "net.safetensors")
    net = mq.load_controlnet(tmp_path / "net.safetensors", base)
    assert net.control.design == mq.load_controlnet(tmp_path / "folder", base).control.design
    assert all(torch.equal(net.published()[name], value) for name, value in own(theirs).items())
    channels = FORMS[form]["control_in_dim"]
    told = info(tmp_path / "net.safetensors")
    assert f"Z-Image, condition of {channels} channels" in told
    assert ("adds to the refiner" in told) == (form != "1.0")
    with pytest.raises(MaquetteError, match="32 wide, and how it sits on a base"):
        convert(tmp_path / "net.safetensors", tmp_path / "other", "diffusers")


def test_to_a_single_file_and_back(folder, tmp_path) -> None:
    base = tiny_zimage()
    net = randomise(mq.ControlNet.attach(base, blocks=3))
    net.save(tmp_path / "net")
    convert(tmp_path / "net", tmp_path / "net.safetensors", "original")
    assert zimage.holds_control(load_file(tmp_path / "net.safetensors"))
    convert(tmp_path / "net.safetensors", tmp_path / "again", "diffusers")
    assert largest_difference(tmp_path / "net", tmp_path / "again", folder) == 0
    assert json.loads((tmp_path / "again" / "config.json").read_text())["control_layers_places"] == [0, 1, 2]


def test_what_a_file_of_the_published_width_tells() -> None:
    """Without a tensor's values, but for one."""
    from maquette.foundation.weights import Weights

    shapes = {"control_all_x_embedder.2-1.weight": (3840, 132), "control_layers.0.attention.to_q.weight": (1, 1)}
    shapes |= {f"control_layers.{number}.x": (1,) for number in range(3)}
    shapes |= {f"control_noise_refiner.{number}.before_proj.weight": (1,) for number in range(2)}
    told = zimage.full_config(Weights(Path("x"), shapes, lambda name: torch.ones(shapes[name]), {}))
    assert told["control_layers_places"] == [0, 10, 20]
    assert told["control_refiner_layers_places"] == [0, 1]
    assert told["add_control_noise_refiner"] == "control_noise_refiner"
    assert (told["control_in_dim"], told["n_heads"]) == (33, 30)


def test_the_condition_enters_by_zero_layers_of_the_copy() -> None:
    """The layer that makes tokens of it is Gaussian, since two zero layers in a row would never learn."""
    base = tiny_zimage()
    net = mq.ControlNet.attach(base)
    assert net.condition_encoder.conv_out.weight.std() > 0.1
    assert not any(bool(value.any()) for layer in net.trainable_copy.entries for value in layer.parameters())
    assert not any(bool(value.any()) for value in net.zero_convs.parameters())
    gaussian = mq.ControlNet.attach(base, variant="gaussian")
    assert all(bool(layer.weight.any()) for layer in (*gaussian.trainable_copy.entries, *gaussian.zero_convs))
    assert not any(name.startswith("trainable_copy.runs") for name in net.state_dict())


def test_a_picture_to_paint_in(tmp_path) -> None:
    """Of a net of 2 C + 1 channels: what is kept, and the picture's latents, grey where it is painted."""
    base = tiny_zimage()
    published(base.backbone.network, "2.1").save_pretrained(tmp_path)
    net = mq.load_controlnet(tmp_path, base)
    picture = torch.rand(2, 3, 32, 32)
    picture[1, :, 8:24, :16] = -1
    given = net.condition_input(picture, base.encode_maps)
    assert given.shape == (2, 9, 4, 4)
    assert torch.allclose(given[0, :4], base.encode_maps(picture[:1])[0], atol=1e-5)
    assert not given[0, 4:].any()
    assert not given[1, :4].any()
    assert given[1, 4].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]]
    grey = picture[1:].masked_fill(picture[1:] < 0, 0.5)
    assert torch.allclose(given[1, 5:], base.encode_maps(grey)[0], atol=1e-5)
    plain = net.condition_input(picture[:1], base.encode_maps)
    assert torch.allclose(net.encode(plain), net.encode(given[:1]), atol=1e-5)


@pytest.mark.parametrize("form", ["2.0", "2.1"])
def test_a_net_that_may_paint_in_is_trained_further(form, tmp_path) -> None:
    base = tiny_zimage()
    published(base.backbone.network, form).save_pretrained(tmp_path / "net")
    write_pairs(tmp_path / "pairs")
    settings = {
        "condition": "rings", "data": tmp_path / "pairs", "output": tmp_path / "run", "size": 64, "max_steps": 2,
        "batch_size": 2, "evaluate_every": 0, "precision": "float32", "cache_folder": tmp_path / "cache",
        "learning_rate": 1e-3, "warmup": 1, "start_from": str(tmp_path / "net"),
    }  # fmt: skip
    run = mq.train(mq.TrainingConfig(**settings), base)
    trained = mq.load_controlnet(run, base)
    start = mq.load_controlnet(tmp_path / "net", base).published()
    moved = {name for name, value in trained.published().items() if not torch.equal(value, start[name])}
    assert {"control_layers.0.after_proj.weight", "control_layers.0.before_proj.weight"} <= moved
    assert trained.control.design == mq.load_controlnet(tmp_path / "net", base).control.design


def test_a_net_that_was_loaded_for_another_base_is_refused() -> None:
    """It would embed the image and the text by weights that the images do not come from."""
    net = mq.ControlNet.attach(tiny_zimage(seed=1))
    with pytest.raises(MaquetteError, match="runs parts of its base, and was loaded for another than 'tiny-z-image'"):
        mq.generate(tiny_zimage(), "a", mq.Control(net, torch.rand(1, 3, 64, 64)), steps=1)


def test_text_is_cut_where_the_template_begins_to_be() -> None:
    base = tiny_zimage()
    text = base.encode_text(["b", "a red house"])
    assert text.mask is not None
    with pytest.warns(MaquetteWarning, match=r"takes 509; cut off: 'bbbbb'"):
        long = base.encode_text(["a" * 509 + "b" * 5])
    assert long.hidden_states.shape[1] == 512


def test_what_does_not_fit_is_said_in_one_sentence(folder, tmp_path) -> None:
    network = tiny_transformer()
    backbone = ZImageBackbone(network)
    with pytest.raises(MaquetteError, match="holds no ControlNet for Z-Image"):
        mq.load_controlnet("diorama/canny", tiny_zimage())
    published(network, "2.1").save_pretrained(tmp_path / "net")
    with pytest.raises(MaquetteError, match="is made for Z-Image, a transformer"):
        mq.load_controlnet(tmp_path / "net", mq.load_base("diorama", device="cpu"))
    with pytest.raises(MaquetteError, match="is made for another Z-Image"):
        read_controlnet(tmp_path / "net", ZImageBackbone(tiny_transformer(n_heads=1, dim=16, n_kv_heads=1)))
    with pytest.raises(MaquetteError, match="stands beside its base"):
        transfer(tmp_path / "net", folder, folder, tmp_path / "moved")
    of = {"_class_name": "ZImageControlNetModel", "control_layers_places": [0, 2], "control_in_dim": 4}
    for wrong, words in (
        ({"control_layers_places": [0, 4]}, "ascending from 0 to at most 3"),
        ({"control_layers_places": [1, 2]}, "have places in the base"),
        ({"control_in_dim": 5}, "a condition of 4 channels, or of 9"),
        ({"add_control_noise_refiner": "x"}, "every block of the base's refiner or to none"),
        ({"add_control_noise_refiner": "control_layers", "control_refiner_layers_places": [1]}, "or to none"),
    ):
        with pytest.raises(MaquetteError, match=words):
            backbone.control({**of, **wrong})
    with pytest.raises(MaquetteError, match="1 to 4 blocks can be copied, not 5"):
        backbone.control({"num_layers": 5})
    with pytest.raises(MaquetteError, match="takes images beside the latents"):
        ZImageBackbone(tiny_transformer(siglip_feat_dim=8))
    text = tiny_zimage().encode_text(["a"])
    with pytest.raises(MaquetteError, match="multiples of 16 pixels, not 24×16"):
        backbone.prepare(torch.zeros(1, 4, 2, 3), 1, text)
    with pytest.raises(MaquetteError, match="images of up to 512×512 pixels, not 528×16"):
        backbone.prepare(torch.zeros(1, 4, 2, 66), 1, text)
    with pytest.raises(MaquetteError, match="texts of up to 608 tokens"):
        backbone.prepare(torch.zeros(1, 4, 2, 2), 1, torch.zeros(1, 620, 40))


def test_another_schedule(tmp_path) -> None:
    save_base(tiny_zimage(), tmp_path)
    schedule = tmp_path / "scheduler" / "scheduler_config.json"
    schedule.write_text(json.dumps({"_class_name": "DDIMScheduler"}))
    with pytest.raises(MaquetteError, match="its scheduler is a DDIMScheduler"):
        mq.load_base(tmp_path)
