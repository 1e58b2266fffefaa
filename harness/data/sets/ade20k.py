"""`ade20k`: scenes of all kinds, the 150 classes of the scene parsing benchmark (Zhou et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from harness.data.base import IGNORE, Problem
from harness.data.folder.classes import Classes
from harness.data.folder.items import Item, Mask
from harness.data.official import OfficialDataset, generated_palette, numbered_classes, pair, pictures

_NAMES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door, table,
mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair, seat,
fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter,
sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow,
screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop,
stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower,
chandelier, awning, streetlight, booth, television receiver, airplane, dirt track, apparel, pole, land, bannister,
escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything,
swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name,
microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray,
ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""
FOLDERS = {"train": "training", "val": "validation"}


class Ade20k(OfficialDataset):
    """`images/training/*.jpg` and `annotations/training/*.png`, and `validation`; 0 is other and counts for nothing."""

    name = "ade20k"
    summary = "ADE20K's scene parsing benchmark: 20210 train, 2000 val, 150 classes"
    classes: tuple[str, ...] = tuple(name.strip() for name in _NAMES.replace("\n", " ").split(","))
    palette = generated_palette(150)
    recipe = "small-ade20k"
    places = ("ADEChallengeData2016", "ade/ADEChallengeData2016", "ADE20K")
    wanted = ("images/training", "images/validation", "annotations/training", "annotations/validation")
    source = "ADEChallengeData2016.zip of the scene parsing benchmark, not the full ADE20K with its folders of scenes"

    @property
    def eval_size(self) -> tuple[int, int]:
        return (512, 683)

    @property
    def table(self) -> Classes:
        return numbered_classes(self.classes, self.palette, {0: IGNORE} | {i + 1: i for i in range(150)})

    def find(self, split: str) -> tuple[Sequence[Item], Sequence[Problem]]:
        folder = FOLDERS[split]
        images, labels = (pictures(self.folder / part / folder) for part in ("images", "annotations"))
        return pair(images, labels, Mask, f"label in annotations/{folder}")
