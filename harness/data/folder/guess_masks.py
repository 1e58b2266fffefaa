"""Guessing layouts of images with masks: which folder or suffix holds which, and where splits are named."""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from harness.data.decode import SUFFIXES, decode_label
from harness.data.folder.guess import SPLIT_WORDS, Guess, fraction_splits, split_of
from harness.data.folder.guess_classes import MANY, guess_classes, look
from harness.data.folder.masks import Key, Template
from harness.data.folder.splits import LISTS, Names, fields, read_list
from harness.data.folder.tree import Tree
from harness.errors import HarnessError

IMAGE_WORDS = frozenset({
    "image", "images", "img", "imgs", "im", "jpegimages", "pngimages", "rgb", "leftimg8bit", "photo", "photos",
    "picture", "pictures", "input", "inputs", "frame", "frames", "original", "originals", "sat",
})  # fmt: skip
MASK_WORDS = frozenset({
    "mask", "masks", "label", "labels", "annotation", "annotations", "annot", "annots", "anno", "gt",
    "groundtruth", "ground_truth", "seg", "segs", "segmentation", "segmentations", "segmentationclass",
    "segmentationclassaug", "labelids", "labeltrainids", "target", "targets", "labels_class", "gtfine", "matte",
    "manual", "manual1", "p", "l",
})  # fmt: skip
OTHER_WORDS = frozenset({
    "instance", "instances", "instanceids", "object", "segmentationobject", "depth", "overlay", "overlays", "vis",
    "color", "colors", "colormap", "colormaps", "human", "visualization",
})  # fmt: skip
"""Words of pictures that come beside masks and are none."""
_SPLIT = "|".join(sorted(SPLIT_WORDS, key=len, reverse=True))
_ROLES = "|".join(sorted(IMAGE_WORDS | MASK_WORDS, key=len, reverse=True))
_AFFIX = re.compile(
    r"(?P<before>(?:mask|label|gt|seg|img|image|im)[_-])?(?P<name>.+?)(?P<after>(?:[_\-. ][A-Za-z][A-Za-z0-9]*)+)?"
)


def words_of(text: str) -> set[str]:
    """Words of a path, in lower case, without the words of splits in front or behind."""
    found = set()
    for part in re.split(r"[/\s.{}]+", text.lower()):
        found |= {part, *re.split(r"[_-]+", part)}
        bare = re.fullmatch(rf"(?:{_SPLIT})?[_-]?(.+?)[_-]?(?:{_SPLIT})?", part)
        found |= {bare[1]} if bare else set()
    return found


@dataclass(frozen=True)
class Family:
    """Pictures whose paths differ in split and name alone."""

    template: str
    files: Mapping[Key, str]
    before: str = ""
    after: str = ""
    """What stands before and after `{name}` in the last part of the template."""

    def named(self, before: str, after: str) -> Family:
        """The same files, with these parts of the template taken into the names."""
        files = {}
        for (split, name), file in self.files.items():
            folder, base = posixpath.split(name)
            files[split, posixpath.join(folder, f"{before}{base}{after}")] = file
        template = self.template.replace(f"{before}{{name}}{after}", "{name}")
        return Family(template, files, self.before[: -len(before) or None], self.after[len(after) :])

    @property
    def words(self) -> set[str]:
        return words_of(self.template.replace("{split}", "").replace("{name}", ""))


def split_parts(tree: Tree) -> frozenset[tuple[str, str]]:
    """What stands around the words of splits in names of folders that exist for two of them: ("ISIC_", "_Data")."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for folder in {posixpath.dirname(file) for file in tree.files}:
        for part in folder.split("/"):
            if match := _split_part(part):
                found[match["a"], match["b"]].add(SPLIT_WORDS[match["split"].lower()])
    return frozenset(around for around, splits in found.items() if len(splits) > 1)


def _split_part(part: str) -> re.Match[str] | None:
    """The word of a split in the name of a folder."""
    return re.fullmatch(rf"(?P<a>(?:.*[^a-zA-Z])?)(?P<split>{_SPLIT})(?P<b>[^a-z].*|(?i:{_ROLES})?)", part, re.I)


def folder_template(folder: str, around: frozenset[tuple[str, str]] = frozenset()) -> tuple[str, str, str]:
    """(template, split, rest) of a folder: `a/train/images/x` -> ("a/{split}/images", "train", "x").

    Args:
        around: what may stand around the word of a split, beside words of images and masks: see `split_parts`.
    """
    parts = [part for part in folder.split("/") if part]
    split, last = "", 0
    done = []
    for i, part in enumerate(parts):
        match = _split_part(part)
        rest = (match["a"] + match["b"]).strip("_-").lower() if match else ""
        known = not rest or rest in IMAGE_WORDS | MASK_WORDS | OTHER_WORDS or rest.isdigit()
        if match and not split and (known or (match["a"], match["b"]) in around):
            split = match["split"]
            part = f"{match['a']}{{split}}{match['b']}"
            last = i + 1
        elif words_of(part) & (IMAGE_WORDS | MASK_WORDS | OTHER_WORDS) - {"p", "l", "im"}:
            last = i + 1
        done.append(part)
    return "/".join(done[:last]), split, "/".join(parts[last:])


def families(tree: Tree) -> list[Family]:
    """All families of the folder's pictures."""
    places: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    around = split_parts(tree)
    for file in tree.pictures:
        folder, base = posixpath.split(file)
        template, split, rest = folder_template(folder, around)
        stem = posixpath.splitext(base)[0]
        places[template].append((split, posixpath.join(rest, stem), file))
        if rest:  # the folder may as well be the images' own, and no part of their names
            places[posixpath.join(template, rest)].append((split, stem, file))
    if len(places) > 200:
        places = {place: entries for place, entries in places.items() if len(entries) > 0.02 * len(tree.pictures)}
    return [family for place, entries in sorted(places.items()) for family in _by_affix(place, entries)]


def _by_affix(place: str, entries: Sequence[tuple[str, str, str]]) -> Iterator[Family]:
    """Families of one folder by what is common to the beginnings and ends of names."""
    affixes = {stem: list(_affixes(posixpath.basename(stem))) for _, stem, _ in entries}
    counts = Counter(affix for found in affixes.values() for affix in found)
    common = {affix for affix, count in counts.items() if count >= max(2, 0.3 * len(entries))}
    grouped: dict[tuple[str, str], list[tuple[Key, str]]] = defaultdict(list)
    for split, stem, file in entries:
        before, after = next((affix for affix in affixes[stem] if affix in common or _says_a_role(affix)), ("", ""))
        folder, base = posixpath.split(stem)
        name = posixpath.join(folder, base[len(before) : len(base) - len(after)])
        grouped[before, after].append(((split, name), file))
    for (before, after), found in grouped.items():
        template = posixpath.join(place, f"{before}{{name}}{after}")
        if after.lower().endswith(tuple(SUFFIXES)):  # a.jpg.png is the mask of a.jpg
            template += posixpath.splitext(found[0][1])[1]
        if len({key for key, _ in found}) == len(found):
            yield Family(template, dict(found), before, after)
            continue
        by_suffix: dict[str, dict[Key, str]] = defaultdict(dict)
        for key, file in found:
            by_suffix[posixpath.splitext(file)[1].lower()][key] = file
        for suffix, files in by_suffix.items():
            yield Family(template + suffix, files, before, after)


def _affixes(base: str) -> Iterator[tuple[str, str]]:
    """Possible (prefix, suffix) of a name, the longest suffix first; none with a counter in it, as in `_frame0012`."""
    match = _AFFIX.fullmatch(base)
    before, words = (
        (match["before"] or "", re.findall(r"[_\-. ][^_\-. ]+", match["after"] or "")) if match else ("", [])
    )
    for first in range(len(words) + 1):
        if not any(re.search(r"\d\d$", word) for word in words[first:]):
            yield before, "".join(words[first:])


def _says_a_role(affix: tuple[str, str]) -> bool:
    """Whether every word of an affix speaks of images or masks."""
    words = [word for word in re.split(r"[_\-. ]+", " ".join(affix).lower()) if word]
    return bool(words) and all(words_of(word) & (IMAGE_WORDS | MASK_WORDS | OTHER_WORDS) for word in words)


# ------------------------------------------------------------------------------------------------- the best pair


@lru_cache(maxsize=4096)
def mask_like(path: Path) -> str:
    """Whether a picture has few numbers or colours, as masks have: "numbers", "colours", "constant", or "" for no."""
    try:
        picture = decode_label(path)
    except HarnessError:
        return ""
    if picture.lossy:
        return ""
    if picture.rgb is not None:
        pixels = picture.rgb.astype(np.uint32)
        count, kind = len(np.unique(pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2])), "colours"
    else:
        count, kind = len(np.unique(np.asarray(picture.values))), "numbers"
    if count == 1:
        return "constant"
    return kind if count <= MANY or picture.palette is not None else ""


def _points(tree: Tree, images: Family, masks: Family) -> int:
    """How much speaks for two families being images and masks."""
    some = [key for key in masks.files if key in images.files]
    some = [some[0], some[len(some) // 2], some[-1]]
    kinds = [mask_like(tree.path(masks.files[key])) for key in some]
    imaged = sum(mask_like(tree.path(images.files[key])) == "" for key in some)
    points = 2 * (sum(kind != "" for kind in kinds) >= 2) + 2 * (imaged >= 2)
    points += kinds.count("numbers") >= 2
    points -= 4 * (kinds.count("constant") == len(kinds))
    points += 2 * bool(masks.words & MASK_WORDS) + bool(images.words & IMAGE_WORDS)
    points -= 3 * bool(masks.words & OTHER_WORDS) + 4 * bool(images.words & MASK_WORDS)
    return points - 3 * bool(images.words & OTHER_WORDS) - 2 * bool(masks.words & IMAGE_WORDS - MASK_WORDS)


def best_pair(tree: Tree) -> tuple[Family, Family] | None:
    """The families that are most likely images and their masks."""
    found = families(tree)
    pairs = [(a, b, len(a.files.keys() & b.files.keys())) for a in found for b in found if a is not b]
    pairs = [pair for pair in pairs if pair[2]]
    if not pairs:
        return None
    most = max(common for *_, common in pairs)
    scored = [(_points(tree, a, b), common, a, b) for a, b, common in pairs if common >= 0.5 * most]
    points, _, images, masks = max(scored, key=lambda entry: entry[:2])
    if points <= 0:
        return None
    before = images.before if images.before == masks.before else ""
    after = images.after if images.after == masks.after else ""
    return images.named(before, after), masks.named(before, after)


def guess_masks(tree: Tree) -> Guess | None:
    """Two families of pictures with common names."""
    pair = best_pair(tree)
    if pair is None:
        return None
    images, masks = pair
    both = [key for key in images.files if key in masks.files]
    guess = Guess({"layout": "masks", "images": images.template, "masks": masks.template})
    guess.note("images", f"{len(images.files)} images, {len(masks.files)} masks, {len(both)} pairs")
    _splits(guess, tree, both, images, masks)
    _unmatched(guess, images, masks)
    guess_classes(guess, tree, look([(tree.path(images.files[k]), tree.path(masks.files[k])) for k in both]))
    return guess


def _unmatched(guess: Guess, images: Family, masks: Family) -> None:
    alone = [images.files[key] for key in images.files if key not in masks.files]
    alone += [masks.files[key] for key in masks.files if key not in images.files]
    if alone:
        guess.fields["unmatched"] = "skip"
        guess.doubt("unmatched", f"{len(alone)} files have no partner and are skipped: {alone[0]}, ...")


def _splits(guess: Guess, tree: Tree, both: Sequence[Key], images: Family, masks: Family) -> None:
    """Splits by folders, else by lists, else drawn."""
    folders = Counter(key[0] for key in both if key[0])
    by_split: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        by_split[SPLIT_WORDS[folder.lower()]].append(folder)
    if "train" in by_split and len(by_split) > 1:
        order = [name for name in ("train", "val", "test") if name in by_split]
        guess.fields["splits"] = {n: by_split[n][0] if len(by_split[n]) == 1 else by_split[n] for n in order}
        counts = ", ".join(f"{name} {sum(folders[f] for f in by_split[name])}" for name in order)
        guess.note("splits", f"by folders: {counts}")
        return
    if len(folders) == 1:
        folder = next(iter(folders))
        for field in ("images", "masks"):
            guess.fields[field] = guess.fields[field].replace("{split}", folder)
        guess.doubt("splits", f"only the folder '{folder}' has masks")
    names = ["/".join(filter(None, key)) if len(folders) > 1 else key[1] for key in both]
    lists = find_lists(tree, names, {name: images.files[key] for name, key in zip(names, both)})
    if lists:
        guess.fields["splits"] = lists
        guess.note("splits", "by lists of names")
        return
    fraction_splits(guess, names)


def find_lists(tree: Tree, names: Sequence[str], images: Mapping[str, str]) -> dict[str, str] | None:
    """Lists by split, whose lines are names of images: train.txt, val.txt, ..."""
    lookup = Names(names, images)
    found: dict[str, str] = {}
    for file in tree.files:
        stem, suffix = posixpath.splitext(posixpath.basename(file))
        split = SPLIT_WORDS.get(stem.lower())
        if suffix.lower() not in LISTS or split is None or split in found:
            continue
        try:
            lines = read_list(tree, file)
        except HarnessError:
            continue
        if lines and sum(lookup.find(line) is not None for line in lines) >= 0.5 * len(lines):
            found[split] = file
    order: dict[str, str] = {name: found[name] for name in ("train", "val", "test") if name in found}
    return order if "train" in order and len(order) > 1 else None


# ------------------------------------------------------------------------------------------ VOC, CVAT, pair lists


def guess_voc(tree: Tree) -> Guess | None:
    """Pascal VOC, and CVAT's "Segmentation mask 1.1": SegmentationClass beside ImageSets/Segmentation."""
    place = next((re.split(r"(?:^|/)SegmentationClass/", file)[0] for file in tree.pictures
                  if re.search(r"(?:^|/)SegmentationClass/", file)), None)  # fmt: skip
    if place is None:
        return None
    masks = posixpath.join(place, "SegmentationClass/{name}")
    mask_files = Template(masks).match(tree.pictures)
    images, image_files = _voc_images(tree, place, mask_files)
    both = [key for key in image_files if key in mask_files]
    if not both:
        raise HarnessError(
            f"{tree.root}: SegmentationClass/ has masks, but there are no images of their names",
            "CVAT leaves images out unless 'save images' is ticked: put them into JPEGImages/",
        )
    guess = Guess({"layout": "masks", "images": images, "masks": masks})
    guess.note("images", f"Pascal VOC's layout: {len(mask_files)} masks, {len(both)} with an image")
    names = [key[1] for key in both]
    folder = posixpath.join(place, "ImageSets/Segmentation")
    lists = [file for file in tree.files if posixpath.dirname(file) == folder and file.endswith(".txt")]
    _voc_splits(guess, tree, lists, names, {key[1]: image_files[key] for key in both})
    pairs = [(tree.path(image_files[key]), tree.path(mask_files[key])) for key in both]
    guess_classes(guess, tree, look(pairs), near=posixpath.join(place, "labelmap"))
    return guess


def _voc_images(tree: Tree, place: str, masks: Mapping[Key, str]) -> tuple[str, Mapping[Key, str]]:
    """JPEGImages, or whichever folder has images of the masks' names."""
    folders = Counter(posixpath.dirname(file) for file in tree.pictures)
    candidates = [posixpath.join(place, "JPEGImages"), posixpath.join(place, "JPEGImages", "default"), *folders]
    best: tuple[int, str, Mapping[Key, str]] = (0, "", {})
    for folder in candidates:
        if words_of(folder) & {"segmentationclass", "segmentationobject", "segmentationclassaug"}:
            continue
        files = Template(posixpath.join(folder, "{name}")).match(tree.pictures)
        common = len(files.keys() & masks.keys())
        if common > best[0]:
            best = common, posixpath.join(folder, "{name}"), files
    return best[1], best[2]


def _voc_splits(
    guess: Guess, tree: Tree, lists: Sequence[str], names: Sequence[str], images: Mapping[str, str]
) -> None:
    lookup = Names(names, images)
    splits: dict[str, str] = {}
    for file in lists:
        split = split_of(posixpath.splitext(posixpath.basename(file))[0])
        lines = read_list(tree, file)
        known = sum(lookup.find(line) is not None for line in lines)
        if split and known == len(lines) > 0:
            splits[split] = file
        elif split:
            guess.note("splits", f"left out: {file}, of whose {len(lines)} names {len(lines) - known} have no mask")
    if "train" in splits and len(splits) > 1:
        guess.fields["splits"] = {name: splits[name] for name in ("train", "val", "test") if name in splits}
        return
    fraction_splits(guess, names)


def guess_pairs(tree: Tree) -> Guess | None:
    """Lists whose lines are an image and a mask."""
    found: dict[str, str] = {}
    every: list[tuple[Path, Path]] = []
    for file in tree.files:
        if not file.lower().endswith(LISTS) or not tree.holds(file, 50_000_000):
            continue
        try:
            pairs = _pairs(tree, file)
        except HarnessError:
            continue
        split = split_of(posixpath.splitext(posixpath.basename(file))[0])
        if pairs and split and split not in found:
            found[split] = file
            every += pairs
    if "train" not in found or len(found) < 2:
        return None
    guess = Guess({"layout": "masks", "splits": {n: found[n] for n in ("train", "val", "test") if n in found}})
    guess.note("splits", f"lists of pairs, {len(every)} in all")
    guess_classes(guess, tree, look(every))
    return guess


def _pairs(tree: Tree, file: str) -> list[tuple[Path, Path]]:
    """Pairs of a list, if its first lines are pairs."""
    pairs = []
    for i, line in enumerate(read_list(tree, file)):
        parts = fields(line, lambda path: tree.exact(path) is not None)
        files = [tree.find(part) for part in parts]
        if len(files) == 2 and files[0] and files[1] and {files[0], files[1]} <= set(tree.pictures):
            pairs.append((tree.path(files[0]), tree.path(files[1])))
        elif i < 5:
            return []
    return pairs
