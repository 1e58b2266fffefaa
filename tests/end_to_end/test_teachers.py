"""A network that somebody else trained comes in, is evaluated as in its own library, and teaches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import segmentation

import harness
from harness.builders.datasets import open_dataset, parse_dataset
from harness.cli.app import run
from harness.data.loading import evaluation_batch
from harness.errors import HarnessError
from harness.launch.run_sweep import FinishedSweep
from results.statistics import class_counts, mean_iou

DATA = "shapes[size=64,train=8,val=4,test=4]"
CLASSES = 8


def sweep(folder: Path, **words: object) -> FinishedSweep:
    return harness.sweep(
        methods="none,kd", students="timm:test_efficientnet/linear@32", dataset=DATA, recipe="quick", device="cpu",
        set={"student.iterations": 2, "batch_size": 2, "crop": [64, 64]}, workers=1, workspace=folder, progress=False,
        **words,
    )  # fmt: skip


def own_miou(module: nn.Module, output: str | None, channels: Sequence[int] = range(CLASSES)) -> float:
    """mIoU of a network by its own forward pass, in its own library; `channels` are those of the data set's classes."""
    dataset = open_dataset(parse_dataset(DATA, None), None)
    counts = np.zeros((3, CLASSES), dtype=np.int64)
    for sample in dataset.split("test"):
        images = evaluation_batch(sample, None, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        with torch.no_grad():
            found = module.eval()(images)
            logits = found[output] if output else found
            logits = F.interpolate(logits, size=sample.label.shape, mode="bilinear", align_corners=False)
        predicted, label = logits[:, list(channels)].argmax(1)[0].numpy(), np.asarray(sample.label)
        counted = label < CLASSES
        matrix = np.bincount(label[counted].astype(int) * CLASSES + predicted[counted], minlength=CLASSES**2)
        counts += class_counts(matrix.reshape(CLASSES, CLASSES))
    return float(mean_iou(counts))


def trained_a_little(module: nn.Module) -> nn.Module:
    """Running averages that fit some images, so that predictions are not all of one class."""
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            module.train()(torch.rand(4, 3, 64, 64))
    return module.eval()


@pytest.mark.slow
def test_a_network_of_torchvision_with_other_classes_teaches(tmp_path: Path) -> None:
    """It has more classes, in another order: which are which must be told, or nothing is launched."""
    torch.manual_seed(0)
    model = trained_a_little(
        segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    )
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    words = {
        "teachers": "torchvision:lraspp_mobilenet_v3_large",
        "teacher_weights": str(tmp_path / "model.safetensors"),
    }
    with pytest.raises(HarnessError, match=r"has 21 classes, the data set has 8.*--teacher-classes"):
        sweep(tmp_path / "runs", **words)
    assert not list((tmp_path / "runs").glob("stages/*"))
    channels = [20 - number for number in range(CLASSES)]
    names = open_dataset(parse_dataset(DATA, None), None).classes
    (tmp_path / "classes.yaml").write_text("\n".join(f"{n}: {channel}" for n, channel in zip(names, channels)))
    words["teacher_classes"] = str(tmp_path / "classes.yaml")
    done = sweep(tmp_path / "runs", **words)
    assert not done.failed
    runs = done.runs().set_index("method")
    assert runs.loc["teacher", "iterations"] == 0 and runs.loc["kd", "iterations"] == 2
    assert runs.loc["teacher", "miou"] == pytest.approx(own_miou(model, "out", channels), abs=2e-3)
    key = runs.loc["teacher", "key"]
    kept = load_file(tmp_path / "runs" / "stages" / key / "weights.safetensors")
    for name, value in model.state_dict().items():
        own = value[channels] if "_classifier." in name else value
        assert torch.equal(kept[f"backbone.module.{name}"], own), name
    again = sweep(tmp_path / "runs", **words)
    assert again.launched is None  # nothing is evaluated twice


@pytest.mark.slow
def test_a_folder_saved_by_smp_is_taken_in_alone_and_teaches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = trained_a_little(smp.FPN("resnet18", encoder_weights=None, classes=CLASSES))
    model.save_pretrained(str(tmp_path / "saved"))
    teacher, place = f"smp-hub:{tmp_path / 'saved'}", ["--workspace", str(tmp_path / "runs")]
    words = ["--teachers", teacher, "-d", DATA, "-r", "quick", "--device", "cpu", *place]
    assert run(["teacher", "run", *words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "1 cell needs 1 teacher; 0 of 1 stages exist already" in shown and "done" not in shown
    assert run(["teacher", "run", *words]) == 0
    (record,) = (tmp_path / "runs" / "stages").glob("*/record.json")
    before = record.read_bytes()
    assert run(["teacher", "run", *words]) == 0
    assert "done already" in capsys.readouterr().out
    assert run(["teacher", "list", *place]) == 0
    listed = capsys.readouterr().out
    assert "smp_model:FPN.resnet18/own@32  imported " in listed and "on shapes" in listed
    done = sweep(tmp_path / "runs", teachers=teacher)
    assert not done.failed
    runs = done.runs().set_index("method")
    assert runs.loc["teacher", "key"] == record.parent.name and record.read_bytes() == before
    assert runs.loc["teacher", "miou"] == pytest.approx(
        own_miou(model, None), abs=1e-2
    )  # SMP aligns corners when it resizes
