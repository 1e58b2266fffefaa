"""Teachers that come as they are: found, keyed by content, and refused with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torchvision.models import segmentation

from harness.builders.models import build_model
from harness.errors import HarnessError
from harness.planning.plan import Plan, make_plan
from harness.planning.teachers import find_teachers
from harness.specs.spec import StageSpec, SweepSpec

SHAPES = ("sky", "ground", "disc", "square")


def plan(**changes: object) -> Plan:
    words = {"methods": ("kd",), "students": ("timm:mobilenetv2_035",), "strides": (32,), "recipe": "quick"}
    return make_plan(SweepSpec.model_validate(words | changes))


def teacher_of(made: Plan) -> StageSpec:
    (found,) = [node.spec for node in made.nodes.values() if node.spec.kind == "teacher"]
    return found


@pytest.fixture
def lraspp(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=8)
    save_file(model.state_dict(), tmp_path / "lraspp.safetensors")
    return tmp_path / "lraspp.safetensors"


def test_a_file_of_torchvision_is_a_teacher_that_is_not_trained(lraspp: Path) -> None:
    made = plan(teachers=("torchvision:lraspp_mobilenet_v3_large",), teacher_weights=str(lraspp))
    spec = teacher_of(made)
    assert spec.model.word == "torchvision:lraspp_mobilenet_v3_large/own@16"
    assert spec.recipe.iterations == 0 and spec.model.weights.source == "network"
    assert made.weights[spec.model.weights.sha256] == str(lraspp)
    command = next(n.reproduce for n in made.nodes.values() if n.spec.kind == "student")
    assert "--teachers torchvision:lraspp_mobilenet_v3_large " in command and f"--teacher-weights {lraspp}" in command
    network = build_model(spec.model, 8, lraspp)
    assert torch.equal(
        network.state_dict()["backbone.module.backbone.0.0.weight"], _tensor(lraspp, "backbone.0.0.weight")
    )


def _tensor(file: Path, name: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        found: torch.Tensor = opened.get_tensor(name)
    return found


def test_its_key_is_its_content_and_nothing_that_is_said_of_training(lraspp: Path, tmp_path: Path) -> None:
    words = {"teachers": ("torchvision:lraspp_mobilenet_v3_large",), "teacher_weights": str(lraspp)}
    first = teacher_of(plan(**words))
    copy = tmp_path / "elsewhere.safetensors"
    copy.write_bytes(lraspp.read_bytes())
    assert teacher_of(plan(**words | {"teacher_weights": str(copy)})).key == first.key
    assert teacher_of(plan(**words, set={"teacher.iterations": 7, "teacher.optimizer.lr": 0.5})).key == first.key
    assert teacher_of(plan(**words, teacher_seed=3)).key == first.key
    assert teacher_of(plan(**words, set={"eval_size": [32, 32]})).key != first.key
    state = {name: _tensor(lraspp, name) for name in ("backbone.0.0.weight",)}
    torch.manual_seed(1)
    other = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=8).state_dict()
    save_file(other | {name: value + 1 for name, value in state.items()}, copy)
    assert teacher_of(plan(**words | {"teacher_weights": str(copy)})).key != first.key


def test_a_folder_of_smp_brings_its_architecture(tmp_path: Path) -> None:
    smp.FPN("resnet18", encoder_weights=None, classes=8, decoder_pyramid_channels=64).save_pretrained(
        str(tmp_path / "m")
    )
    spec = teacher_of(plan(teachers=(f"smp-hub:{tmp_path / 'm'}",)))
    assert spec.model.word == "smp_model:FPN.resnet18/own@32" and '"decoder_pyramid_channels":64' in spec.model.options
    network = build_model(spec.model, 8, tmp_path / "m" / "model.safetensors")
    assert network.head.last_channels == 128
    assert StageSpec.model_validate(spec.model_dump(mode="json")).key == spec.key


def test_our_own_teacher_from_another_workspace(tmp_path: Path) -> None:
    model = teacher_of(plan(teachers=("timm:resnet10t/linear@32",))).model
    save_file(build_model(model, 8).state_dict(), tmp_path / "weights.safetensors")
    file = str(tmp_path / "weights.safetensors")
    spec = teacher_of(plan(teachers=("timm:resnet10t/linear@32",), teacher_weights=file))
    assert spec.recipe.iterations == 0 and spec.model.weights.source == "network"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("{sky: 0}", "does not name class 'ground'"),
        ("{skyy: 0}", "has no class 'skyy'"),
        ("[0, 1]", "not a table of names and numbers"),
        ("{sky: -1}", "not a table of names and numbers"),
        ("{sky: true, ground: 1, disc: 2, square: 3}", "not a table of names and numbers"),
    ],
)
def test_tables_of_classes_that_cannot_be(table: str, says: str, tmp_path: Path, lraspp: Path) -> None:
    (tmp_path / "map.yaml").write_text(table)
    sweep = SweepSpec(
        teachers=("torchvision:lraspp_mobilenet_v3_large",),
        teacher_weights=str(lraspp),
        teacher_classes=str(tmp_path / "map.yaml"),
    )
    with pytest.raises(HarnessError, match=says):
        find_teachers(sweep, SHAPES)


@pytest.mark.parametrize(
    ("recorded", "fits"),
    [(list(SHAPES), True), (list(SHAPES[::2]), True), (list(SHAPES[::-1]), False), (["tumour", "liver"], False)],
)
def test_a_teacher_of_another_workspace_knows_the_classes_of_its_record(
    recorded: list[str], fits: bool, tmp_path: Path, lraspp: Path
) -> None:
    """The record names the classes that occur in the labels, in the order of that data set."""
    file = Path(shutil.copy(lraspp, tmp_path / "weights.safetensors"))
    (tmp_path / "record.json").write_text(json.dumps({"metrics": {"classes": recorded}}))
    (tmp_path / "map.yaml").write_text("{square: 7, sky: 3, ground: 0, disc: 1}")
    words = {"teachers": ("torchvision:lraspp_mobilenet_v3_large",), "teacher_weights": str(file)}
    if fits:
        assert find_teachers(SweepSpec(**words), SHAPES)[0].file == file
        return
    with pytest.raises(HarnessError, match=f"it knows the classes {', '.join(recorded)} in this order") as error:
        find_teachers(SweepSpec(**words), SHAPES)
    assert "--teacher-classes" in error.value.hint
    assert find_teachers(SweepSpec(**words, teacher_classes=str(tmp_path / "map.yaml")), SHAPES)[0].classes


def test_classes_by_name(tmp_path: Path, lraspp: Path) -> None:
    (tmp_path / "map.yaml").write_text("{square: 7, sky: 3, ground: 0, disc: 1}")
    words = {"teachers": ("torchvision:lraspp_mobilenet_v3_large",), "teacher_classes": str(tmp_path / "map.yaml")}
    (found,) = find_teachers(SweepSpec(**words, teacher_weights=str(lraspp)), SHAPES)
    assert found.classes == (3, 0, 1, 7)
    with pytest.raises(HarnessError, match="needs an imported teacher"):
        find_teachers(SweepSpec(**words), SHAPES)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"teachers": ("smp-hub:no/such-model",)}, "is not a local folder and cannot be downloaded"),
        ({"teacher_weights": "nowhere.pt"}, "nowhere.pt is not a file"),
        ({"teacher_weights": "/dev/null"}, "is not a file"),
        ({"teachers": ("torchvision:deeplab",)}, "knows no encoder 'deeplab'"),
        ({"teachers": ("timm:resnet10t/own@8",)}, "without a head"),
    ],
)
def test_teachers_that_cannot_be(words: dict[str, object], says: str) -> None:
    with pytest.raises(HarnessError, match=says):
        made = plan(**words)
        raise HarnessError(f"{made.skips}")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="is a folder"):
        plan(teacher_weights=str(tmp_path))
