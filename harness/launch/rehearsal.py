"""Rehearse the shapes of a plan: run every network once on its batch and its images, before training.

It uses the meta device, which computes shapes only, in a fraction of a second per network. It finds errors that would
otherwise show after training, or hours later in another stage: a size that an encoder does not accept, or a batch of
one for a batch norm whose map is 1x1. Successful results are cached by content.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.specs.spec import Protocol, Recipe, StageSpec, digest
from harness.system.code import versions
from harness.workspace.files import read_json, write_json

if TYPE_CHECKING:
    from harness.data.base import Dataset

Size = tuple[int, int]


def rehearse(specs: Iterable[StageSpec], dataset: Dataset, memory: Path, images: Sequence[Size] = ()) -> None:
    """Run each distinct network on its training batch and the data set's images.

    Args:
        memory: folder of the cache.
        images: sizes (height, width) of the evaluated images, if known, smallest first.

    Raises:
        HarnessError: a network does not accept them; the message names the size and a remedy.
    """
    file = memory / "rehearsed.json"
    known = set(read_json(file) or [])
    fresh: dict[str, StageSpec] = {}
    for spec in specs:
        if spec.kind != "translator":
            fresh.setdefault(_key(spec, dataset, images), spec)
    todo = {key: spec for key, spec in fresh.items() if key not in known}
    for spec in todo.values():
        for size in [spec.recipe.eval_size] if spec.recipe.eval_size else _few(images) or [dataset.eval_size]:
            _rehearse(spec, size)
    if todo:
        write_json(file, sorted(known | todo.keys()))


_FEW = 6


def _few(sizes: Sequence[Size]) -> list[Size]:
    """The smallest, the largest, and some sizes in between."""
    last = len(sizes) - 1
    return [sizes[i] for i in sorted({round(k * last / (_FEW - 1)) for k in range(_FEW)})] if sizes else []


def _key(spec: StageSpec, dataset: Dataset, images: Sequence[Size]) -> str:
    recipe, model = spec.recipe, spec.model
    return digest(
        {
            "model": [model.word, model.source],
            "trained": [*recipe.crop, _smallest_part(recipe)] if _is_trained(spec) else [],
            "evaluated": list(recipe.eval_size or dataset.eval_size),
            "protocol": recipe.evaluation.model_dump(mode="json"),
            **({"images": [list(size) for size in _few(images)]} if images and not recipe.eval_size else {}),
            "versions": dict(versions()),
        }
    )


def _is_trained(spec: StageSpec) -> bool:
    """Whether a network is trained; imported networks are only evaluated."""
    return spec.model.weights.source != "network"


def _rehearse(spec: StageSpec, images: Size) -> None:
    from harness.cost.forward import refused_size  # imports torch, so only when needed

    recipe, word = spec.recipe, spec.model.word
    if _is_trained(spec) and (why := refused_size(spec.model, recipe.crop, _smallest_part(recipe), training=True)):
        hint = "change it: --set crop=[64,64]"
        if "more than 1 value per channel" in why:
            hint = "a batch norm needs more than one value per channel: --set batch_size=2, or a larger crop"
            if recipe.accumulate > 1:
                hint = "a batch norm needs more than one value a channel: fewer parts of a batch, --set accumulate=1"
        raise HarnessError(f"{word} cannot train on {_text(recipe.crop)} x {_smallest_part(recipe)}: {why}", hint)
    size = recipe.eval_size or images
    for shown in _shown_at_evaluation(size, recipe.evaluation):
        if why := refused_size(spec.model, shown):
            hint = f"resize the images: --set eval_size=[{_rounded(size[0])},{_rounded(size[1])}]"
            if shown != size:
                hint = "choose suitable windows and scales: --set evaluation.window=[H,W], --set evaluation.scales=[1]"
            raise HarnessError(f"{word} cannot be evaluated on images of {_text(shown)}: {why}", hint)


def _shown_at_evaluation(size: Size, protocol: Protocol) -> list[Size]:
    """The distinct input sizes of a network for an image of a size."""
    from harness.evaluation.inference import scaled_size

    sizes = [scaled_size(size, scale) for scale in protocol.scales]
    if window := protocol.window:
        sizes = [(min(window[0], height), min(window[1], width)) for height, width in sizes]
    return list(dict.fromkeys(sizes))


def _smallest_part(recipe: Recipe) -> int:
    """The number of images in the smallest part of a batch."""
    return recipe.batch_size // recipe.accumulate


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _rounded(side: int) -> int:
    return max(32, -(-side // 32) * 32)
