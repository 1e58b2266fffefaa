"""Weights of a whole network, from another workspace or library: read, stripped of prefixes, and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base import Network
from backbones.weights import read_state
from backbones.whole import WholeBackbone

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "segmentor.")
"""Prefixes that wrappers (DataParallel, torch.compile, Lightning, ...) add to every name."""
_AUXILIARY = ("aux_classifier.", "auxlayer.", "auxiliary_head.", "aux_head.", "head.aux_head.")
"""Auxiliary heads used only in training; a file may contain them."""


def network_state(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of a file, in full precision, without the prefixes of wrappers.

    Args:
        names: names of the network's tensors; prefixes are removed while that makes more names match.

    Raises:
        ValueError: the file is missing or contains no weights.
    """
    state = {name: value.float() if value.is_floating_point() else value for name, value in read_state(path).items()}
    known = set(names)
    stripped = True
    while stripped and not known & state.keys():
        stripped = False
        for prefix in _PREFIXES:
            if state and all(name.startswith(prefix) for name in state):
                state, stripped = {name.removeprefix(prefix): value for name, value in state.items()}, True
    return state


def load_network(network: Network, path: Path, what: str, classes: Sequence[int] | None = None) -> None:
    """Load all weights of a network from a file.

    Args:
        network: a `Network`, or a `WholeNetwork`, which accepts both its own library's names and those of workspaces.
        what: name of the network for error messages.
        classes: for each class of the data set, the index of that class in the file; None if the classes are equal.

    Raises:
        ValueError: weights do not fit; the message gives their names and number.
    """
    target, by_class = _target(network, path)
    own = target.state_dict()
    state = network_state(path, list(own))
    if classes is not None:
        state |= _reordered(state, by_class, classes, path)
    _refuse_misfit(own, state, by_class, what, path)
    target.load_state_dict({name: state[name] for name in own if name in state}, strict=False)


def _target(network: Network, path: Path) -> tuple[nn.Module, tuple[str, ...]]:
    """The module whose names the file uses, and the names of its tensors with one row per class."""
    backbone = network.backbone
    if not isinstance(backbone, WholeBackbone):
        return network, ("head.classifier.weight", "head.classifier.bias")
    ours = any(name.startswith("backbone.module.") for name in read_state(path))
    place = "backbone.module." if ours else ""
    by_class = [f"{place}{name}.{kind}" for name in backbone.taps.by_class for kind in ("weight", "bias")]
    return (network if ours else backbone.module), tuple(by_class)


def _reordered(
    state: Mapping[str, Tensor], by_class: Sequence[str], classes: Sequence[int], path: Path
) -> dict[str, Tensor]:
    """The state with the classifier's rows in the order of the data set's classes."""
    found: dict[str, Tensor] = {}
    for name in by_class:
        if name in state:
            if max(classes) >= len(state[name]):
                raise ValueError(f"{path} has {len(state[name])} classes, so it has no class {max(classes)}")
            found[name] = state[name][torch.tensor(list(classes))]
    if not found:
        raise ValueError(f"{path} has no {by_class[0]}, so its classes cannot be reordered")
    return found


def _refuse_misfit(
    own: Mapping[str, Any], state: Mapping[str, Tensor], by_class: Sequence[str], what: str, path: Path
) -> None:
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    foreign = [name for name in state if name not in own and not name.startswith(_AUXILIARY)]
    if missing or foreign:
        lacks = f"{len(missing)} of its {len(own)} tensors are missing, first {missing[0]}" if missing else ""
        extra = f"{len(foreign)} belong to another network, first {foreign[0]}" if foreign else ""
        raise ValueError(f"{path} is not the network {what}: {'; '.join(filter(None, (lacks, extra)))}")
    unlike = [name for name in own if name in state and own[name].shape != state[name].shape]
    if unlike and set(unlike) <= set(by_class):
        theirs, ours = len(state[unlike[0]]), len(own[unlike[0]])
        raise ValueError(
            f"{path} has {theirs} classes, the data set has {ours}: map one to the other with --teacher-classes"
        )
    if unlike:
        name = unlike[0]
        raise ValueError(
            f"{path} is not the network {what}: {len(unlike)} tensors have another shape, first {name}: "
            f"{tuple(state[name].shape)} there, {tuple(own[name].shape)} here"
        )
