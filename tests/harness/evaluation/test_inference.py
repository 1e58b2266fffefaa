"""Windows, scales and mirrored images against an implementation written from the definition, and in key and words."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from harness.data.base import IGNORE
from harness.evaluation.evaluate import evaluate
from harness.evaluation.inference import infer, intervals
from harness.specs.recipes import load_recipe
from harness.specs.spec import Protocol, Recipe
from results.protocol import protocol_words
from tests.harness.evaluation.test_evaluation import CLASSES, MEAN, STD, Coarse, Drawn, brute_force, up

MANY = Protocol(window=(16, 12), overlap=0.5, scales=(0.5, 1, 1.5), flip=True)


def down(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, H, W) to `size`: the mean of the source pixels under a triangle as wide as two target pixels; written out."""
    for axis, target in ((1, size[0]), (2, size[1])):
        n = image.shape[axis]
        reach = max(n / target, 1.0)
        weights = np.zeros((target, n))
        for i in range(target):
            centre = (i + 0.5) * n / target
            distance = np.abs(np.arange(n) + 0.5 - centre) / reach
            weights[i] = np.clip(1 - distance, 0, None)
        weights /= weights.sum(1, keepdims=True)
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    return image


def logits_of(network: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(image[None].copy()).float()).logits[0].double().numpy()


def by_windows(network: nn.Module, image: np.ndarray, protocol: Protocol) -> np.ndarray:
    """(K, H, W): the mean over all windows that cover a pixel, looked up pixel by pixel."""
    height, width = image.shape[1:]
    assert protocol.window is not None
    wh, ww = min(protocol.window[0], height), min(protocol.window[1], width)
    pace = [max(1, int(side * (1 - protocol.overlap) + 1e-9)) for side in protocol.window]
    tops = sorted({min(t, height - wh) for t in range(0, height, pace[0]) if t == 0 or t - pace[0] + wh < height})
    lefts = sorted({min(t, width - ww) for t in range(0, width, pace[1]) if t == 0 or t - pace[1] + ww < width})
    windows = {
        (t, left): up(logits_of(network, image[:, t : t + wh, left : left + ww]), (wh, ww))
        for t in tops
        for left in lefts
    }
    found = np.zeros((CLASSES, height, width))
    for y in range(height):
        for x in range(width):
            over = [w[:, y - t, x - s] for (t, s), w in windows.items() if 0 <= y - t < wh and 0 <= x - s < ww]
            found[:, y, x] = np.mean(over, 0)
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(0))
    return raised / raised.sum(0)


def expected(network: nn.Module, image: np.ndarray, protocol: Protocol) -> np.ndarray:
    """(K, H, W), from the definition: the mean of probabilities over scales and mirrors."""
    size = image.shape[1:]
    found = []
    for scale in protocol.scales:
        scaled = down(image, (round(size[0] * scale), round(size[1] * scale)))
        for flip in (False, True) if protocol.flip else (False,):
            shown = scaled[..., ::-1] if flip else scaled
            logits = by_windows(network, shown, protocol) if protocol.window else logits_of(network, shown)
            found.append(softmax(up(logits[..., ::-1] if flip else logits, size)))
    return np.mean(found, 0)


def test_windows_are_averaged_where_they_overlap() -> None:
    network, image = Coarse().eval(), np.random.default_rng(0).normal(size=(3, 37, 29)).astype(np.float32)
    protocol = Protocol(window=(16, 12), overlap=0.25)
    with torch.no_grad():
        found = infer(lambda x: network(x).logits, torch.from_numpy(image)[None], protocol)
    assert np.allclose(found[0].double().numpy(), by_windows(network, image, protocol), atol=1e-5)


@pytest.mark.parametrize(
    "protocol",
    [Protocol(flip=True), Protocol(scales=(0.5, 1, 2)), Protocol(scales=(0.75,)), Protocol(window=(8, 8), flip=True)],
)
def test_scales_and_mirrors_are_averaged_as_probabilities(protocol: Protocol) -> None:
    network, image = Coarse().eval(), np.random.default_rng(1).normal(size=(3, 24, 32)).astype(np.float32)
    with torch.no_grad():
        found = infer(lambda x: network(x).logits, torch.from_numpy(image)[None], protocol)
    assert found.shape == (1, CLASSES, 24, 32) and torch.allclose(found.sum(1), torch.ones(1, 24, 32), atol=1e-5)
    assert np.allclose(found[0].double().numpy(), expected(network, image, protocol), atol=2e-4)


def test_the_matrices_of_a_split_are_those_of_the_definition() -> None:
    split, network = Drawn([(24, 20)] * 3 + [(17, 33)]), Coarse()
    found = evaluate(network, split, CLASSES, MEAN, STD, protocol=MANY, batch_size=2)
    network.eval()
    reference = []
    for sample in split:
        image = (sample.image.transpose(2, 0, 1) / 255.0 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
        reference.append(brute_force(expected(network, image, MANY).argmax(0), sample.label, CLASSES))
    assert np.abs(found.confusion.astype(int) - np.stack(reference)).sum() <= 4  # ties in the last bit
    assert int(found.confusion.sum()) == sum(int((sample.label != IGNORE).sum()) for sample in split)


def test_the_default_is_one_pass_over_the_whole_image_bit_for_bit() -> None:
    seen: list[tuple[int, ...]] = []

    def forward(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return images[:, :2, ::4, ::4]

    images = torch.randn(2, 3, 16, 20)
    assert torch.equal(infer(forward, images, Protocol()), images[:, :2, ::4, ::4]) and seen == [(2, 3, 16, 20)]
    seen.clear()
    larger = infer(lambda x: forward(x).repeat_interleave(4, -1).repeat_interleave(4, -2), images, MANY)
    assert larger.shape == (2, 2, 16, 20) and max(shape[-1] for shape in seen) <= 12


def test_a_batch_that_does_not_fit_is_halved_window_by_window() -> None:
    roomy, most = Coarse(), 1

    class Cramped(Coarse):
        def forward(self, images: Tensor) -> SimpleNamespace:
            if len(images) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(images)

    cramped, split = Cramped(), Drawn([(24, 20)] * 3)
    cramped.load_state_dict(roomy.state_dict())
    found = [evaluate(n, split, CLASSES, MEAN, STD, protocol=MANY, batch_size=3) for n in (roomy, cramped)]
    assert np.abs(found[0].confusion.astype(int) - found[1].confusion).sum() <= 4


@pytest.mark.parametrize(
    ("extent", "window", "overlap", "places"),
    [
        (10, 10, 0.5, [(0, 10)]),
        (10, 16, 0.5, [(0, 10)]),
        (1024, 769, 1 / 3, [(0, 769), (255, 1024)]),
        (2048, 769, 1 / 3, [(0, 769), (512, 1281), (1024, 1793), (1279, 2048)]),
        (12, 4, 0.0, [(0, 4), (4, 8), (8, 12)]),
        (5, 2, 0.9, [(0, 2), (1, 3), (2, 4), (3, 5)]),
    ],
)
def test_windows_cover_the_image_and_the_last_ends_with_it(
    extent: int, window: int, overlap: float, places: list[tuple[int, int]]
) -> None:
    assert intervals(extent, window, overlap) == places


def test_a_protocol_is_in_the_key_unless_it_is_the_default() -> None:
    recipe = load_recipe("shapes")
    plain = recipe.for_kind("student")
    assert "evaluation" not in plain.content
    assert recipe.changed({"evaluation.window": None, "evaluation.flip": False}).for_kind("student").content == (
        plain.content
    )
    windows = recipe.changed({"evaluation.window": [32, 32]})
    assert windows.for_kind("student").content["evaluation"]["window"] == [32, 32]
    assert windows.label() != recipe.label()
    scales = [Recipe(evaluation=Protocol(scales=order)).content for order in ((2, 0.5), (0.5, 2.0))]
    assert scales[0] == scales[1]


@pytest.mark.parametrize(
    "wrong", [{"overlap": 0.5}, {"scales": ()}, {"scales": (1, 1)}, {"scales": (0,)}, {"window": (8, 8), "overlap": 1}]
)
def test_a_protocol_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Protocol.model_validate(wrong)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (None, "whole image"),
        (Recipe(), "whole image"),
        (Recipe(eval_size=(192, 256)), "whole image at 192x256"),
        (Recipe(evaluation=MANY), "windows of 16x12 (overlap 0.5), scales 0.5 1 1.5, mirrored too"),
        (Recipe(evaluation=Protocol(window=(769, 769))), "windows of 769x769 (overlap 0.333)"),
    ],
)
def test_a_board_says_how_was_evaluated(recipe: Recipe | None, words: str) -> None:
    assert protocol_words({} if recipe is None else {"recipe": recipe.model_dump(mode="json")}) == words
