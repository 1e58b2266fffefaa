"""What a folder most likely holds: every layout that is known is tried in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.data.folder.guess import Guess
from harness.data.folder.guess_annotations import guess_coco, guess_label_studio, guess_labelme, guess_yolo
from harness.data.folder.guess_masks import guess_masks, guess_pairs, guess_voc
from harness.data.folder.tree import Tree
from harness.errors import HarnessError

Guesser = Callable[[Tree], "Guess | None"]


def guess_layout(root: Path) -> Guess:
    """What a folder most likely holds.

    Raises:
        HarnessError: nothing that is known; the sentence says what was looked for.
    """
    if not root.is_dir():
        raise HarnessError(f"{root} is not a folder")
    tree = Tree(root)
    guessers: Sequence[Guesser] = (
        guess_coco, guess_label_studio, guess_labelme, guess_yolo, guess_voc, guess_pairs, guess_masks,
    )  # fmt: skip
    for guesser in guessers:
        found = guesser(tree)
        if found is not None:
            found.fields = {"name": root.resolve().name, **found.fields}
            return found
    raise HarnessError(
        f"{root}: its {len(tree.pictures)} pictures and {len(tree.files)} files match no known layout",
        "looked for images with masks beside them (images/ and masks/, a_mask.png, lists of pairs), VOC, CVAT, COCO's, "
        "YOLO's, Labelme's and Label Studio's labels; docs/data.md explains how to describe others",
    )
