"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def products(rows: Tensor, columns: Tensor) -> Tensor:
    """All inner products: (n, C), (m, C) -> rows · columnsᵀ, (n, m).

    In float32 on a CPU as a 1x1 convolution, which torch gives to oneDNN: half the time of `matmul` on AMD's
    processors, in both passes. (Torch would choose `matmul` for it, but for a dilation, which a 1x1 kernel ignores.)
    """
    suits = rows.device.type == "cpu" and rows.dtype == columns.dtype == torch.float32 and rows.numel() > _FEW
    if not suits or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return rows @ columns.mT
    maps = rows.reshape(1, len(rows), 1, -1).permute(0, 3, 1, 2)  # one image, channels last
    kernel = columns.reshape(len(columns), 1, 1, -1).permute(0, 3, 1, 2)
    return F.conv2d(maps, kernel, dilation=2).permute(0, 2, 3, 1).reshape(len(rows), -1)


_FEW = 20480
"""Values of a single image up to which torch does not give a convolution to oneDNN."""
