"""Every column of the board, declared once: database, queries, tables, exports, command line and pages read this.

To add a column that stands in the record, add a line here with its `source`. To add a metric, write a metric
(`harness/evaluation/metrics/`): its columns follow from what it declares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from results.metrics import COUNT_METRICS, HEADLINE, Direction, MetricInfo

Type = Literal["text", "number", "count", "flag"]
Seeds = Literal["", "same", "mean", "median", "sum", "last", "any", "words", "computed"]
"""How the runs of one row, which differ in their seeds, are put together: all have the `same` value (the first is
taken); the `last` in order; `any` of them; the different `words` joined; `computed` by `results.leaderboard`. "" for
what a board does not show."""


@dataclass(frozen=True)
class Column:
    """A column of a board, of the runs, or of both.

    Attributes:
        name: in data frames, databases and `--sort`.
        heading: over tables, without the unit.
        type: of its values.
        unit: in which people and programs are shown it.
        factor: from what the database holds to that unit.
        digits: decimals shown; None for three significant digits.
        direction: which values are better; "" where neither is.
        seeds: how the runs of a row are put together.
        export: its name in CSV and JSON, with the unit.
        source: dotted path in the record; "" for what is computed. `|` separates alternatives.
        required: never empty in the database.
        index: looked up often.
        help: one line for people.
    """

    name: str
    heading: str = ""
    type: Type = "text"
    unit: str = ""
    factor: float = 1.0
    digits: int | None = None
    direction: Direction | Literal[""] = ""
    seeds: Seeds = ""
    export: str = ""
    source: str = ""
    required: bool = False
    index: bool = False
    help: str = ""

    @property
    def title(self) -> str:
        """Heading and unit: `latency [ms]`."""
        heading = self.heading or self.name.replace("_", " ")
        return f"{heading} [{self.unit}]" if self.unit else heading

    @property
    def exported(self) -> str:
        """Its name in CSV and JSON."""
        return self.export or self.name


def _c(name: str, heading: str = "", type: Type = "text", **rest: object) -> Column:
    return Column(name, heading, type, **rest)  # type: ignore[arg-type]


# fmt: off
_CELL = (
    _c("method", source="cell.method", seeds="same", index=True, help="Distillation method, as an expression."),
    _c("student", source="cell.student", seeds="same", index=True, help="Encoder and head."),
    _c("stride", type="count", source="cell.stride", seeds="same", index=True, direction="lower",
       help="Input size divided by the size of the backbone's last map."),
    _c("teacher", source="cell.teacher", seeds="same", index=True),
    _c("dataset", "data set", source="cell.dataset", seeds="same", index=True),
    _c("recipe", source="cell.recipe", seeds="same", index=True),
    _c("weights", "initial weights", source="cell.weights", seeds="same", index=True),
    _c("evaluation", seeds="same", required=True, index=True,
       help="How images are shown to the network when it is scored: whole or by windows, at which scales."),
)
_SEEDS = (
    _c("seed", type="count", source="cell.seed", index=True),
    _c("seeds", type="count", seeds="computed", direction="higher", help="Runs behind the row."),
)
_STANDING = (
    _c("tier", type="count", seeds="computed", direction="lower",
       help="Within the same data, student, stride and recipe: rows of one tier cannot be told from its best. They are "
            "of all rows in the database, whatever is shown; empty for one seed."),
    _c("gap_closed", "gap closed", "number", unit="%", factor=100.0, digits=0, direction="higher", seeds="computed",
       export="gap_closed_percent",
       help="Share of the teacher's lead over `none` that the method closes; empty where the teacher is not clearly "
            "ahead."),
    _c("gap_closed_low", "gap closed, low", "number", unit="%", factor=100.0, digits=0, seeds="computed",
       export="gap_closed_low_percent"),
    _c("gap_closed_high", "gap closed, high", "number", unit="%", factor=100.0, digits=0, seeds="computed",
       export="gap_closed_high_percent"),
    _c("gap_closed_basis", seeds="computed"),
)
_COST = (
    _c("macs", "GMACs", "number", factor=1e-9, export="gmacs", source="cost.macs", seeds="same", direction="lower",
       help="Multiply-adds of one image, in thousand millions; one MAC is two FLOPs."),
    _c("parameters", "parameters", "count", unit="M", factor=1e-6, export="parameters_m", source="cost.parameters",
       seeds="same", direction="lower"),
    _c("latency_ms", "latency", "number", unit="ms", source="cost.latency.median_ms", seeds="median",
       direction="lower", help="Inference of one image, median; over seeds the median."),
    _c("latency_device", source="cost.latency.device", seeds="words"),
    _c("step_ms", "step", "number", unit="ms", digits=1, source="training.step_ms", seeds="mean", direction="lower"),
    _c("step_ratio", "step", "number", unit="× none", seeds="computed", direction="lower",
       help="Time of a training step, relative to `none`."),
    _c("training_s", "training", "number", unit="h", factor=1 / 3600, export="training_h", seeds="mean",
       direction="lower",
       help="Hours of a core or a GPU that a run's training cost: its own, and its part of its teacher's and its "
            "translators', each divided among all the students in the database that learned from it."),
    _c("own_training_s", "own training", "number", unit="h", factor=1 / 3600, export="own_training_h",
       seeds="computed", direction="lower", help="Of the training cost: the training of the student itself."),
    _c("shared_training_s", "teacher's training", "number", unit="h", factor=1 / 3600, export="shared_training_h",
       seeds="computed", direction="lower",
       help="Of the training cost: the student's part of the training of its teacher and its translators."),
)
_MORE = (
    _c("seed_list", seeds="computed"),
    _c("best_miou", "best mIoU while training", "number", unit="%", factor=100.0, digits=1, direction="higher",
       export="best_miou_percent", source="metrics.best.miou", seeds="mean",
       help="Best evaluation while training, on the validation split: optimistic, never the headline."),
    _c("images", type="count", source="metrics.images", seeds="same"),
    _c("classes", seeds="same",
       help="How many of the declared classes occur in the labels: means over classes are over these."),
    _c("absent", "absent classes", seeds="same", help="Declared classes that occur in no label of the split."),
    _c("absent_share", "called absent classes", "number", unit="%", factor=100.0, digits=2, direction="lower",
       seeds="mean", export="absent_share_percent", help="Labelled pixels that were called a class of no label."),
    _c("split", source="metrics.split", seeds="same"),
    _c("input_size", "input", seeds="computed", help="Height x width at which the cost was measured."),
    _c("precision", source="training.precision", required=True, seeds="words"),
    _c("numerics", source="training.numerics", required=True, seeds="words",
       help="Why precision or memory layout are not the recipe's."),
    _c("flags", seeds="computed", help="What to know before trusting the row."),
    _c("uncounted", seeds="words", required=True,
       help="Operators without a count that may hold multiply-adds: not in the GMACs."),
    _c("dirty", "changed code", "flag", source="environment.dirty", required=True, seeds="any",
       help="The code had changes that no commit holds."),
    _c("superseded", type="count", seeds="sum", help="Older runs of equal cells that are not shown."),
    _c("variant", seeds="same", required=True,
       help="Digest of what a cell's words leave out: the data's content, methods' versions, the teacher's key."),
    _c("frontier", "front", "flag", seeds="computed",
       help="Pareto frontier: no other row shown is at least as cheap and at least as accurate."),
    _c("row", seeds="computed", help="The row's own key: the same whatever is filtered or sorted."),
    _c("keys", seeds="computed", help="Keys of the runs behind the row."),
    _c("reproduce", source="reproduce", required=True, seeds="computed", help="The command that makes the row again."),
    _c("finished", source="finished", required=True, seeds="last"),
)
_RUN = (
    _c("key", source="key"),
    _c("kind", source="kind", required=True, index=True),
    _c("name", source="name", required=True),
    # What tells cells of equal words apart: the data's content; that and the method's version, source and teacher.
    _c("manifest", required=True),
    _c("parents", required=True, help="Keys of its teacher and translators."),
    _c("best_iteration", type="count", source="metrics.best.iteration"),
    _c("best_split", source="metrics.best.split"),
    _c("input_height", type="count", source="cost.input_size.0"),
    _c("input_width", type="count", source="cost.input_size.1"),
    _c("latency_p95_ms", "latency, 95th percentile", "number", unit="ms", source="cost.latency.p95_ms"),
    _c("latency_precision", source="cost.latency.precision"),
    _c("peak_memory_bytes", "peak memory", "count", unit="MB", factor=1e-6, source="cost.peak_memory_bytes"),
    _c("dilation", source="cost.dilation"),
    _c("iterations", type="count", source="training.iterations", required=True),
    _c("samples_seen", type="count", source="training.samples_seen", required=True),
    _c("samples_planned", type="count", help="Iterations of the recipe times its batch; empty where it is not said."),
    _c("seconds", "time", "number", unit="s", digits=1, source="training.seconds"),
    _c("paid_s", "paid", "number", unit="s", digits=1, source="training.paid_s",
       help="Time of training; what students trained together shared (teacher, data) is divided among them."),
    _c("own_ms", "own step", "number", unit="ms", digits=1, source="training.own_ms",
       help="Of a step: the student's own forward and backward pass, terms and optimisers."),
    _c("teacher_ms", "teacher's step", "number", unit="ms", digits=1, source="training.teacher_ms",
       help="Of a step: the teacher's forward pass, and what is computed from its maps alone."),
    _c("loading_ms", "loading", "number", unit="ms", digits=1, source="training.loading_ms",
       help="Of a step: waiting for a batch, and all else."),
    _c("shared_by", type="count", source="training.shared_by", required=True,
       help="Students that were trained together."),
    _c("loss_first", "first loss", "number", source="training.loss_first"),
    _c("loss_last", "last loss", "number", source="training.loss_last"),
    _c("precision_asked", source="training.precision_asked", required=True),
    _c("channels_last", type="flag", source="training.channels_last", required=True),
    _c("workers_beside", type="count", source="training.workers_beside", required=True),
    _c("revision", source="environment.revision", required=True),
    _c("host", source="environment.host", required=True),
    _c("device", source="environment.device", required=True),
    _c("launcher", source="environment.launcher", required=True),
    _c("job", source="environment.job", required=True),
    _c("started", source="started", required=True),
    _c("attempts", type="count"),
    _c("tags", help="By `harness tag`: of a row those of all its runs."),
    _c("other_code", "resumed under other code", "flag", required=True,
       help="An attempt went on from the checkpoint of another one that ran other code of the harness."),
)
# fmt: on

FIXED: Mapping[str, Column] = {column.name: column for column in (*_CELL, *_SEEDS, *_STANDING, *_COST, *_MORE, *_RUN)}
"""Every column that is no metric's."""
_COUNTED = (
    "evaluation", "manifest", "variant", "parents", "classes", "absent", "absent_share", "uncounted", "samples_planned",
    "other_code",
)  # fmt: skip
STORED = tuple(c for c in FIXED.values() if c.source or c.name in _COUNTED)
"""What the table `runs` holds of a record."""
METRICS: Mapping[str, MetricInfo] = {name: metric.info for name, metric in COUNT_METRICS.items()}
"""Metrics that every run with confusion matrices has."""
RESERVED = frozenset(FIXED) | {"record", "stamp", "workspace", "problem", "delta", "p", "p_holm", "verdict", "metric"}
"""Names that no metric may have."""


def refuse_name(name: str) -> str:
    """Why a metric cannot have a name; "" if it can."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        return "a name consists of lower-case letters, digits and underscores"
    if name in RESERVED or name.startswith("delta_") or name.endswith(("_low", "_high", "_basis")):
        return "that is the name of a column"
    return ""


def metric_column(info: MetricInfo) -> Column:
    """The column of a metric: its mean over seeds."""
    percent = info.unit == "%"
    return Column(
        info.name,
        info.heading,
        "number",
        unit=info.unit,
        factor=100.0 if percent else 1.0,
        digits=info.digits,
        direction=info.direction,
        seeds="mean",
        export=_with_unit(info.name, info.unit),
        help=f"{info.summary[:1].upper()}{info.summary[1:]}.",
    )


def ranked_columns(info: MetricInfo) -> tuple[Column, ...]:
    """The columns of the metric that a board is ranked by: value, interval, difference from `none`."""
    main = metric_column(info)
    gap_unit = "points" if info.unit == "%" else info.unit

    def computed(name: str, heading: str, unit: str = "", **rest: Any) -> Column:
        return replace(main, name=name, heading=heading, unit=unit, seeds="computed", **{"direction": "", **rest})

    def interval(end: Literal["low", "high"]) -> Column:
        exported = main.exported.replace(info.name, f"{info.name}_{end}", 1)
        return computed(f"{info.name}_{end}", f"{info.heading}, {end}", info.unit, export=exported, help="")

    def gap(name: str, heading: str, **rest: Any) -> Column:
        return computed(name, heading, gap_unit, export=_with_unit(name, gap_unit), **rest)

    def plain(name: str, type: Type, direction: Direction | Literal[""] = "", help: str = "") -> Column:
        return Column(name, type=type, direction=direction, seeds="computed", help=help)

    return (
        main,
        interval("low"),
        interval("high"),
        plain(f"{info.name}_basis", "text"),
        gap("delta", "Δ none", direction=info.direction, help="To `none` of the same setting, seed by seed."),
        gap("delta_low", "Δ none, low", help=""),
        gap("delta_high", "Δ none, high", help=""),
        plain("delta_basis", "text"),
        plain("verdict", "text", help="Said of Δ none; ² also holds after Holm's correction for all comparisons."),
        plain("p", "number", "lower"),
        plain("p_holm", "number", "lower"),
    )


def _with_unit(name: str, unit: str) -> str:
    """A column's name in CSV and JSON: `delta_points`."""
    slug = "percent" if unit == "%" else re.sub(r"\W+", "_", unit).strip("_")
    return f"{name}_{slug}" if slug else name


def board_columns(metrics: Mapping[str, MetricInfo], ranked: str = HEADLINE) -> tuple[Column, ...]:
    """The columns of a leaderboard, in order.

    Args:
        metrics: all that the database holds.
        ranked: the one among them that the board is ranked by.
    """
    others = [metric_column(info) for name, info in metrics.items() if name != ranked]
    fixed = [c for c in (*_CELL, *_SEEDS) if c.seeds]
    more = [c for c in _MORE if c.seeds]
    return (*fixed, *ranked_columns(metrics[ranked]), *_STANDING, *_COST, *others, *more)


def stored_name(name: str, metric: str) -> str:
    """The name in the database of a leaderboard's column: those of the metric that it is ranked by have one for all.

    `miou_low` of a board that is ranked by mIoU is `value_low`.
    """
    own = {f"{metric}{end}" for end in ("", "_low", "_high", "_basis")}
    return f"value{name.removeprefix(metric)}" if name in own else name


def run_columns(metrics: Mapping[str, MetricInfo]) -> dict[str, Column]:
    """Columns of runs, metrics last, by name."""
    return {**FIXED, **{name: metric_column(info) for name, info in metrics.items()}}
