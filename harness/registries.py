"""The registries of the harness: one for each kind of thing that can be added."""

from __future__ import annotations

from backbones.base import BackboneFamily, Head
from harness.data.base import Dataset
from harness.declaration import check_dataset, check_declaration, check_summary
from harness.registry import Registry
from methods.base import Method

METHODS: Registry[Method] = Registry("method", Method, "methods", "harness.methods", check=check_declaration)
FAMILIES: Registry[BackboneFamily] = Registry(
    "backbone family", BackboneFamily, "backbones", "harness.backbones", check=check_summary
)
HEADS: Registry[Head] = Registry("head", Head, "backbones", "harness.heads", check=check_summary)
DATASETS: Registry[Dataset] = Registry("data set", Dataset, "harness.data", "harness.datasets", check=check_dataset)
