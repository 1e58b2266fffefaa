"""A rehearsal: every network of a plan is shown its batch and its images once, before anything is trained.

On the meta device, where shapes are worked out and nothing is computed: a fraction of a second a network. It finds what
would otherwise be found after training, or hours later by another stage: a size that an encoder cannot take, and a
batch of one under a batch norm whose map is 1x1. What went well is remembered by content and not done again.
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
    """Show each distinct network its training batch and the data set's images.

    Args:
        memory: folder in which is remembered what went well.
        images: sizes (height, width) of the images that are evaluated, where they are known, smallest first.

    Raises:
        HarnessError: a network cannot take them; the sentence names the size and what can be done.
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
    """The smallest, the largest, and some between."""
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
    """A whole network of others is evaluated as it is."""
    return spec.model.weights.source != "network"


def _rehearse(spec: StageSpec, images: Size) -> None:
    from harness.cost.forward import refused_size  # torch: not before something is rehearsed

    recipe, word = spec.recipe, spec.model.word
    if _is_trained(spec) and (why := refused_size(spec.model, recipe.crop, _smallest_part(recipe), training=True)):
        hint = "change it: --set crop=[64,64]"
        if "more than 1 value per channel" in why:
            hint = "a batch norm needs more than one value a channel: --set batch_size=2, or a larger crop"
            if recipe.accumulate > 1:
                hint = "a batch norm needs more than one value a channel: fewer parts of a batch, --set accumulate=1"
        raise HarnessError(f"{word} cannot train on {_text(recipe.crop)} x {_smallest_part(recipe)}: {why}", hint)
    size = recipe.eval_size or images
    for shown in _shown_at_evaluation(size, recipe.evaluation):
        if why := refused_size(spec.model, shown):
            hint = f"let them be resized for it: --set eval_size=[{_rounded(size[0])},{_rounded(size[1])}]"
            if shown != size:
                hint = "choose windows and scales for it: --set evaluation.window=[H,W], --set evaluation.scales=[1]"
            raise HarnessError(f"{word} cannot be evaluated on images of {_text(shown)}: {why}", hint)


def _shown_at_evaluation(size: Size, protocol: Protocol) -> list[Size]:
    """The sizes that a network is shown for an image of a size, each once."""
    from harness.evaluation.inference import scaled_size

    sizes = [scaled_size(size, scale) for scale in protocol.scales]
    if window := protocol.window:
        sizes = [(min(window[0], height), min(window[1], width)) for height, width in sizes]
    return list(dict.fromkeys(sizes))


def _smallest_part(recipe: Recipe) -> int:
    """Images of the smallest part in which a batch is computed."""
    return recipe.batch_size // recipe.accumulate


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _rounded(side: int) -> int:
    return max(32, -(-side // 32) * 32)
