"""Convolutions with fixed 3x3 weights by Winograd's algorithm F(4x4, 3x3): a quarter of the multiplications.

    Y = Aᵀ [ (G w Gᵀ) ⊙ (Bᵀ x B) ] A   for every 6x6 tile x of the input, giving a 4x4 tile Y of the output

(Lavin and Gray: Fast Algorithms for Convolutional Neural Networks; CVPR 2016; arXiv 1509.09308; cuDNN has it on GPUs).
The product, summed over channels, is 36 matrix products, which oneDNN computes as one grouped 1x1 convolution. A
dilation d splits a map into d·d maps without dilation, since only pixels with equal row and column modulo d interact.
The error in float32 is about 2e-6 of the result, instead of 3e-7.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.numerics.convolutions import ConvCase

_FEWEST_CHANNELS = 256
"""With fewer, bringing tiles to and fro takes what the products save."""
_MOST_WEIGHTS = 1 << 20
"""Input times output channels; transformed weights take 144 bytes for each."""
_MOST_PADDING = 1.25
"""Ratio of the area of all tiles to that of the map."""
_TILE, _WINDOW = 4, 6


def is_faster(case: ConvCase) -> bool:
    """Whether this algorithm is faster than oneDNN's for a convolution: 3x3, "same" padding, many channels."""
    kind = (case.kernel, case.stride, case.groups, case.transposed) == ((3, 3), (1, 1), 1, False)
    if not kind or case.padding != case.dilation:
        return False
    rows, columns = _tiles(case.size, case.dilation)
    area = rows * columns * _TILE**2 * case.dilation[0] * case.dilation[1]
    return (
        min(case.in_channels, case.out_channels) >= _FEWEST_CHANNELS
        and case.in_channels * case.out_channels <= _MOST_WEIGHTS
        and area <= _MOST_PADDING * case.size[0] * case.size[1]
    )


def _tiles(size: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tiles of each of the maps without dilation."""
    rows, columns = (-(-n // (_TILE * d)) for n, d in zip(size, dilation))
    return rows, columns


class Winograd:
    """A convolution of stride 1 with "same" padding, on a CPU in float32.

    Args:
        weight: (O, C, 3, 3); it is transformed and packed here.
        dilation: (rows, columns).
        size: (B, h, w) of the maps for which it is packed; others are right, but slow.
    """

    def __init__(self, weight: Tensor, dilation: tuple[int, int], size: tuple[int, int, int]) -> None:
        self.outputs, self.inputs = weight.shape[:2]
        self.dilation = dilation
        taps = weight.permute(2, 3, 0, 1).reshape(9, -1)
        products = (torch.kron(_G, _G).float() @ taps).view(-1, self.inputs, 1, 1)
        products = products.contiguous(memory_format=torch.channels_last)
        rows, columns = _tiles(size[1:], dilation)
        count = size[0] * rows * columns * dilation[0] * dilation[1]
        shape = [1, _WINDOW**2 * self.inputs, count, 1]
        self.packed: Tensor = torch.ops.aten.mkldnn_reorder_conv2d_weight(
            products.to_mkldnn(), (0, 0), (1, 1), (1, 1), _WINDOW**2, shape
        )
        self.into, self.out = torch.kron(_B, _B).float(), torch.kron(_A, _A).float()

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """(B, C, h, w) and a bias (O,) or None -> (B, O, h, w), in channels_last."""
        tiles = torch.matmul(self.into, self._gather(x))
        maps = tiles.view(1, len(tiles), 1, -1).permute(0, 3, 1, 2)
        products: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, self.packed, None, (0, 0), (1, 1), (1, 1), _WINDOW**2, "none", [], ""
        )
        found = self._scatter(products.permute(0, 2, 3, 1).view(len(tiles), _WINDOW**2, -1), x)
        return found if bias is None else found.add_(bias.view(-1, 1, 1))

    def _gather(self, x: Tensor) -> Tensor:
        """All 6x6 tiles, (tiles, 36, C)."""
        (batch, channels, height, width), (down, across) = x.shape, self.dilation
        rows, columns = _tiles((height, width), self.dilation)
        below, right = rows * _TILE * down - height, columns * _TILE * across - width
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, across, across + right, down, down + below))
        image, row, column, one = padded.stride()
        tiles = padded.as_strided(
            (batch, rows, down, columns, across, _WINDOW, _WINDOW, channels),
            (image, row * _TILE * down, row, column * _TILE * across, column, row * down, column * across, one),
        )
        return tiles.reshape(-1, _WINDOW**2, channels)

    def _scatter(self, products: Tensor, x: Tensor) -> Tensor:
        """The output from the products of all tiles, (tiles, 36, O)."""
        (batch, _, height, width), (down, across) = x.shape, self.dilation
        rows, columns = _tiles((height, width), self.dilation)
        tiles = torch.matmul(self.out, products).view(batch, rows, down, columns, across, _TILE, _TILE, -1)
        maps = tiles.permute(0, 1, 5, 2, 3, 6, 4, 7).reshape(batch, rows * _TILE * down, columns * _TILE * across, -1)
        return maps[:, :height, :width].contiguous().permute(0, 3, 1, 2)


_B = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_G = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64) / 24
_A = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float64
)
"""Bᵀ, G and Aᵀ for the points 0, ±1, ±2 and infinity."""
