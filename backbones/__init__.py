"""Encoders from timm and SMP at a chosen output stride, heads on top; `backbones.base` is the contract."""
