"""Initial weights of a backbone: found in a folder, read from a file, and checked. Missing weights are an error."""

from __future__ import annotations

import contextlib
import difflib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@lru_cache(maxsize=1)
def _known() -> tuple[str, ...]:
    import segmentation_models_pytorch as smp
    import timm

    return tuple({*timm.list_models(), *smp.encoders.get_encoder_names()})


def find_weights(folder: Path, encoder: str) -> Path | None:
    """The safetensors file of an encoder in a folder, or None.

    A file belongs to the encoder with the longest name that is a prefix of the file's: `resnet18d_ra2.safetensors`
    does not match `resnet18`. For SMP's `tu-NAME`, timm's NAME is looked for. Of several files, the exact name comes
    first, then the first in alphabetical order.

    Raises:
        ValueError: the folder does not exist.
    """
    if not folder.is_dir():
        raise ValueError(f"weights folder {folder} is not a folder")
    name = encoder.removeprefix("tu-")
    longer = [other for other in _known() if other.startswith(name) and len(other) > len(name)]
    found = [
        path
        for path in sorted(folder.glob("*.safetensors"))
        if re.match(re.escape(name) + r"([^A-Za-z0-9].*)?$", path.stem)
        and not any(path.stem.startswith(other) for other in longer)
    ]
    exact = [path for path in found if path.stem == name]
    return next(iter(exact + found), None)


_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_WRAPPERS = (*_AVERAGED, "state_dict", "model_state_dict", "model_state", "model")
"""Keys under which training scripts store the weights in a checkpoint. Averages over iterations (EMA) come first, as in
timm: where there are both, they are what was evaluated."""


_PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a file written by torch.save (read with weights_only=True).

    Raises:
        ValueError: the file is missing or contains no weights.
    """
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if unsafe := re.search(r"Unsupported (?:global|class|operand).*?(\S+\.\S+) was not", str(error)):
            raise ValueError(
                f"weights file {path} holds a pickled {unsafe[1]}, and loading one would run its code: save "
                "network.state_dict() instead"
            ) from error
        # torch's own words advise to run whatever code the file holds.
        strange = isinstance(error, UnpicklingError)
        why = "it is no state dict that torch.save wrote" if strange else f"{type(error).__name__}: {error}"
        raise ValueError(f"weights file {path} cannot be read: {why}") from error
    while isinstance(state, Mapping) and (
        wrapper := next((name for name in _WRAPPERS if isinstance(state.get(name), Mapping)), "")
    ):
        state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights file {path} contains no state dict")
    state = {name: value for name, value in state.items() if name != "n_averaged"}  # a counter of torch's swa_utils
    while state and (prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), "")):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _print_of(tensor: Tensor) -> str:
    return sha256(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()).hexdigest()


def check_filled(module: nn.Module, state: Mapping[str, Tensor], known: Iterable[str], what: str, path: Path) -> None:
    """Check that every weight of a module came from a file, and that the file belongs to this encoder.

    Libraries rename keys when loading, so tensors are compared by content.

    Args:
        module: the encoder after loading.
        state: the tensors of the file.
        known: keys of the whole model, classifier included; a file with other keys belongs to another encoder.
        what: the encoder's name, for error messages.
        path: the file's path, for error messages.

    Raises:
        ValueError: weights are missing, or the file contains weights that the encoder does not have.
    """
    given = {_print_of(value) for value in state.values()}
    tensors = {name: t for name, t in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    missing = [name for name, value in tensors.items() if _print_of(value) not in given]
    if missing:
        raise ValueError(
            f"weights file {path} does not fit {what}: {len(missing)} of {len(tensors)} keys are missing, "
            f"first {missing[0]}"
        )
    names = set(known)
    foreign = sorted(key for key in state if key not in names)
    if names and foreign and len(foreign) < len(state) / 2:
        raise ValueError(
            f"weights file {path} belongs to another encoder: {what} has no {foreign[0]} ({len(foreign)} such keys)"
        )


def build_from_file(create: Callable[..., nn.Module], path: Path, known: Iterable[str], what: str) -> nn.Module:
    """Build an encoder of timm with the tensors of a file, as if it were the encoder's own file of weights.

    Args:
        create: takes further arguments of timm's `create_model`.
        known: names of all tensors of the whole encoder, as for `check_filled`.
        what: name of the encoder, for messages.

    Raises:
        ValueError: the file cannot be read or does not fit.
    """
    state = read_state(path)
    try:
        built = create(pretrained_cfg_overlay={"state_dict": dict(state)})
    except Exception as error:
        raise ValueError(f"weights file {path} does not fit {what}: {error}") from error
    for module in built.modules():  # timm keeps the tensors in the configuration
        if isinstance(config := getattr(module, "pretrained_cfg", None), dict):
            config.pop("state_dict", None)
    check_filled(built, state, known, what, path)
    return built


def load_checked(module: nn.Module, path: Path, what: str) -> None:
    """Load a file into a module that uses the same names; keys of a classifier are ignored.

    Raises:
        ValueError: keys are missing or shapes differ.
    """
    state = read_state(path)
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(
            f"weights file {path} does not fit {what}: {len(missing)} of {len(own)} keys are missing, "
            f"first {missing[0]}"
        )
    try:
        nn.Module.load_state_dict(module, {key: state[key] for key in own if key in state}, strict=False)
    except RuntimeError as error:
        raise ValueError(f"weights file {path} does not fit {what}: {error}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence timm's log messages about unused keys: missing or foreign weights are checked here and raised."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def hub(timeout: float = 5.0) -> Iterator[None]:
    """Download from the hub if it responds within `timeout` seconds; otherwise use its local cache only.

    Without this, each file from an unreachable hub costs half a minute of retries.
    """
    import huggingface_hub
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    if not before:
        try:
            huggingface_hub.get_session().head(constants.ENDPOINT, timeout=timeout)
        except Exception:  # the type depends on the library's version
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def no_hub(encoder: str, error: Exception) -> ValueError:
    """The error for ImageNet weights that cannot be downloaded, with all remedies."""
    cause = " ".join(str(error).split())[:200] or type(error).__name__
    return ValueError(
        f"ImageNet weights of {encoder} cannot be downloaded from the hub ({cause}): put "
        f"{encoder.removeprefix('tu-')}.safetensors into a weights folder (--weights-dir), name a weights file "
        "(--weights FILE), or start from random weights (--weights random); for a teacher --teacher-weights FILE or "
        "--teacher-weights random"
    )


def unknown(encoder: str, family: str, names: Iterable[str]) -> str:
    """The reason for a name that a family does not know, with similar names."""
    near = difflib.get_close_matches(encoder, list(names), n=3, cutoff=0.6)
    return f"{family} knows no encoder '{encoder}'" + (f"; did you mean {' or '.join(near)}?" if near else "")
