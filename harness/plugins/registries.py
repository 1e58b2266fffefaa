"""The registries of the harness: one for each kind of extension."""

from __future__ import annotations

from backbones.base import BackboneFamily, Head
from harness.data.base import Dataset
from harness.evaluation.metrics.base import Metric
from harness.losses.base import Loss
from harness.plugins.registry import FILE_KINDS, Registry
from harness.plugins.validation import check_dataset, check_declaration, check_loss, check_metric, check_summary
from methods.base import Method

METHODS: Registry[Method] = Registry("method", Method, "methods", "harness.methods", check=check_declaration)
FAMILIES: Registry[BackboneFamily] = Registry(
    "backbone family", BackboneFamily, "backbones", "harness.backbones", check=check_summary
)
HEADS: Registry[Head] = Registry("head", Head, "backbones", "harness.heads", check=check_summary)
DATASETS: Registry[Dataset] = Registry(
    "data set", Dataset, "harness.data.sets", "harness.datasets", check=check_dataset
)
METRICS: Registry[Metric] = Registry(
    "metric", Metric, "harness.evaluation.metrics", "harness.metrics", check=check_metric
)
LOSSES: Registry[Loss] = Registry("loss", Loss, "harness.losses", "harness.losses", check=check_loss)
FILE_KINDS.extend([METHODS, FAMILIES, HEADS, DATASETS, METRICS, LOSSES])
