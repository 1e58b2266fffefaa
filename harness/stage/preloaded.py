"""Imported by the server from which workers are forked: what every stage needs sooner or later."""

from __future__ import annotations

import gc
from importlib import import_module

from harness.system.importing import garbage_ignored

MODULES = (
    "harness.system.running",
    "harness.stage.run",
    "harness.worker",
    "harness.plugins.load",
    "harness.curves.mirror",
    # Every stage imports these anyway, on first use: torch._dynamo with the optimiser, 1.5 s, the others, 0.1 s.
    "torch._dynamo",
    "segmentation_models_pytorch",
    "torchvision.transforms.v2",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
)

with garbage_ignored():
    for name in MODULES:
        import_module(name)
gc.freeze()  # for good: no worker looks through them, or copies their pages by doing so
