"""Vision transformers: any crop and image, a frozen backbone, layers that learn at their own rates, as teachers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.builders.models import build_model
from harness.errors import HarnessError
from harness.specs.recipes import load_recipe
from harness.specs.spec import parse_model
from harness.stage.member import _freeze_backbone
from harness.training.randomness import seed_all
from harness.workspace.folders import Workspace
from tests.end_to_end.tiny import make_plan, run_all, tiny_sweep

VIT = "timm:test_vit/linear@16"
CHANGES = {"crop": [40, 56], "batch_size": 4, "iterations": 2, "validate_every": 0}
"""40 and 56 pixels are no multiples of its patch of 16."""


def test_positions_are_resampled_for_any_image() -> None:
    """At the size it was made for they are as they were; a shifted patch grid is told from its neighbour."""
    torch.manual_seed(0)
    network = build_model(parse_model(VIT), 3).eval()
    with torch.no_grad():
        for size in ((160, 160), (96, 64), (90, 101), (17, 300)):
            maps = network(torch.randn(1, 3, *size))
            assert maps.logits.shape[-2:] == (-(-size[0] // 16), -(-size[1] // 16))
            assert maps.logits.isfinite().all()
        image = torch.randn(1, 3, 64, 96)
        before = network(image).logits
        positions: Tensor = network.backbone.model.model.pos_embed  # type: ignore[union-attr, assignment]
        positions[:, 1:] = positions[:, 1:].roll(7, 1)
        assert (network(image).logits - before).abs().max() > 1e-4


def test_a_frozen_transformer_teaches_and_keeps_its_weights(tmp_path: Path) -> None:
    changes = CHANGES | {"teacher.freeze": "backbone"}
    plan = make_plan(tiny_sweep(methods=("kd",), teachers=(VIT,), set=changes))
    run_all(plan, tmp_path)
    (node,) = [node for node in plan.nodes.values() if node.spec.kind == "teacher"]
    assert node.spec.recipe.content["freeze"] == "backbone"
    folder = Workspace(tmp_path).stage(node.key)
    weights = load_file(folder.weights_file)
    seed_all(node.spec.seed, "weights")
    first = build_model(node.spec.model, 8).state_dict()
    changed = {name for name in first if not torch.equal(first[name], weights[name])}
    assert changed and all(name.startswith("head.") for name in changed)
    assert all(Workspace(tmp_path).stage(key).done() for key in plan.nodes)


def test_layers_of_a_teacher_learn_at_their_own_rates(tmp_path: Path) -> None:
    """With a decay of 0.01 the stem hardly moves, the last block does."""
    changes = CHANGES | {"teacher.optimizer.layer_decay": 0.01, "teacher.optimizer.weight_decay": 0}
    plan = make_plan(tiny_sweep(methods=("kd",), teachers=(VIT,), set=changes))
    (node,) = [node for node in plan.nodes.values() if node.spec.kind == "teacher"]
    run_all(type(plan)(plan.sweep, {node.key: node}, (), 1), tmp_path)
    weights = load_file(Workspace(tmp_path).stage(node.key).weights_file)
    seed_all(node.spec.seed, "weights")
    first = build_model(node.spec.model, 8).state_dict()
    moved = {name: float((weights[name] - first[name]).abs().max()) for name in first}
    inner = "backbone.model.model."
    assert moved[f"{inner}blocks.5.mlp.fc2.weight"] > 1e4 * moved[f"{inner}patch_embed.proj.weight"]
    assert moved["head.classifier.weight" if "head.classifier.weight" in moved else max(moved)] > 0


def test_the_recipe_for_transformers_decays_the_teachers_rates_alone() -> None:
    recipe = load_recipe("small-vit")
    assert recipe.for_kind("teacher").optimizer.layer_decay == 0.75
    assert recipe.for_kind("student") == load_recipe("small").for_kind("student")


def test_a_whole_network_cannot_be_frozen() -> None:
    network = build_model(parse_model("torchvision:lraspp_mobilenet_v3_large/own@16"), 3)
    with pytest.raises(HarnessError, match="nothing left to train"):
        _freeze_backbone(network, "torchvision:lraspp_mobilenet_v3_large")
