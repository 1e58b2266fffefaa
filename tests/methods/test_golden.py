"""Values that the reference repositories' own code gives, reproduced through `compute_terms` to 1e-6 relative."""

from __future__ import annotations

from typing import Any

import pytest

from tests.methods.golden import ARRAYS
from tests.methods.pairs import terms_of

GOLDEN: list[tuple[str, str, dict[str, Any], str, float, float]] = [
    # reference, method, parameters, term, factor, value
    ("CIRKD kd, T=1", "kd", {}, "kd", 1, 1.386444682),
    ("CIRKD kd, T=4", "kd", {"tau": 4}, "kd", 1, 1.933757827),
    ("IFVD repo CriterionKD, KLDivLoss mean", "kd", {"reduction": "elements"}, "kd", 1, 0.07297077271),
    ("SKD repo CriterionPixelWise", "pixel_kd", {}, "pixel", 1, 7.519297847),
    ("SKD repo CriterionPixelWise", "skd", {"variant": "original"}, "pixel", 1, 7.519297847),
    ("CIRKD fitnet", "fitnet", {}, "hint", 1, 0.9953303443),
    ("CIRKD at", "at", {}, "attention", 1, 9.19884778e-05),
    ("CIRKD skd, 2×2 max-pooling", "skd", {}, "pairwise", 1, 0.3142789569),
    ("SKD repo pair-wise, pool_scale 0.5", "skd", {"variant": "original"}, "pairwise", 1, 0.001069568915),
    ("SKD repo sim_dis_compute without pooling", "skd", {"pool": 1}, "pairwise", 1, 0.9548027319),
    ("CIRKD cwd logits, T=4", "cwd", {}, "logits", 1, 1.930799548),
    ("CIRKD cwd features, T=4", "cwd", {}, "feature", 1, 0.4818969783),
    ("CWD repo CriterionCWD channel/kl, T=4", "cwd", {"variant": "original"}, "logits", 1, 1.930799548),
    ("mmrazor ChannelWiseDivergence, tau=1, weight 5", "cwd", {"tau": 1}, "logits", 5, 6.950985667),
    ("mmrazor ChannelWiseDivergence, tau=4, weight 1", "cwd", {"tau": 4}, "logits", 1, 1.930799548),
    ("paper L_adapt, p=1, q=2", "ka", {"p": 1, "q": 2}, "adapt", 1, 3.237012292),
    ("paper L_adapt, p=2, q=2", "ka", {"p": 2, "q": 2}, "adapt", 1, 1.406207955),
    ("paper L_aff", "ka", {"normalise": "none"}, "affinity", 1, 1410.745143),
    ("paper L_aff, A/m", "ka", {}, "affinity", 1, 11.02144643),
    ("mean squared entry of A_s − A_t", "ka", {"form": "squared"}, "affinity", 1, 0.954802751),
]

# torchdistill's losses were evaluated on FS and FT; its method reads logits.
ON_FEATURES = {
    "student_logits": ARRAYS["student_features"],
    "teacher_logits": ARRAYS["teacher_features"],
}
GOLDEN_TORCHDISTILL: list[tuple[str, dict[str, Any], str, float]] = [
    ("KTALoss p=1 q=2", {}, "adapt", 0.03573890672),
    ("KTALoss p=2 q=2", {"p": 2}, "adapt", 1.410502572),
    ("AffinityLoss", {}, "affinity", 0.08713174777),
]


@pytest.mark.parametrize(
    ("method", "params", "term", "factor", "value"), [g[1:] for g in GOLDEN], ids=[f"{g[1]}: {g[0]}" for g in GOLDEN]
)
def test_reference_value(method: str, params: dict[str, Any], term: str, factor: float, value: float) -> None:
    found = terms_of(method, params, ARRAYS)
    assert factor * found[term] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("params", "term", "value"), [g[1:] for g in GOLDEN_TORCHDISTILL], ids=[g[0] for g in GOLDEN_TORCHDISTILL]
)
def test_torchdistill_value(params: dict[str, Any], term: str, value: float) -> None:
    found = terms_of("ka_torchdistill", params, ON_FEATURES)
    assert found[term] == pytest.approx(value, rel=1e-6)
