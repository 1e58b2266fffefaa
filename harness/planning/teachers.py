"""The teachers of a sweep: trained by the harness, or imported as whole networks and only evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.weights import hub, read_state
from backbones.whole import NetworkFamily, OwnHead
from harness.builders.models import own_stride
from harness.errors import HarnessError, did_you_mean
from harness.plugins.registries import FAMILIES
from harness.specs.spec import ModelSpec, Recipe, SweepSpec, canonical_json, parse_model
from harness.specs.yaml_files import read_yaml
from harness.workspace.files import read_json

_HUB = ("smp-hub:", "smp_hub:")
_TRAINING = (
    "crop", "batch_size", "iterations", "optimizer", "schedule", "augment", "clip_grad", "compile", "validate_every",
    "loss", "accumulate", "freeze",
)  # fmt: skip
"""Fields of a recipe that do not affect a network that is only evaluated."""


@dataclass(frozen=True)
class Teacher:
    """A teacher of a sweep.

    Attributes:
        model: the network, without weights.
        word: the teacher as the user wrote it.
        file: weights of the whole network; None for a teacher to be trained.
        classes: for each class of the data set, its index in the file; empty if the classes are equal.
    """

    model: ModelSpec
    word: str
    file: Path | None = None
    classes: tuple[int, ...] = ()


def find_teachers(sweep: SweepSpec, classes: Sequence[str]) -> list[Teacher]:
    """The teachers of a sweep, each once.

    Args:
        classes: names of the data set's classes.

    Raises:
        HarnessError: an invalid word, file or table of classes.
    """
    numbers = _class_numbers(sweep.teacher_classes, classes)
    found: dict[ModelSpec, Teacher] = {}
    for word in sweep.teachers:
        if word.startswith(_HUB):
            model, saved = _saved_by_smp(word)
            found.setdefault(model, Teacher(model, word, saved, numbers))
            continue
        for stride in sweep.teacher_strides:
            model, whole = _model(word, sweep.teacher_head, stride)
            file = _network_file(sweep.teacher_weights, whole)
            if file and not numbers:
                _refuse_other_classes(file, classes)
            found.setdefault(model, Teacher(model, word, file, numbers if file else ()))
    if numbers and not any(teacher.file for teacher in found.values()):
        raise HarnessError("--teacher-classes needs an imported teacher", "give its --teacher-weights as well")
    return list(found.values())


def evaluation_only(recipe: Recipe) -> Recipe:
    """The recipe of a network that is only evaluated, with training fields removed."""
    defaults = {name: Recipe.model_fields[name].default for name in _TRAINING}
    return recipe.model_copy(update=defaults | {"iterations": 0})


def _model(word: str, head: str, stride: int) -> tuple[ModelSpec, bool]:
    """The model of a word, and whether it is a whole network of another library."""
    family = FAMILIES.get(word.partition(":")[0])() if ":" in word else None
    if not isinstance(family, NetworkFamily):
        return parse_model(word, head, stride), False
    named = parse_model(word, OwnHead.name, 1)
    if "@" in word:
        return named, True
    return named.model_copy(update={"stride": own_stride(named)}), True


def _saved_by_smp(word: str) -> tuple[ModelSpec, Path]:
    from backbones.smp_model_family import saved_model

    place = word.partition(":")[2]
    folder = Path(place).expanduser()
    if not folder.is_dir():
        folder = _from_hub(place)
    try:
        name, options, _, file = saved_model(folder)
    except ValueError as error:
        raise HarnessError(f"teacher {word}: {error}", "give a folder written by SMP's save_pretrained") from error
    said = canonical_json(options) if options else ""
    model = ModelSpec(family="smp_model", encoder=name, head=OwnHead.name, stride=1, options=said)
    return model.model_copy(update={"stride": own_stride(model)}), file


def _from_hub(name: str) -> Path:
    """The local copy of a model on the hub, downloaded if the hub responds."""
    from huggingface_hub import snapshot_download

    try:
        with hub():
            return Path(snapshot_download(name, allow_patterns=["config.json", "model.safetensors"]))
    except Exception as error:  # the type depends on the library's version
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise HarnessError(
            f"teacher smp-hub:{name} is not a local folder and cannot be downloaded from the hub ({cause})",
            "give the path of a folder written by SMP's save_pretrained",
        ) from error


def _network_file(asked: str, whole: bool) -> Path | None:
    """The file of a whole network's weights; None if the word asks for initial weights of an encoder."""
    if asked in ("auto", "random", "imagenet"):
        return None
    path = Path(asked).expanduser()
    if path.is_dir():
        raise HarnessError(
            f"--teacher-weights {asked} is a folder", f"if SMP saved it, write --teachers smp-hub:{asked}"
        )
    if not path.is_file():
        raise HarnessError(
            f"--teacher-weights {asked} is not a file", "give auto, random, imagenet, or a file of weights"
        )
    try:
        names = list(read_state(path))
    except ValueError as error:
        raise HarnessError(
            f"--teacher-weights {asked}: {error}", "give a file in safetensors format or written by torch.save"
        ) from error
    ours = any("head." in name for name in names) and any("backbone." in name for name in names)
    return path if whole or ours else None


def _refuse_other_classes(file: Path, classes: Sequence[str]) -> None:
    """Check that the record beside weights of another workspace names no other classes, and none in another order.

    Raises:
        HarnessError: it does; as many classes in another order would be taken for each other without a word.
    """
    record = read_json(file.parent / "record.json")
    metrics = record.get("metrics") if isinstance(record, dict) else None
    found = metrics.get("classes") if isinstance(metrics, dict) else None
    names = [str(name) for name in found] if isinstance(found, list) else []
    here = iter(classes)
    if not all(name in here for name in names):
        raise HarnessError(
            f"--teacher-weights {file}: by its record it knows the classes {_some(names)} in this order; "
            f"the data set has {_some(classes)}",
            "say which is which: --teacher-classes MAP.yaml",
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _class_numbers(file: str, classes: Sequence[str]) -> tuple[int, ...]:
    """For each class of the data set its index in the teacher's file, from `--teacher-classes`."""
    if not file:
        return ()
    path = Path(file).expanduser()
    if not path.is_file():
        raise HarnessError(f"--teacher-classes {file} is not a file", "give a YAML file: {road: 0, car: 13}")
    table = read_yaml(path)
    hint = f"name each of {', '.join(classes)} with its number in the teacher: {{{classes[0]}: 0, ...}}"
    if not isinstance(table, dict) or not all(type(n) is int and n >= 0 for n in table.values()):
        raise HarnessError(f"--teacher-classes {file} is not a table of names and numbers", hint)
    if unknown := [str(name) for name in table if name not in classes]:
        raise HarnessError(
            f"--teacher-classes {file}: the data set has no class '{unknown[0]}'", did_you_mean(unknown[0], classes)
        )
    if missing := [name for name in classes if name not in table]:
        raise HarnessError(f"--teacher-classes {file} does not name class '{missing[0]}'", hint)
    return tuple(table[name] for name in classes)
