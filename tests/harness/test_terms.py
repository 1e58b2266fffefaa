"""`harness terms`: what it reads, what it leaves out, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from harness.cli.terms import terms
from harness.errors import HarnessError
from harness.terms import compute_terms, evaluate_terms, parse_params, read_arrays
from methods.base import Method, Step, Term
from tests.methods.golden import ARRAYS, FS, FT, LS, LT


def call(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(terms)
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("terms") / "x.npz"
    np.savez(path, **ARRAYS)
    return path


def test_prints_json_on_stdout_and_notes_on_stderr(inputs: Path) -> None:
    result = call("skd", "--inputs", str(inputs), "--param", "pool=1", "--param", "adv_width=4")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) == {"pairwise", "kd", "pixel"}
    assert found["pairwise"] == pytest.approx(0.9548027319, rel=1e-6)
    assert "holistic is left out" in result.stderr and "images" in result.stderr


def test_parameters_and_identity_adapters(inputs: Path) -> None:
    params = [word for param in ("p=1", "q=2", "normalise=none") for word in ("--param", param)]
    result = call("ka", "--inputs", str(inputs), "--identity-adapters", *params)
    found = json.loads(result.stdout)
    assert found["adapt"] == pytest.approx(3.237012292, rel=1e-6)
    assert found["affinity"] == pytest.approx(1410.745143, rel=1e-6)
    assert found["translator.reconstruction"] == 0


def test_an_expression_gives_its_own_terms() -> None:
    assert set(compute_terms("cwd-kd-adversarial", {}, ARRAYS)) == {"logits", "feature"}
    assert compute_terms("kd[tau=4]", {}, ARRAYS)["kd"] == pytest.approx(1.933757827, rel=1e-6)
    both = compute_terms("kd+ka.affinity", {}, ARRAYS, identity_adapters=True)
    assert both["ka.affinity"] == pytest.approx(11.02144643, rel=1e-6)
    assert both["kd.kd"] == pytest.approx(1.386444682, rel=1e-6)
    assert "ka.adapt" not in both


def test_none_has_nothing_to_compute() -> None:
    assert compute_terms("none", {}, ARRAYS) == {}


def test_same_values_every_time_and_the_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = (compute_terms("ka", {"channels": 8}, ARRAYS) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert evaluate_terms("ka", {"channels": 8}, ARRAYS, seed=1).values != first


def test_a_term_alone_has_the_value_it_has_among_others() -> None:
    all_terms = compute_terms("cwd", {"adv_width": 4}, ARRAYS)
    for term in ("logits", "feature", "kd"):
        assert compute_terms(f"cwd.{term}", {}, ARRAYS)[term] == all_terms[term]


def test_images_bring_the_adversarial_terms() -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 128))
    assert "holistic" in compute_terms("skd", {"adv_width": 4}, ARRAYS | {"images": images})


def test_features_may_be_a_list_and_last_another_map() -> None:
    layers = {"student_features_0": FS**2, "student_features_1": FS, "teacher_features_0": FT, "teacher_features_1": FT}
    assert compute_terms("fitnet.hint", {}, layers, True)["hint"] == pytest.approx(((FS - FT) ** 2).mean())
    deep = compute_terms("fitnet.hint", {"source": "deep"}, layers | {"student_last": 0 * FS}, True)
    last = compute_terms("fitnet.hint", {"source": "last"}, layers | {"student_last": 0 * FS}, True)
    assert deep["hint"] == pytest.approx(((FS - FT) ** 2).mean())
    assert last["hint"] == pytest.approx((FT**2).mean())


@pytest.mark.parametrize("ignored", [-1, 255])
def test_both_ignore_labels_are_understood(ignored: int) -> None:
    labels = np.full((2, 64, 128), ignored)
    labels[0] = 3
    found = compute_terms("kd", {"mask_ignored": True}, ARRAYS | {"labels": labels})["kd"]
    alone = {"student_logits": LS[:1], "teacher_logits": LT[:1], "labels": labels[:1]}
    assert found == pytest.approx(compute_terms("kd", {}, alone)["kd"], rel=1e-12)


class Tokened(Method):
    name = "tokened"
    summary = "has a learned tensor"
    terms: ClassVar = {"sum": Term(1.0)}

    def setup(self) -> None:
        self.tokens = torch.nn.Parameter(torch.zeros(2, 3))

    def forward(self, step: Step) -> dict[str, torch.Tensor]:
        return {"sum": self.tokens.sum() + 0 * step.taught.logits.sum()}


def test_any_other_array_sets_the_learned_tensor_of_that_name() -> None:
    tokens = np.arange(6.0).reshape(2, 3)
    assert compute_terms(Tokened, {}, ARRAYS | {"tokens": tokens}) == {"sum": 15.0}
    with pytest.raises(HarnessError, match="array 'tokens' has shape"):
        compute_terms(Tokened, {}, ARRAYS | {"tokens": tokens[0]})


@pytest.mark.parametrize(
    ("method", "params", "arrays", "message"),
    [
        ("kx", {}, ARRAYS, "no method 'kx'"),
        ("kd", {"tua": 2}, ARRAYS, "no parameter 'tua'.*tau"),
        ("kd", {"tau": 0}, ARRAYS, "parameter 'tau'.*greater than 0"),
        ("kd", {}, {}, "no term can be computed: kd needs the array student_logits"),
        ("kd", {}, {"student_logits": LS}, "needs the array teacher_logits"),
        ("kd", {}, ARRAYS | {"student_logit": LS}, "'student_logit' is neither.*student_logits"),
        ("kd", {}, ARRAYS | {"student_logits": LS[0]}, r"'student_logits' has shape \(19, 8, 16\)"),
        ("kd", {}, ARRAYS | {"student_logits": LS[:, :0]}, "not empty"),
        ("kd", {}, ARRAYS | {"student_logits": LS.astype(str)}, "must hold numbers"),
        ("kd", {}, ARRAYS | {"labels": ARRAYS["labels"] + 0.5}, "fractions"),
        ("kd", {}, ARRAYS | {"student_logits": LS[:, :5]}, "kd.kd cannot be computed.*shapes"),
        ("fitnet", {}, ARRAYS | {"student_features": FS[:, :5]}, "fitnet.hint cannot be computed.*must be equal"),
        ("ka", {"latent_stride": 24}, ARRAYS, "does not fit these arrays.*power of two"),
        ("kd[tau=1|2]", {}, ARRAYS, "is 2 methods"),
        ("kd+pixel_kd", {"tau": 2}, ARRAYS, "--param needs a single method"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(method: str, params: dict, arrays: dict, message: str) -> None:
    with pytest.raises(HarnessError, match=f"(?s){message}"):
        compute_terms(method, params, arrays, identity_adapters=True)


def test_words_become_parameters() -> None:
    assert parse_params(["tau=4", "form=row", "mask_ignored=true", "x=null"]) == {
        "tau": 4,
        "form": "row",
        "mask_ignored": True,
        "x": None,
    }
    with pytest.raises(HarnessError, match="'tau' is no parameter"):
        parse_params(["tau"])


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no such file"):
        read_arrays(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_text("text")
    with pytest.raises(HarnessError, match=r"not an \.npz"):
        read_arrays(tmp_path / "y.npz")
    np.save(tmp_path / "z.npy", LS)
    with pytest.raises(HarnessError, match=r"not an \.npz"):
        read_arrays(tmp_path / "z.npy")
