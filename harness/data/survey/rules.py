"""Rules that find errors and suspicious properties of a whole data set, from the facts of a survey."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from harness.data.base import IGNORE
from harness.data.survey.facts import Facts, Seen
from harness.data.survey.report import Finding, Level, SplitReport

ALIKE = 16
"""Maximum distance of the hashes (256 bits) of near-duplicate images; two street scenes differ in 70 or more."""
LEAK = 0.01
"""Fraction of a split that is also in `train` from which on it is an error instead of a warning."""
MUCH_VOID = 0.5
FAR_MEAN, FAR_STD = 0.2, 2.0
"""Images differ from the weights' data if a channel's mean differs this much, or its deviation by this factor."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def judge(seen: Seen) -> list[Finding]:
    """The findings of all rules."""
    return [finding for rule in RULES for finding in rule(seen)]


def _finding(level: Level, kind: str, where: str, what: str) -> Finding:
    return Finding(level=level, kind=kind, where=where, what=what)


def _images(found: Sequence[object]) -> str:
    return f"{len(found)} image{'s' * (len(found) != 1)}"


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few of some names, and the number of others."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _matters(seen: Seen, split: str) -> bool:
    """Whether a run is worthless if this split is."""
    return split in ("train", seen.dataset.splits[-1])


# --------------------------------------------------------------------------------------------------------- classes


def nothing_to_count(seen: Seen) -> Iterator[Finding]:
    """Splits in which every pixel is void, or all others belong to one class."""
    for name, split in seen.splits.items():
        if not split.read:
            continue
        there = [cls for cls, found in split.classes.items() if found.pixels]
        if not there:
            what = f"every pixel of every label is void{_why_void(split)}"
            yield _finding("error", "only-void", name, what)
        elif len(there) == 1:
            level: Level = "error" if _matters(seen, name) else "warning"
            yield _finding(
                level, "one-class", name, f"its labels contain only one class, '{there[0]}'{_why_void(split)}"
            )


def _why_void(split: SplitReport) -> str:
    if void := _void_of_binary(split):
        return f": the files contain 0 and 255, a binary mask in which {void} is read as void; declare it as a class"
    if not split.void.pixels:
        return ""
    counted = sum(found.pixels for found in split.classes.values())
    rest = f", and {split.void.pixels / (split.void.pixels + counted):.0%} of the pixels are void" if counted else ""
    values = f"; the files contain {some(split.stored, 6)}" if split.stored else ""
    return f"{rest}{values}"


def _void_of_binary(split: SplitReport) -> str:
    """The number that is read as void, by its pixels, if files contain only 0 and 255; else ""."""
    if set(split.stored) != {"0", "255"} or not split.void.pixels:
        return ""
    which = [number for number, found in split.stored.items() if found.pixels == split.void.pixels]
    return which[0] if len(which) == 1 else "one of them"


def binary_masks(seen: Seen) -> Iterator[Finding]:
    """All files contain 0 and 255 only, and one of them is void."""
    stored = {value for split in seen.splits.values() for value in split.stored}
    void = next(filter(None, map(_void_of_binary, seen.splits.values())), "")
    if stored == {"0", "255"} and void:
        what = f"all label files contain only 0 and 255: a binary mask, in which {void} is read as void"
        yield _finding("error", "binary-mask", "labels", f"{what}; declare it as a class")


def void_images(seen: Seen) -> Iterator[Finding]:
    for name, facts in seen.facts.items():
        only = [one.name for one in facts if set(one.classes) == {IGNORE}]
        if only and len(only) < seen.splits[name].read:
            what = f"{len(only)} of {len(facts)} labels are entirely void: {some(only)}"
            yield _finding("warning", "void-images", name, what)


def much_void(seen: Seen) -> Iterator[Finding]:
    for name, split in seen.splits.items():
        counted = sum(found.pixels for found in split.classes.values())
        if counted and (share := split.void.pixels / (split.void.pixels + counted)) > MUCH_VOID:
            yield _finding("warning", "much-void", name, f"{share:.0%} of its label pixels are void")


def absent_classes(seen: Seen) -> Iterator[Finding]:
    """Declared classes without a pixel in all splits, in training, or in the reported split."""
    there = {name: {c for c, found in split.classes.items() if found.pixels} for name, split in seen.splits.items()}
    if not any(split.read for split in seen.splits.values()):
        return
    anywhere = set().union(*there.values())
    never = [cls for cls in seen.dataset.classes if cls not in anywhere]
    if never:
        what = f"{_classes(never)} no label of any split: is the list of classes right?"
        yield _finding("warning", "class-never", "classes", what)
    for name, found in there.items():
        missing = [cls for cls in seen.dataset.classes if cls in anywhere and cls not in found]
        if not missing or not found:
            continue
        effect = ""
        if name == "train":
            effect = ": it cannot be learned" if len(missing) == 1 else ": they cannot be learned"
        elif name == seen.dataset.splits[-1]:
            effect = f": the mIoU is over the other {len(found)}"
        yield _finding("warning", "class-missing", name, f"{_classes(missing)} none of its labels{effect}")


def _classes(names: Sequence[str]) -> str:
    return f"class '{names[0]}' occurs in" if len(names) == 1 else f"{len(names)} classes ({some(names, 8)}) occur in"


def shifted_numbers(seen: Seen) -> Iterator[Finding]:
    """Numbers that exceed the classes by one: they begin at 1, or 0 is not a class."""
    count, everything = len(seen.dataset.classes), [one for facts in seen.facts.values() for one in facts]
    with_it = [one for one in everything if str(count) in one.stored]
    if not any(one.problems for one in with_it) or any(one.size is not None and not one.problems for one in with_it):
        return  # it occurs nowhere, or belongs to a class
    values = {value for split in seen.splits.values() for value in split.stored}
    numbers = {int(value) for value in values if not value.startswith("#")}
    if count in numbers and not numbers & (set(range(count + 1, IGNORE)) | set(range(IGNORE + 1, 2**16))):
        first = min(numbers)
        guess = "do they begin at 1?" if first else "is one of them not a class, such as 0 for unlabelled?"
        what = f"the files contain the numbers {first} to {count}, but {count} classes are declared: {guess}"
        yield _finding("error", "shifted", "labels", what)


# ------------------------------------------------------------------------------------------------------ label files


def lossy_labels(seen: Seen) -> Iterator[Finding]:
    for name, facts in seen.facts.items():
        lossy = [one for one in facts if one.lossy and not one.problems]
        if lossy:
            kinds, names = some(sorted({one.lossy for one in lossy})), some(one.name for one in lossy)
            what = f"{len(lossy)} label files are {kinds}, which changes values along borders: {names}"
            yield _finding("warning", "lossy-labels", name, what)


def palettes(seen: Seen) -> Iterator[Finding]:
    """Palettes that disagree. If one colour has several numbers, the colours are the labels, not the numbers."""
    colours: dict[int, dict[tuple[int, ...], str]] = defaultdict(dict)
    for facts in seen.facts.values():
        for one in facts:
            for index in one.used if one.palette is not None else ():
                if one.palette is not None and index < len(one.palette):
                    colours[index].setdefault(tuple(map(int, one.palette[index])), one.name)
    differing = {index: found for index, found in colours.items() if len(found) > 1}
    if differing:
        yield _palettes_differ(colours, differing)
    elif colours:
        yield from _against_declared(seen, {index: next(iter(found)) for index, found in colours.items()})


def _palettes_differ(
    colours: dict[int, dict[tuple[int, ...], str]], differing: dict[int, dict[tuple[int, ...], str]]
) -> Finding:
    index, found = next(iter(sorted(differing.items())))
    (one, first), (other, second) = list(found.items())[:2]
    said = f"number {index} is {_hex(one)} in {first} and {_hex(other)} in {second}"
    for colour in {colour for found in differing.values() for colour in found}:
        places = [(i, found[colour]) for i, found in sorted(colours.items()) if colour in found]
        if len(places) > 1:
            (i, first), (j, second) = places[:2]
            said = f"{_hex(colour)} is number {i} in {first} and number {j} in {second}"
            what = f"palettes differ between files ({said}): the colours are the labels, and not the numbers"
            return _finding("error", "palettes", "labels", what)
    return _finding("warning", "palettes", "labels", f"palettes differ between files: {said}")


def _against_declared(seen: Seen, stored: dict[int, tuple[int, ...]]) -> Iterator[Finding]:
    """Files that use declared colours for other classes, so that the numbers are probably wrong."""
    declared = [tuple(colour) for colour in seen.dataset.palette]
    swapped = [
        (index, declared.index(colour))
        for index, colour in sorted(stored.items())
        if index < len(declared) and colour != declared[index] and colour in declared
    ]
    if len(swapped) > 1:
        index, other = swapped[0]
        names = seen.dataset.classes
        what = f"the files' palette gives number {index} ('{names[index]}') the declared colour of '{names[other]}'"
        yield _finding("warning", "palette-declared", "labels", f"{what}: are the classes in the right order?")


def _hex(colour: tuple[int, ...]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


# ---------------------------------------------------------------------------------------------------------- images


def turned(seen: Seen) -> Iterator[Finding]:
    for name, facts in seen.facts.items():
        alone = [one.name for one in facts if one.size is not None and one.turned[0] != 1 and one.turned[1] == 1]
        if alone:
            what = f"{_images(alone)} rotated by EXIF orientation, but labels not: {some(alone)}"
            yield _finding("warning", "turned", name, f"{what}; look at them with --sheet")


def transparent(seen: Seen) -> Iterator[Finding]:
    for name, facts in seen.facts.items():
        found = [one.name for one in facts if one.transparent]
        if found:
            what = f"{_images(found)} with transparent pixels, whose colour is used: {some(found)}"
            yield _finding("note", "transparent", name, what)


def sizes(seen: Seen) -> Iterator[Finding]:
    for name, split in seen.splits.items():
        if len(split.sizes) > 1:
            shown = some((f"{size} ({count})" for size, count in split.sizes.items()), 4)
            yield _finding("note", "sizes", name, f"its images have {len(split.sizes)} sizes: {shown}")


def unlike_the_weights(seen: Seen) -> Iterator[Finding]:
    split = seen.splits.get("train")
    if seen.dataset.weights != "imagenet" or split is None or split.mean is None or split.std is None:
        return
    off = max(abs(a - b) for a, b in zip(split.mean, IMAGENET_MEAN))
    factor = max(max(a / b, b / max(a, 1e-6)) for a, b in zip(split.std, IMAGENET_STD))
    if off > FAR_MEAN or factor > FAR_STD:
        mean, std = (" ".join(f"{value:.2f}" for value in values) for values in (split.mean, split.std))
        what = f"its images have mean {mean} and deviation {std}, far from ImageNet's 0.49 0.46 0.41 and 0.23 0.22 0.23"
        yield _finding("warning", "unlike-weights", "train", f"{what}: initial weights from ImageNet may not suit them")


def same_images(seen: Seen) -> Iterator[Finding]:
    """Duplicate images within a split or in two splits."""
    where: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for split, facts in seen.facts.items():
        for one in facts:
            if one.digest:
                where[one.digest].append((split, one.name))
    names = list(seen.facts)
    for i, first in enumerate(names):
        twice = [found for found in where.values() if sum(split == first for split, _ in found) > 1]
        if twice:
            shown = some("/".join(name for split, name in found if split == first) for found in twice)
            what = f"{_images(twice)} stored more than once: {shown}"
            yield _finding("warning", "same-image", first, what)
        for second in names[i + 1 :]:
            both = [found for found in where.values() if {first, second} <= {split for split, _ in found}]
            if both:
                yield _in_both(seen, first, second, [dict(reversed(found)) for found in both])


def _in_both(seen: Seen, first: str, second: str, both: Sequence[dict[str, str]]) -> Finding:
    share = len(both) / max(seen.splits[second].read, 1)
    level: Level = "error" if first == "train" and share >= LEAK else "warning"
    shown = some(f"{found[first]} = {found[second]}" for found in both)
    return _finding(level, "leak", second, f"{_images(both)} ({share:.1%}) also in {first}: {shown}")


def alike_images(seen: Seen) -> Iterator[Finding]:
    """Images of another split that are near-duplicates of `train`: frames of one video, crops, other qualities."""
    train = [one for one in seen.facts.get("train", []) if one.look_alike is not None]
    same = {one.digest for one in train}
    for name, facts in seen.facts.items():
        others = [one for one in facts if one.look_alike is not None and one.digest not in same]
        if name == "train" or not others or not train:
            continue
        nearest, distance = nearest_alike(others, train)
        alike = [(one, train[i]) for one, i, far in zip(others, nearest, distance) if far <= ALIKE]
        if alike:
            shown = some(f"{one.name} ~ {other.name}" for one, other in alike)
            what = f"{_images(alike)} ({len(alike) / len(facts):.1%}) almost equal to one of train: {shown}"
            yield _finding("warning", "alike", name, what)


def nearest_alike(others: Sequence[Facts], train: Sequence[Facts], chunk: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """For each of `others`, the index of the most similar image of `train` and the number of differing bits."""
    signs = np.stack([one.look_alike for one in train if one.look_alike is not None]).astype(np.float32) * 2 - 1
    nearest, distance = [], []
    for start in range(0, len(others), chunk):
        part = np.stack([one.look_alike for one in others[start : start + chunk] if one.look_alike is not None])
        agreement = (part.astype(np.float32) * 2 - 1) @ signs.T
        best = agreement.argmax(1)
        nearest.append(best)
        distance.append((signs.shape[1] - agreement[np.arange(len(best)), best]) / 2)
    return np.concatenate(nearest), np.concatenate(distance)


RULES: tuple[Callable[[Seen], Iterator[Finding]], ...] = (
    nothing_to_count,
    binary_masks,
    shifted_numbers,
    palettes,
    absent_classes,
    void_images,
    much_void,
    lossy_labels,
    turned,
    same_images,
    alike_images,
    unlike_the_weights,
    transparent,
    sizes,
)
