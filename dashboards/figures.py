"""Figures that the pages share: those of `results.figures`, under one name."""

from __future__ import annotations

from results.figures.classes import class_bars
from results.figures.looks import PALETTE, Looks, legend, looks, swatches
from results.figures.tradeoff import accuracy_against_cost

__all__ = ["PALETTE", "Looks", "accuracy_against_cost", "class_bars", "legend", "looks", "swatches"]
