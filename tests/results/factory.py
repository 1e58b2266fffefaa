"""Valid records without any training: confusion matrices drawn from a model of a segmenter, the rest made to fit."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from results.metrics import STATE_METRICS, mean_of_ratios
from results.pictures import INDEX, Picture, index_text
from results.record import (
    Attempt,
    Best,
    Cell,
    Cost,
    Environment,
    Latency,
    Metrics,
    Record,
    TermLog,
    Training,
)
from results.statistics import class_counts, iou, miou, pixel_accuracy

CLASSES = ("background", "road", "pole", "car", "sign", "person")
GMACS = {4: 29.9, 8: 7.93, 16: 2.51, 32: 1.55}
GAIN = {"none": 0.0, "kd": 0.012, "pixel_kd": 0.015, "ka": 0.03, "teacher": 0.16}
RESNET = "timm:resnet18/aspp"


def record_of(key: str) -> Record:
    """A valid record of a stage."""
    return Fake().record().model_copy(update={"key": key})


def confusion(skill: float, images: int, seed: int, classes: int = len(CLASSES)) -> np.ndarray:
    """(N, K, K) matrices of a network that is right about a pixel with a chance of about `skill`.

    The images depend on nothing but their number, so that two networks see the same ones.
    """
    truth = np.random.default_rng(0)
    noise = np.random.default_rng(seed)
    frequency = truth.dirichlet(np.linspace(4, 0.4, classes), size=images)
    labelled = (frequency * 96 * 96).astype(np.int64) + 1
    hardness = np.linspace(0.0, 0.25, classes) + truth.normal(0, 0.03, (images, 1))
    right = np.clip(skill - hardness + noise.normal(0, 0.01, (images, classes)), 0.05, 0.995)
    matrices = np.zeros((images, classes, classes), dtype=np.uint32)
    for n in range(images):
        for k in range(classes):
            rates = np.full(classes, (1 - right[n, k]) / (classes - 1))
            rates[k] = right[n, k]
            matrices[n, k] = noise.multinomial(labelled[n, k], rates)
    return matrices


@dataclass(frozen=True)
class Fake:
    """One run to be made. Everything that is not said is made up consistently."""

    method: str = "none"
    stride: int = 16
    seed: int = 0
    student: str = "timm:mobilenetv2_100/linear"
    dataset: str = "shapes"
    recipe: str = "quick-1a2b3c"
    teacher: str = RESNET + "@8"
    gain: float | None = None
    images: int = 12
    numerics: str = ""
    manifest: str = "data-1"
    teacher_key: str = "teacher-0"
    version: int = 1
    attempts: int = 1
    recipe_fields: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        """Twenty hexadecimal digits, as a stage's."""
        said = repr(self) + (json.dumps(self.recipe_fields) if self.recipe_fields else "")
        return hashlib.sha256(said.encode()).hexdigest()[:20]

    def matrices(self) -> np.ndarray:
        """(N, K, K) per-image confusion matrices."""
        gain = GAIN.get(self.method, 0.02) if self.gain is None else self.gain
        # A seed's own luck is shared by all methods, as it is with real seeds; the rest is the run's own.
        luck = np.random.default_rng([self.seed, self.stride]).normal(0, 0.01)
        own = np.random.default_rng(int(self.key[:8], 16))
        skill = 0.9 - 0.05 * np.log2(self.stride / 4) + gain + luck + own.normal(0, 0.003)
        return confusion(float(skill), self.images, int(own.integers(1 << 31)))

    def record(self, artefacts: dict[str, str] | None = None) -> Record:
        """The record of the run."""
        has_teacher = self.method not in ("none", "teacher")
        matrices = self.matrices()
        accuracy = miou(matrices)
        terms = {
            "none": {},
            "teacher": {},
            "ka": {"adapt": TermLog(weight=50, first=0.03, last=0.011), "affinity": TermLog(weight=1, first=9, last=3)},
        }.get(self.method, {self.method: TermLog(weight=1.0, first=1.9, last=0.6)})
        return Record(
            key=self.key,
            kind="teacher" if self.method == "teacher" else "student",
            name=f"{self.method} {self.student}@{self.stride} seed {self.seed}",
            cell=Cell(
                dataset=self.dataset,
                student=self.student,
                stride=self.stride,
                method=self.method,
                teacher=self.teacher if has_teacher else "",
                recipe=self.recipe,
                weights="random",
                seed=self.seed,
            ),
            spec={
                "dataset": {"name": self.dataset, "manifest": self.manifest},
                "method": {"parts": [{"name": self.method, "version": self.version}] if has_teacher else []},
                "recipe": self.recipe_fields,
                "seed": self.seed,
            },
            parents={"teacher": self.teacher_key} if has_teacher else {},
            parent_weights={"teacher": "0" * 64} if has_teacher else {},
            metrics=Metrics(
                split="val",
                images=self.images,
                miou=accuracy,
                pixel_accuracy=pixel_accuracy(matrices),
                per_class_iou=dict(zip(CLASSES, (float(v) for v in iou(matrices)), strict=True)),
                best=Best(split="val", miou=min(1.0, accuracy + 0.004), iteration=180),
            ),
            training=Training(
                iterations=240,
                samples_seen=3840,
                seconds=31.5 + self.stride / 10,
                step_ms=120.0 + (40 if self.method == "ka" else 12 if has_teacher else 0),
                loss_first=1.8,
                loss_last=0.4,
                terms=terms,
                precision_asked="bf16" if self.numerics else "fp32",
                precision="fp32",
                channels_last=not self.numerics,
                numerics=self.numerics,
            ),
            cost=self._cost(),
            environment=Environment(
                revision="0123456789abcdef0123456789abcdef01234567",
                versions={"torch": "2.14.0", "timm": "1.0.31", "python": "3.11.2"},
                host="node1",
                device="CPU",
                threads=1,
            ),
            attempts=self._attempts(),
            artefacts=artefacts or {},
            reproduce=(
                f"harness sweep --methods {self.method} --students {self.student} --strides {self.stride} "
                f"--seeds {self.seed} --teachers {RESNET} --teacher-strides 8 --dataset {self.dataset} --recipe quick"
            ),
            started=f"2026-11-07T10:{self.seed:02d}:00.000+00:00",
            finished=f"2026-11-07T11:{self.seed:02d}:00.000+00:00",
        )

    def _cost(self) -> Cost:
        teacher = self.method == "teacher"
        macs = (42.0 if teacher else GMACS[self.stride]) * 1e9
        return Cost(
            input_size=(96, 96),
            macs=macs,
            macs_by_operator={"conv": macs, "batch_norm": macs * 0.02, "upsample_bilinear2d": 1e6},
            uncounted={"aten::hardtanh_": 35},
            parameters=16_000_000 if teacher else 1_838_000,
            latency=Latency(median_ms=macs / 2e8, p95_ms=macs / 1.8e8, runs=20, device="CPU", precision="fp32"),
            peak_memory_bytes=210_000_000,
            dilation="timm output_stride",
        )

    def _attempts(self) -> list[Attempt]:
        made = [
            Attempt(number=n, started=f"2026-11-07T09:{n:02d}:00+00:00", outcome="preempted", reason="SIGUSR2")
            for n in range(1, self.attempts)
        ]
        start = f"2026-11-07T10:{self.seed:02d}:00+00:00"
        return [
            *made,
            Attempt(number=self.attempts, started=start, outcome="done", resumed_at=80 * (self.attempts - 1)),
        ]

    def _samples(self, count: int) -> dict[str, bytes]:
        """Sample predictions of the first images, the last of them as one of the worst."""
        own = np.random.default_rng(int(self.key[:8], 16))
        kept = [
            Picture(name=f"image{n:03d}", file=f"{n:06d}", why="worst" if 0 < n == count - 1 else "fixed", miou=0.5)
            for n in range(count)
        ]
        files: dict[str, bytes] = {}
        for n, one in enumerate(kept):
            label = np.random.default_rng(n).integers(0, len(CLASSES), (12, 12))
            wrong = own.random((12, 12)) < 0.3
            prediction = np.where(wrong, own.integers(0, len(CLASSES), (12, 12)), label)
            files |= {one.image: _image(n), one.label: _map(label), one.prediction: _map(prediction)}
        files |= {INDEX: index_text(CLASSES, kept).encode()} if kept else {}
        return {f"samples/{name}": content for name, content in files.items()}

    def write(self, workspace: Path, samples: int = 0) -> Path:
        """Write the stage folder as a worker would; the folder."""
        folder = workspace / "stages" / self.key
        folder.mkdir(parents=True, exist_ok=True)
        matrices = self.matrices()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, confusion=matrices, names=np.array([f"image{n:03d}" for n in range(self.images)]))
        files = {"confusion.npz": buffer.getvalue()}
        files |= self._samples(samples)
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        record = self.record({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
        (folder / "spec.json").write_text(json.dumps(record.spec))
        (folder / "record.json").write_text(record.model_dump_json(indent=1))
        return folder


def _map(classes: np.ndarray) -> bytes:
    """A palette PNG of blocks of classes."""
    picture = Image.fromarray(classes.astype(np.uint8))
    picture.putpalette(np.random.default_rng(1).integers(40, 230, 768, dtype=np.uint8).tobytes())
    buffer = io.BytesIO()
    picture.resize((96, 96), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def _image(seed: int) -> bytes:
    colours = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize((96, 96)).save(buffer, "JPEG")
    return buffer.getvalue()


def sweep(
    methods: Iterable[str] = ("none", "kd", "ka"),
    strides: Iterable[int] = (8, 16, 32),
    seeds: Iterable[int] = (0, 1, 2),
    **rest: Any,
) -> list[Fake]:
    """The students of a sweep, and their teacher."""
    teacher = Fake(method="teacher", stride=8, student=RESNET, images=rest.get("images", 12))
    teacher_key = teacher.key
    return [
        teacher,
        *(Fake(m, stride, s, teacher_key=teacher_key, **rest) for m in methods for stride in strides for s in seeds),
    ]


def write_all(workspace: Path, fakes: Iterable[Fake], samples: int = 0) -> Path:
    """Write many stage folders; the workspace."""
    for fake in fakes:
        fake.write(workspace, samples)
    return workspace


def add_metrics(folder: Path, states: Mapping[str, np.ndarray], values: Mapping[str, Mapping[str, Any]]) -> None:
    """Give a run metrics that are not computed from its matrices, as a worker would have written them.

    Args:
        states: name -> (N, 2 to 4, G).
        values: name -> what the record says of it.
    """
    record = json.loads((folder / "record.json").read_text())
    buffer = io.BytesIO()
    names = np.array([f"image{n:03d}" for n in range(len(next(iter(states.values()))))])
    np.savez_compressed(buffer, names=names, **dict(states))  # type: ignore[arg-type]
    (folder / "metrics.npz").write_bytes(buffer.getvalue())
    record["artefacts"]["metrics.npz"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    record["metrics"]["values"] = {name: dict(said) for name, said in values.items()}
    (folder / "record.json").write_text(json.dumps(record))


def add_outlines(fake: Fake, root: Path, names: Sequence[str] = tuple(STATE_METRICS)) -> None:
    """Give a written run boundary and interior IoU: gains are at outlines alone, and `pole` is all outline."""
    counts = class_counts(fake.matrices()).astype(float)
    hits, labelled, predicted = counts[:, 0], counts[:, 1], counts[:, 2]
    near = np.full(hits.shape[1], 0.4)
    near[CLASSES.index("pole")] = 1.0
    inside = np.minimum(np.round(labelled * (1 - near)), labelled)
    right = np.round(0.9 * inside)
    states = {
        "boundary_iou": [hits - right, labelled + predicted - hits - inside, hits * 0 + 1, labelled - inside],
        "interior_iou": [right, inside, hits * 0 + 1, inside],
    }
    kept = {name: np.stack(states[name], axis=1) for name in names}
    values = {
        name: {**vars(STATE_METRICS[name]), "value": float(mean_of_ratios(one.sum(0)))} for name, one in kept.items()
    }
    for said in values.values():
        del said["name"]
    add_metrics(root / "stages" / fake.key, kept, values)
