"""Initial weights: loaded whole or refused with a sentence; never silently random."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file

from backbones.base import BackboneFamily, Weights
from backbones.smp_family import SmpFamily
from backbones.timm_family import TimmFamily
from backbones.weights import find_weights, read_state

FAMILIES: list[tuple[BackboneFamily, str]] = [
    (TimmFamily(), "mobilenetv2_035"),
    (SmpFamily(), "tu-mobilenetv2_035"),
]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Weights of a whole timm model, classifier included, as its makers publish them."""
    torch.manual_seed(1)
    state = timm.create_model("mobilenetv2_035").state_dict()
    path = tmp_path / "mobilenetv2_035.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


@pytest.mark.parametrize(("family", "encoder"), FAMILIES, ids=["timm", "smp"])
@pytest.mark.parametrize("source", ["file", "imagenet"])
@pytest.mark.parametrize("stride", [8, 32])
def test_a_file_fills_the_encoder(family: BackboneFamily, encoder: str, source: str, stride: int, whole: Path) -> None:
    torch.manual_seed(2)
    backbone = family.build(encoder, stride, Weights(source, whole))
    given = read_state(whole)
    own = backbone.state_dict()
    stem = next(name for name in own if name.endswith("conv_stem.weight"))
    assert torch.equal(own[stem], given["conv_stem.weight"])
    last = next(name for name in own if name.endswith("blocks.6.0.conv_pwl.weight"))
    assert torch.equal(own[last], given["blocks.6.0.conv_pwl.weight"])


@pytest.mark.parametrize("encoder", ["resnet10t", "convnext_atto"])
def test_encoders_whose_keys_timm_renames(encoder: str, tmp_path: Path) -> None:
    state = timm.create_model(encoder).state_dict()
    path = tmp_path / "w.pth"
    torch.save({"state_dict": state}, path)
    assert TimmFamily().build(encoder, 16, Weights("file", path)).channels


def test_smps_own_encoders_read_their_own_names(tmp_path: Path) -> None:
    torch.manual_seed(3)
    state = dict(SmpFamily().build("resnet18", 32, Weights()).encoder.state_dict())  # type: ignore[union-attr]
    save_file(state | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}, tmp_path / "a.safetensors")
    backbone = SmpFamily().build("resnet18", 8, Weights("file", tmp_path / "a.safetensors"))
    assert torch.equal(backbone.state_dict()["encoder.layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])
    for name in list(state)[:7]:
        state.pop(name)
    save_file(state, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=r"6 of 120 keys are missing, first conv1.weight"):
        SmpFamily().build("resnet18", 8, Weights("file", tmp_path / "b.safetensors"))


@pytest.mark.parametrize(("family", "encoder"), FAMILIES, ids=["timm", "smp"])
def test_missing_keys_are_counted(family: BackboneFamily, encoder: str, whole: Path) -> None:
    state = read_state(whole)
    for name in ("conv_stem.weight", "blocks.2.0.conv_dw.weight"):
        state.pop(name)
    save_file(state, whole.with_name("part.safetensors"))
    with pytest.raises(ValueError, match=r"2 of \d+ keys are missing, first .*conv_stem.weight"):
        family.build(encoder, 16, Weights("file", whole.with_name("part.safetensors")))


@pytest.mark.parametrize(("family", "encoder"), FAMILIES, ids=["timm", "smp"])
def test_another_encoders_file_is_refused(family: BackboneFamily, encoder: str, whole: Path) -> None:
    state = read_state(whole)
    state["blocks.6.1.conv_dw.weight"] = torch.rand(8, 1, 3, 3)
    save_file(state, whole.with_name("deeper.safetensors"))
    with pytest.raises(ValueError, match="another encoder"):
        family.build(encoder, 16, Weights("file", whole.with_name("deeper.safetensors")))
    save_file({name: value[:1].clone() for name, value in read_state(whole).items() if value.ndim}, whole)
    with pytest.raises(ValueError, match="does not fit"):
        family.build(encoder, 16, Weights("file", whole))


@pytest.mark.parametrize(("family", "encoder"), FAMILIES, ids=["timm", "smp"])
def test_files_that_are_no_weights(family: BackboneFamily, encoder: str, tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    (tmp_path / "random.pth").write_bytes(bytes(range(224, 256)) * 300)
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    torch.save(_Unsafe(), tmp_path / "unsafe.pth")
    for name, said in (
        ("none.safetensors", "does not exist"),
        ("broken.safetensors", "cannot be read"),
        ("random.pth", "cannot be read: it is no state dict that torch.save wrote$"),
        ("other.pth", "contains no state dict"),
        ("unsafe.pth", "cannot be read"),
    ):
        with pytest.raises(ValueError, match=f"{name} {said}"):
            family.build(encoder, 16, Weights("file", tmp_path / name))
    with pytest.raises(ValueError, match="no file was named"):
        family.build(encoder, 16, Weights("file"))


class _Unsafe:
    """Loading it would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("family", "encoder"),
    [(TimmFamily(), "resnet18"), (SmpFamily(), "resnet18"), (SmpFamily(), "tu-resnet18")],
    ids=["timm", "smp", "smp-tu"],
)
def test_imagenet_without_a_hub_names_both_remedies(
    family: BackboneFamily, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"weights folder .*weights file") as caught:
        family.build(encoder, 16, Weights("imagenet"))
    assert encoder in str(caught.value)
    assert constants.HF_HUB_OFFLINE is True


def test_an_encoder_without_imagenet_weights_is_no_random_one() -> None:
    name = "test_resnet_without_weights"
    untrained = next(n for n in timm.list_models("resnet*") if not timm.models.is_model_pretrained(n))
    with pytest.raises(ValueError, match="ImageNet weights"):
        TimmFamily().build(untrained, 32, Weights("imagenet"))
    assert TimmFamily().unsupported_reason(name, 32)


def test_weights_are_found_by_the_longest_name(tmp_path: Path) -> None:
    for name in (
        "resnet18d_ra2",
        "resnet18_b",
        "resnet18_a",
        "resnet18.extra",
        "mobilenetv2_100",
        "mobilenetv2_100_in1k",
    ):
        (tmp_path / f"{name}.safetensors").touch()
    (tmp_path / "resnet34.pth").touch()
    assert find_weights(tmp_path, "resnet18") == tmp_path / "resnet18.extra.safetensors"
    assert find_weights(tmp_path, "tu-resnet18d") == tmp_path / "resnet18d_ra2.safetensors"
    assert find_weights(tmp_path, "mobilenetv2_100") == tmp_path / "mobilenetv2_100.safetensors"
    assert find_weights(tmp_path, "resnet34") is None
    assert find_weights(tmp_path, "resnet1") is None
    with pytest.raises(ValueError, match="is not a folder"):
        find_weights(tmp_path / "none", "resnet18")


@pytest.mark.camvid
@pytest.mark.parametrize("number", [0, 1, 2])
def test_real_imagenet_weights_load_in_both_families(number: int) -> None:
    data = os.environ.get("HARNESS_DATA")
    if not data or not (Path(data) / "weights").is_dir():
        pytest.skip("HARNESS_DATA names no folder with weights/")
    name = f"tf_efficientnet_lite{number}"
    file = find_weights(Path(data) / "weights", f"tu-{name}")
    assert file is not None and file == find_weights(Path(data) / "weights", name)
    ours = TimmFamily().build(name, 16, Weights("imagenet", file)).eval()
    theirs = SmpFamily().build(f"tu-{name}", 16, Weights("imagenet", file)).eval()
    assert ours.mean == theirs.mean == (0.5, 0.5, 0.5)
    torch.manual_seed(0)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(ours(images), theirs(images), strict=True):
            assert a.isfinite().all() and torch.equal(a, b)
    with pytest.raises(ValueError):
        TimmFamily().build(f"tf_efficientnet_lite{(number + 1) % 3}", 16, Weights("file", file))


@pytest.mark.parametrize("wrapper", ["state_dict_ema", "model_ema", "ema_state_dict", "ema"])
def test_averages_over_iterations_come_before_the_last_weights(wrapper: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    averaged = {"a.weight": torch.ones(2), "n_averaged": torch.tensor(7)}
    torch.save(
        {"model": {"a.weight": torch.zeros(2)}, "state_dict": {"a.weight": torch.zeros(2)}, wrapper: averaged}, path
    )
    state = read_state(path)
    assert list(state) == ["a.weight"] and state["a.weight"].tolist() == [1, 1]


def test_a_pickled_module_is_told_from_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(torch.nn.Conv2d(1, 1, 1), path)
    with pytest.raises(ValueError, match=r"a pickled torch\.nn\.modules\.conv\.Conv2d.*state_dict\(\)"):
        read_state(path)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "model_state"])
def test_weights_in_a_wrapper_are_found(wrapper: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({wrapper: {"a.weight": torch.ones(2)}, "epoch": 3, "optimizer": {"lr": 0.1}}, path)
    assert list(read_state(path)) == ["a.weight"]
    torch.save({"model": {wrapper: {"a.weight": torch.ones(2)}}}, path)
    assert list(read_state(path)) == ["a.weight"]


@pytest.mark.parametrize(("family", "encoder"), [*FAMILIES, (SmpFamily(), "resnet18")], ids=["timm", "smp-tu", "smp"])
def test_checkpoints_of_training_scripts_fill_the_encoder(
    family: BackboneFamily, encoder: str, whole: Path, tmp_path: Path
) -> None:
    """Was: the weights were found in the wrapper, and then timm, which knows other wrappers, read the file again."""
    state = smp.encoders.get_encoder(encoder, weights=None).state_dict() if encoder == "resnet18" else read_state(whole)
    path = tmp_path / "w.pth"
    torch.save({"model_state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, path)
    built = family.build(encoder, 32, Weights("file", path))
    filled = [value for name, value in built.state_dict().items() if name.endswith("weight") and value.ndim == 4]
    assert filled and all(any(torch.equal(value, given) for given in state.values()) for value in filled)
    assert not any("state_dict" in getattr(m, "pretrained_cfg", {}) for m in built.modules()), "kept twice in memory"


@pytest.mark.parametrize("place", ["/dev/null", "empty", "folder"])
def test_what_is_no_file_of_weights_is_named(place: str, tmp_path: Path) -> None:
    path = Path(place) if place.startswith("/") else tmp_path / place
    if place == "empty":
        path.touch()
    elif place == "folder":
        path.mkdir()
    with pytest.raises(ValueError, match=f"weights file {path} "):
        read_state(path)
