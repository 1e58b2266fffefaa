"""Run a survey: decode every sample once, reduce it to a few facts, count these and apply the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import numpy as np
from PIL import Image

from harness.data.base import IGNORE, Dataset, Look, Problem, Split
from harness.data.decode import LabelPicture
from harness.data.survey.facts import Facts, Seen
from harness.data.survey.report import LEVELS, Finding, Memory, Occurrence, Report, SplitReport
from harness.data.survey.rules import judge
from harness.errors import HarnessError
from harness.specs.spec import DatasetSpec
from harness.system.guard import guard_process

HASH_SIDE = 16
"""A perceptual hash has 16 x 16 bits: whether a pixel of the reduced image is brighter than its left neighbour."""
STORED_SHOWN = 300


def survey(
    dataset: Dataset,
    spec: DatasetSpec | None = None,
    memory: Memory | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Survey every sample of a data set, or return the cached report of the same content.

    Presence and pairing of files are always checked, since they may change without changing the samples.

    Args:
        spec, memory: if both are given, the report is cached by the digest of the content.
        progress: called with (samples done, total) while samples are decoded.
    """
    report = memory.recall(spec) if memory and spec else None
    if report is None:
        report = _take(dataset, progress)
        if memory and spec:
            memory.keep(spec, report)
    quick = [_file_error(problem) for problem in dataset.check(full=False)]
    found = [*quick, *(finding for finding in report.findings if finding not in quick)]
    # Findings that explain many file errors come first.
    found.sort(key=lambda finding: (LEVELS.index(finding.level), finding.kind == "file"))
    return report.model_copy(update={"findings": found})


def _take(dataset: Dataset, progress: Callable[[int, int], None] | None) -> Report:
    splits = {name: _split(dataset, name) for name in dataset.splits}
    facts = _facts(splits, len(dataset.classes), progress)
    problems = [problem for found in facts.values() for one in found for problem in one.problems]
    if any(type(split).look is Split.look for split in splits.values()):
        # A data set may have checks that its samples do not cover.
        problems += dataset.check(full=True)
    counted = {name: count(found, dataset.classes) for name, found in facts.items()}
    errors = [_file_error(problem) for problem in dict.fromkeys(problems)]
    return Report(dataset=dataset.name, splits=counted, findings=[*errors, *judge(Seen(dataset, facts, counted))])


def _split(dataset: Dataset, name: str) -> Split:
    with guard_process():
        split: object = dataset.split(name)
    if not isinstance(split, Split):
        what = f"data set '{dataset.name}': its split '{name}' is a {type(split).__name__}, not a Split"
        raise HarnessError(what, "let its class inherit harness.data.base.Split")
    return split


def _file_error(problem: Problem) -> Finding:
    return Finding(level="error", kind="file", where=problem.file, what=problem.what)


def _facts(
    splits: dict[str, Split], classes: int, progress: Callable[[int, int], None] | None
) -> dict[str, list[Facts]]:
    work = [(name, index) for name, split in splits.items() for index in range(len(split))]
    facts: dict[str, list[Facts]] = {name: [] for name in splits}

    def one(item: tuple[str, int]) -> Facts:
        split, index = splits[item[0]], item[1]
        with guard_process():
            look = split.look(index)
        return reduce(look, split.names[index], classes)

    with ThreadPoolExecutor() as pool:
        for done, ((name, _), found) in enumerate(zip(work, pool.map(one, work)), 1):
            facts[name].append(found)
            if progress:
                progress(done, len(work))
    return facts


# ------------------------------------------------------------------------------------------------------ one sample


def reduce(look: Look, name: str, classes: int) -> Facts:
    """Reduce a sample to facts."""
    stored = _stored(look.label) if look.label is not None else {}
    numbers = look.label is not None and look.label.palette is not None and not look.by_colour
    facts: dict[str, object] = {
        "name": name,
        "problems": look.problems,
        "stored": stored,
        "palette": look.label.palette if look.label is not None and numbers else None,
        "used": tuple(int(value) for value in stored) if numbers else (),
        "lossy": look.label.lossy if look.label is not None else "",
        "turned": (
            look.image.orientation if look.image is not None else 1,
            look.label.orientation if look.label is not None else 1,
        ),
        "transparent": look.image is not None and look.image.transparent,
    }
    if look.sample is not None:
        image, label = look.sample.image, look.sample.label
        some = image[::4, ::4].reshape(-1, 3).astype(np.float64) / 255
        facts |= {
            "problems": (*look.problems, *_out_of_range(label, classes, name)),
            "size": image.shape[:2],
            "classes": _counts(label),
            "mean": some.mean(0),
            "square": (some**2).mean(0),
            "digest": sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest(),
            "look_alike": look_alike(image),
        }
    return Facts(**facts)  # type: ignore[arg-type]


def _counts(values: np.ndarray) -> dict[int, int]:
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    return {int(value): int(count) for value, count in zip(*np.unique(values, return_counts=True))}


def _out_of_range(label: np.ndarray, classes: int, name: str) -> list[Problem]:
    bad = {value: pixels for value, pixels in _counts(label).items() if value >= classes and value != IGNORE}
    if not bad:
        return []
    shown = ", ".join(f"{value} in {pixels} pixels" for value, pixels in list(bad.items())[:5])
    return [Problem(name, f"label values out of range: {shown} (there are {classes} classes)")]


def _stored(label: LabelPicture) -> dict[str, int]:
    """Numbers or colours of a label file -> number of pixels."""
    if label.values is not None:
        return {str(value): pixels for value, pixels in _counts(label.values).items()}
    colours = label.colours().astype(np.uint32)
    packed = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
    return {f"#{value:06x}": pixels for value, pixels in _counts(packed).items()}


def look_alike(image: np.ndarray) -> np.ndarray | None:
    """(256,), bool: a difference hash, robust to differences in size, quality or a few pixels.

    None for images of nearly one colour, which would all be equal.
    """
    small = Image.fromarray(image).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    grey = np.asarray(small).astype(np.int16)
    if grey.std() < 4:
        return None
    return np.asarray(grey[:, 1:] > grey[:, :-1]).ravel()


# ------------------------------------------------------------------------------------------------------ one split


def count(facts: Sequence[Facts], classes: Sequence[str]) -> SplitReport:
    """The counts of a split, from the facts of its samples."""
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for one in facts:
        pixels.update(one.classes)
        images.update(one.classes.keys())
    read = [one for one in facts if one.size is not None]
    only_void = sum(set(one.classes) == {IGNORE} for one in read)
    means = [one.mean for one in read if one.mean is not None]
    squares = [one.square for one in read if one.square is not None]
    mean = np.mean(means, 0) if means else None
    std = np.sqrt(np.maximum(np.mean(squares, 0) - mean**2, 0)) if mean is not None else None
    sizes = Counter(f"{one.size[1]}x{one.size[0]}" for one in read if one.size is not None)
    return SplitReport(
        samples=len(facts),
        read=len(read),
        sizes=dict(sizes.most_common()),
        classes={name: Occurrence(pixels=pixels[i], images=images[i]) for i, name in enumerate(classes)},
        void=Occurrence(pixels=pixels[IGNORE], images=only_void),
        stored=_most_frequent(facts),
        mean=_triple(mean),
        std=_triple(std),
    )


def _most_frequent(facts: Sequence[Facts]) -> dict[str, Occurrence]:
    pixels: Counter[str] = Counter()
    images: Counter[str] = Counter()
    for one in facts:
        pixels.update(one.stored)
        images.update(one.stored.keys())
    return {value: Occurrence(pixels=count, images=images[value]) for value, count in pixels.most_common(STORED_SHOWN)}


def _triple(values: np.ndarray | None) -> tuple[float, float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]), float(values[2]))
