"""The example of a family of one's own: Hugging Face's SegFormer. Skipped where transformers is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from harness.builders.models import build_model
from harness.plugins.load import load_plugins
from harness.plugins.registries import FAMILIES
from harness.specs.spec import WeightsSpec
from harness.workspace.files import file_digest
from tests.end_to_end.tiny import make_plan, run_all, tiny_sweep

transformers = pytest.importorskip("transformers", reason="the example needs transformers")
PLUGIN = Path(__file__).parents[2] / "examples" / "segformer" / "segformer.py"
CLASSES = 8
TINY = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    load_plugins([PLUGIN])
    yield
    FAMILIES._entries.pop("segformer")


def saved(folder: Path) -> tuple[torch.nn.Module, Path]:
    """A network of transformers' own with random weights, and the file of them."""
    torch.manual_seed(2)
    config = transformers.SegformerConfig(num_labels=CLASSES, **TINY)
    model = transformers.SegformerForSemanticSegmentation(config).eval()
    torch.save(model.state_dict(), folder / "segformer.pt")
    return model, folder / "segformer.pt"


def test_a_network_of_transformers_gives_its_own_logits_and_teaches(tmp_path: Path) -> None:
    model, file = saved(tmp_path)
    words = {"teachers": ("segformer:tiny",), "teacher_weights": str(file), "methods": ("kd",)}
    plan = make_plan(tiny_sweep(**words))
    (teacher,) = [node for node in plan.nodes.values() if node.spec.kind == "teacher"]
    assert teacher.spec.model.word == "segformer:tiny/own@32" and teacher.spec.recipe.iterations == 0
    assert teacher.spec.model.weights == WeightsSpec(source="network", sha256=file_digest(file))
    network = build_model(teacher.spec.model, CLASSES, file).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        maps, expected = network(images), model(pixel_values=images).logits
        odd = network(torch.rand(1, 3, 50, 70))
    torch.testing.assert_close(maps.logits, expected, atol=1e-5, rtol=0)
    assert [x.shape[1] for x in maps.features] == TINY["hidden_sizes"] and maps.last.shape[1] == 16
    assert F.interpolate(odd.logits, size=(50, 70)).shape == (1, CLASSES, 50, 70) and odd.logits.shape[-2:] == (13, 18)
    run_all(plan, tmp_path / "runs")
