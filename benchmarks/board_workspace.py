"""A workspace of as many runs as one likes, as a lab's would be after a year: records with everything in them, and the
confusion matrices of every run. Nothing is trained; matrices are drawn once a level of skill, and many runs share them.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from results.metrics import COUNT_METRICS
from results.statistics import class_counts, class_iou

METHODS = (
    "none", "kd", "pixel_kd", "ka", "fitnet", "at", "skd", "ifvd", "cwd", "dsd", "cirkd", "mgd", "dist", "maskd",
    "afdcd", "ka_torchdistill",
)  # fmt: skip
STRIDES = (8, 16, 32, 4)
SEEDS = (0, 1, 2)
CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
IMAGES, LEVELS = 16, 400
STUDENTS = tuple(
    f"{family}:{encoder}/{head}"
    for head in ("deeplabv3plus", "linear", "unet", "fpn")
    for family, encoder in (("timm", "mobilenetv2_100"), ("timm", "resnet18"), ("smp", "mobilenet_v2"))
)
EVERY_SINGLE = 20
"""One setting in so many has a single seed."""


@dataclass(frozen=True)
class Evaluated:
    """The confusion matrices of a network of some skill, as the file beside a record, and what follows from them."""

    file: bytes
    digest: str
    metrics: dict[str, float]
    per_class: dict[str, float]


def evaluated_levels() -> list[Evaluated]:
    """One for each level of skill, from poor to good; the images are the same."""
    truth = np.random.default_rng(0)
    labelled = (truth.dirichlet(np.linspace(4, 0.4, len(CLASSES)), IMAGES) * 480 * 360 / 16).astype(np.int64) + 1
    names = np.array([f"frame{n:05d}" for n in range(IMAGES)])
    return [_evaluated(skill, labelled, names, place) for place, skill in enumerate(np.linspace(0.5, 0.95, LEVELS))]


def _evaluated(skill: float, labelled: Any, names: Any, place: int) -> Evaluated:
    noise = np.random.default_rng([1, place])
    right = np.clip(skill - np.linspace(0, 0.3, len(CLASSES)) + noise.normal(0, 0.02, labelled.shape), 0.05, 0.99)
    rates = np.repeat(((1 - right) / (len(CLASSES) - 1))[..., None], len(CLASSES), -1)
    rates[..., np.arange(len(CLASSES)), np.arange(len(CLASSES))] = right
    confusion = noise.multinomial(labelled, rates).astype(np.uint32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, confusion=confusion, names=names)
    counts = class_counts(confusion).sum(0)
    iou = dict(zip(CLASSES, map(float, class_iou(counts)), strict=True))
    values = {name: float(metric(counts)) for name, metric in COUNT_METRICS.items()}
    return Evaluated(buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest(), values, iou)


Point = dict[str, Any]


DATASETS = ("camvid", "cityscapes", "voc", "ade20k", "shapes")


def points(datasets: int = len(DATASETS)) -> Iterator[Point]:
    """Settings and what is trained under each, without an end: data sets, recipes, students, strides, methods, ..."""
    for recipe in itertools.count():
        for dataset in DATASETS[:datasets]:
            where = {"dataset": dataset, "recipe": f"{'quick' if recipe % 2 else 'long'}-{recipe:06x}"}
            teacher = _key(where)
            yield where | {"key": teacher, "method": "teacher", "student": "timm:resnet50/aspp", "stride": 8, "seed": 0}
            for place, (student, stride) in enumerate(itertools.product(STUDENTS, STRIDES)):
                seeds = SEEDS[:1] if place % EVERY_SINGLE == EVERY_SINGLE - 1 else SEEDS
                for method, seed in itertools.product(METHODS, seeds):
                    cell = where | {"method": method, "student": student, "stride": stride, "seed": seed}
                    yield cell | {"key": _key(cell), "taught_by": teacher}


def _key(what: Point) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]


def write(workspace: Path, runs: int, datasets: int = len(DATASETS)) -> None:
    """Write the stage folders of the first `runs` points; those that are there already are left alone."""
    levels = evaluated_levels()
    for number, point in enumerate(itertools.islice(points(datasets), runs)):
        folder = workspace / "stages" / str(point["key"])
        if (folder / "record.json").exists():
            continue
        folder.mkdir(parents=True)
        found = levels[_level(point)]
        (folder / "confusion.npz").write_bytes(found.file)
        (folder / "record.json").write_text(json.dumps(record(point, found, number), indent=1))


def _level(point: Point) -> int:
    """Which level of skill a run has: its setting's, its method's gain, and luck."""
    luck = np.random.default_rng(int(point["key"][:8], 16)).normal(0, 6)
    gain = 100 if point["method"] == "teacher" else 5 * METHODS.index(point["method"])
    return int(np.clip(150 - 25 * np.log2(point["stride"] / 4) + gain + luck, 0, LEVELS - 1))


def record(point: Point, found: Evaluated, number: int) -> dict[str, Any]:
    """The record of a run, as `json` writes it."""
    method, has_teacher = point["method"], point["method"] not in ("none", "teacher")
    macs = 4e10 / point["stride"] * (1 + 0.1 * len(point["student"]) % 1)
    day, minute = divmod(number, 1440)
    moment = f"2026-{1 + day // 28 % 12:02d}-{1 + day % 28:02d}T{minute // 60:02d}:{minute % 60:02d}"
    cell = {name: point[name] for name in ("dataset", "student", "stride", "method", "recipe", "seed")}
    step = 100 + 7 * METHODS.index(method) if method in METHODS else 300.0
    values = {name: {"value": value, **_declared(name)} for name, value in found.metrics.items()}
    return {
        "schema_version": 1,
        "key": point["key"],
        "kind": "teacher" if method == "teacher" else "student",
        "name": f"{method} {point['student']}@{point['stride']} seed {point['seed']}",
        "cell": cell | {"teacher": "timm:resnet50/aspp@8" if has_teacher else "", "weights": "imagenet-1a2b3c4d"},
        "spec": {
            "dataset": {"name": point["dataset"], "manifest": f"manifest-{point['dataset']}", "parameters": {}},
            "method": {"parts": [{"name": method, "version": 1, "parameters": {"tau": 1.0}}] if has_teacher else []},
            "recipe": {"iterations": 40000, "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9}, "crop": 512},
            "seed": point["seed"],
        },
        "parents": {"teacher": point["taught_by"]} if has_teacher else {},
        "parent_weights": {"teacher": "0" * 64} if has_teacher else {},
        "metrics": {
            "split": "val",
            "images": IMAGES,
            "miou": found.metrics["miou"],
            "pixel_accuracy": found.metrics["pixel_accuracy"],
            "per_class_iou": found.per_class,
            "classes": list(CLASSES),
            "best": {"split": "val", "miou": found.metrics["miou"], "iteration": 38000},
            "values": values,
        },
        "training": {
            "iterations": 40000,
            "samples_seen": 320000,
            "seconds": 40 * step,
            "step_ms": step,
            "loss_first": 2.1,
            "loss_last": 0.3,
            "terms": {method: {"weight": 1.0, "first": 1.9, "last": 0.6}} if has_teacher else {},
            "precision_asked": "bf16",
            "precision": "bf16",
            "channels_last": True,
            "own_ms": step - 30.0,
            "teacher_ms": 25.0,
            "loading_ms": 5.0,
            "shared_by": 1,
            "paid_s": 40 * step,
        },
        "cost": {
            "input_size": [512, 512],
            "macs": macs,
            "macs_by_operator": {"conv": macs, "batch_norm": macs * 0.02},
            "uncounted": {"aten::hardtanh_": 35},
            "parameters": 2_700_000,
            "latency": {
                "median_ms": macs / 2e9,
                "p95_ms": macs / 1.8e9,
                "runs": 50,
                "device": "GPU",
                "precision": "bf16",
            },
            "peak_memory_bytes": 900_000_000,
            "dilation": "timm output_stride",
        },
        "environment": {
            "revision": f"{number // 5000:040x}",
            "versions": {"torch": "2.14.0", "timm": "1.0.31", "python": "3.11"},
            "host": f"node{number % 16}",
            "device": "GPU",
            "threads": 8,
            "launcher": "slurm",
            "job": str(10**6 + number),
        },
        "attempts": [{"number": 1, "started": f"{moment}:00+00:00", "ended": f"{moment}:59+00:00", "outcome": "done"}],
        "artefacts": {"confusion.npz": found.digest, "weights.safetensors": hashlib.sha256(b"").hexdigest()},
        "reproduce": (
            f"harness sweep --methods {method} --students {point['student']} --strides {point['stride']} "
            f"--seeds {point['seed']} --dataset {point['dataset']} --recipe {point['recipe'].split('-')[0]}"
        ),
        "started": f"{moment}:00.000+00:00",
        "finished": f"{moment}:59.{number % 1000:03d}+00:00",
    }


def _declared(name: str) -> dict[str, Any]:
    info = COUNT_METRICS[name].info
    return {
        "heading": info.heading, "unit": info.unit, "direction": info.direction, "digits": info.digits,
        "summary": info.summary,
    }  # fmt: skip
