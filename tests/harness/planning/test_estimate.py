"""Estimated multiply-adds of training and evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.evaluation.inference import infer, input_sizes
from harness.planning.cohorts import make_cohorts
from harness.planning.estimate import cohort_macs, cohort_work, evaluation_macs, own_macs
from harness.planning.plan import Plan, make_plan
from harness.specs.spec import Protocol, SweepSpec

PROTOCOLS = [
    Protocol(),
    Protocol(flip=True, scales=(0.5, 1.0, 1.75)),
    Protocol(window=(48, 32), overlap=0.25),
    Protocol(window=(40, 200), scales=(1.0, 1.5), flip=True),
]


def plan_of(strides: tuple[int, ...] = (16,), **changes: Any) -> Plan:
    given = {"crop": (64, 64), "iterations": 10, "batch_size": 2, **changes}
    dataset = "shapes[size=64,train=8,val=4,test=6]"
    return make_plan(SweepSpec(methods=("none",), strides=strides, seeds=(0,), dataset=dataset, set=given))


def student(plan: Plan) -> Any:
    return next(iter(plan.nodes.values()))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_goes_through_a_network_is_what_is_counted(protocol: Protocol) -> None:
    given: list[tuple[int, int]] = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        given.append((images.shape[-2], images.shape[-1]))
        return images

    infer(forward, torch.rand(1, 3, 61, 90), protocol)
    assert sorted(given) == sorted(input_sizes((61, 90), protocol).elements())


def test_evaluations_count_images_scales_mirroring_and_validation() -> None:
    plain = plan_of()
    node = student(plain)
    forward = own_macs(node) / (3 * 10 * 2)
    assert evaluation_macs(plain, node) == pytest.approx(6 * forward)
    both = plan_of(evaluation={"flip": True, "scales": [0.5, 1.0]})
    assert evaluation_macs(both, student(both)) == pytest.approx(6 * 2 * 1.25 * forward)
    often = plan_of(validate_every=5)
    assert evaluation_macs(often, student(often)) == pytest.approx((6 + 2 * 4) * forward)
    assert cohort_work(plain, [node.key]) == pytest.approx(cohort_macs(plain, [node.key]) + 6 * forward)


def test_a_cohort_is_cut_where_its_evaluations_exceed_the_limit() -> None:
    plan = plan_of(strides=(8, 16), evaluation={"flip": True, "scales": [1.0, 2.0]})
    keys = list(plan.nodes)
    assert len(make_cohorts(plan, keys, "2")) == 1
    assert len(make_cohorts(plan, keys, "2", largest_macs=1.01 * cohort_macs(plan, keys))) == 2
