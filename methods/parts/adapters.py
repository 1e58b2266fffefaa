"""Adapters from the student's channels to the teacher's."""

from __future__ import annotations

from torch import Tensor, nn


class Adapter(nn.Module):
    """A learned projection between feature spaces, used during training and then dropped.

    Use or extend this class for every learned projection of a method or translator, so that `identity_adapters` can
    replace it.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h', w')."""
        result: Tensor = self.layers(x)
        return result


class IdentityAdapter(Adapter):
    """The identity that `identity_adapters` puts in place of an adapter."""

    def forward(self, x: Tensor) -> Tensor:
        """The same tensor."""
        return x


def adapter(
    inputs: int, outputs: int, kernel: int = 1, *, bias: bool = False, norm: bool = False, relu: bool = False
) -> Adapter:
    """A convolution of stride 1 that keeps the grid, then batch norm and ReLU if asked.

    Args:
        inputs, outputs: channels.
        kernel: odd size of the convolution.
        bias: give the convolution a bias.
        norm: batch norm after it.
        relu: ReLU at the end.
    """
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    if relu:
        layers.append(nn.ReLU())
    return Adapter(*layers)


def identity_adapters(module: nn.Module) -> int:
    """Replace every `Adapter` inside `module` by the identity and return their number.

    Used to compare a loss with another implementation, or with its formula, on given arrays. Student and teacher then
    need equal channels. A method's translator is not a submodule of the method: call this on the translator too.
    """
    count = 0
    for name, child in list(module.named_children()):
        if isinstance(child, Adapter):
            setattr(module, name, IdentityAdapter())
            count += 1
        else:
            count += identity_adapters(child)
    return count


def has_adapters(module: nn.Module) -> bool:
    """Whether `module` contains an `Adapter`."""
    return any(isinstance(child, Adapter) for child in module.modules())
