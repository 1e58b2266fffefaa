"""`harness terms`: what it reads, what it leaves out, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from harness.cli.app import run
from harness.cli.terms import terms
from harness.conformance.arrays import read_arrays
from harness.conformance.terms import compute_terms, evaluate_terms
from harness.errors import HarnessError
from harness.plugins.registries import METHODS
from harness.specs.values import parse_pairs
from methods.base import Method, Step, Term, Translator
from tests.methods.golden import ARRAYS, FS, FT, LS, LT, write
from tests.methods.test_golden import GOLDEN, GOLDEN_TORCHDISTILL


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
    assert "holistic is skipped" in result.stderr and "images" in result.stderr


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
        return {"sum": self.tokens.sum() + 0 * step.teacher_maps.logits.sum()}


def test_any_other_array_sets_the_learned_tensor_of_that_name() -> None:
    tokens = np.arange(6.0).reshape(2, 3)
    assert compute_terms(Tokened, {}, ARRAYS | {"tokens": tokens}) == {"sum": 15.0}
    for wrong in (tokens[0], tokens.T):
        with pytest.raises(HarnessError, match=r"array 'tokens' has shape .*the learned tensor 'tokens' has \(2, 3\)"):
            compute_terms(Tokened, {}, ARRAYS | {"tokens": wrong})
    generator = {"weight": np.ones((8, 8, 3, 3))}
    with pytest.raises(HarnessError, match=r"'weight' may be any of 2 .*'generator.layers.0.weight' or"):
        compute_terms("mgd.generate", {}, ARRAYS | generator)
    assert compute_terms("mgd.generate", {}, ARRAYS | {"generator.layers.0.weight": generator["weight"]})


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
        (
            "kd",
            {},
            ARRAYS | {"student_logits": LS[:, :5]},
            "'student_logits' has 5 classes and 'teacher_logits' has 19",
        ),
        ("kd", {}, ARRAYS | {"student_logits": LS[:1]}, "'student_logits' has 1 images and 'teacher_logits' has 2"),
        (
            "kd",
            {},
            ARRAYS | {"student_logits": np.full_like(LS, np.nan)},
            "'student_logits' has .* values that are NaN or infinite",
        ),
        ("kd", {}, ARRAYS | {"labels": ARRAYS["labels"] - 1}, "'labels' contains -2, but 'student_logits' has 19"),
        ("kd", {}, ARRAYS | {"labels": ARRAYS["labels"] + 3}, "'labels' contains 21, but 'student_logits' has 19"),
        ("kd", {}, ARRAYS | {"images": np.ones((2, 1, 64, 128))}, r"'images' has shape .*\(B, 3, H, W\)"),
        ("kd", {}, ARRAYS | {"images": np.ones((2, 3, 32, 64))}, "'labels' has 128 columns and 'images' has 64"),
        ("dsd", {}, {"student_features_0": FS, "student_features_2": FS}, "'student_features_1' is missing"),
        ("maskd", {}, ARRAYS | {"tokns": FS}, "'tokns' is neither.*did you mean tokens"),
        ("maskd", {}, ARRAYS | {"tokens": FS.astype(str)}, "'tokens' is <U.*must hold numbers"),
        ("maskd", {}, ARRAYS | {"tokens": np.ones((8, 5))}, r"'tokens' has shape \(8, 5\).*has \(8, 19\)"),
        ("fitnet", {}, ARRAYS | {"student_features": FS[:, :5]}, "fitnet.hint cannot be computed.*must be equal"),
        ("ka", {"latent_stride": 24}, ARRAYS, "does not fit these arrays.*power of two"),
        ("kd[tau=1|2]", {}, ARRAYS, "is 2 methods"),
        ("kd+pixel_kd", {"tau": 2}, ARRAYS, "--param needs a single method"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(method: str, params: dict, arrays: dict, message: str) -> None:
    with pytest.raises(HarnessError, match=f"(?s){message}"):
        compute_terms(method, params, arrays, identity_adapters=True)


class Faulty(Method):
    name = "faulty"
    summary = "does one thing wrong"
    terms: ClassVar = {"main": Term(1.0), "other": Term(1.0)}
    reads = frozenset({"logits"})
    gives: ClassVar[object] = None

    def forward(self, step: Step) -> dict[str, torch.Tensor]:
        if isinstance(self.gives, Exception):
            raise self.gives
        return dict.fromkeys(self.active, self.gives) if isinstance(self.gives, torch.Tensor) else self.gives


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (ZeroDivisionError("by zero"), "failed in forward, .*test_terms.py, line .*ZeroDivisionError: by zero"),
        (KeyError("depth"), "failed in forward, .*KeyError: 'depth'"),
        ({"man": torch.ones(())}, "returned the undeclared term 'man'"),
        ({}, "did not return its active term 'main'"),
        (torch.ones(2), r"main is a torch.float32 tensor of shape \(2,\)"),
        (3.0, "returned float instead of a dict"),
    ],
)
def test_a_method_that_goes_wrong_is_told_as_in_training(
    gives: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "gives", gives)
    with pytest.raises(HarnessError, match=f"faulty.main cannot be computed from these arrays: .*'faulty'.*{message}"):
        compute_terms(Faulty, {}, ARRAYS)


class FaultyTranslator(Translator):
    terms: ClassVar = {"main": Term(1.0)}

    def forward(self, teacher: object) -> dict[str, torch.Tensor]:
        return {"man": torch.ones(())}


def test_a_translator_that_goes_wrong_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Faulty, "translator_key", classmethod(lambda *_: {}))
    monkeypatch.setattr(Faulty, "build_translator", classmethod(lambda *_: FaultyTranslator()))
    monkeypatch.setattr(Faulty, "gives", torch.ones(()))
    with pytest.raises(HarnessError, match=r"faulty.translator cannot be .* the undeclared term 'man'"):
        compute_terms(Faulty, {}, ARRAYS)


def test_a_term_that_is_not_finite_is_null_with_a_note(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "gives", torch.tensor(float("nan")))
    found = evaluate_terms(Faulty, {}, ARRAYS)
    assert set(found.values) == {"main", "other"} and "term 'main' of method 'faulty'" in found.notes["main"]
    plugin = tmp_path / "sick.py"
    lines = [
        "from methods.base import Method, Term", "print('loading')", "class Sick(Method):", "    name = 'sick'",
        "    summary = 'is not finite'", "    terms = {'main': Term(1.0)}", "    reads = frozenset({'logits'})",
        "    def forward(self, step):", "        print('computing')",
        "        return {'main': step.student.logits.mean() / 0}",
    ]  # fmt: skip
    plugin.write_text("\n".join(lines) + "\n")
    try:
        result = call("sick", "--inputs", str(inputs), "--plugin", str(plugin))
    finally:
        METHODS._entries.pop("sick", None)
    assert json.loads(result.stdout) == {"main": None}
    assert f"null: term 'main' of method 'sick' ({plugin}) is" in result.stderr
    assert "loading" in result.stderr and "computing" in result.stderr


def test_words_become_parameters() -> None:
    assert parse_pairs(["tau=4", "form=row", "mask_ignored=true", "x=null"], "--param") == {
        "tau": 4,
        "form": "row",
        "mask_ignored": True,
        "x": None,
    }
    with pytest.raises(HarnessError, match="--param tau is not name=value"):
        parse_pairs(["tau"], "--param")


def pickled(file: Path) -> None:
    np.savez(file, a=np.array([{}], dtype=object))


def truncated(file: Path) -> None:
    np.savez(file, student_logits=LS)
    file.write_bytes(file.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda file: None, "no such file"),
        (lambda file: file.write_bytes(b""), r"is not an \.npz file: No data left"),
        (lambda file: file.write_text("text"), r"is not an \.npz file: it is not an archive of arrays"),
        (lambda file: file.mkdir(), r"is not an \.npz file"),
        (lambda file: np.save(file.open("wb"), LS), "it contains one array without a name"),
        (truncated, r"is not an \.npz file"),
        (lambda file: np.savez(file), "contains no arrays"),
        (pickled, "array 'a' cannot be read: Object arrays"),
    ],
)
def test_files_that_are_no_archive(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    make(file)
    with pytest.raises(HarnessError, match=says):
        read_arrays(file)


def test_an_empty_file_is_no_interruption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.npz").write_bytes(b"")
    assert run(["terms", "kd", "--inputs", str(tmp_path / "x.npz")]) == 2
    assert "is not an .npz file" in capsys.readouterr().err


def test_the_end_of_a_file_elsewhere_is_a_fault_and_no_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise EOFError("ended too early")

    monkeypatch.setattr("harness.plugins.load.load_plugins", broken)
    assert run(["methods"]) == 1
    said = capsys.readouterr().err
    assert "EOFError: ended too early" in said and "interrupted" not in said


def golden_rows() -> list[list[str]]:
    """Cells of the table of golden values in docs/methods.md."""
    text = (
        (Path(__file__).parents[3] / "docs" / "methods.md").read_text().split("## Golden values")[1].split("\n## ")[0]
    )
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return rows[2:]


@pytest.fixture(scope="module")
def golden_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    write(folder)
    return folder


@pytest.mark.parametrize("row", golden_rows(), ids=lambda row: f"{row[0]}, {row[1]}")
def test_every_golden_value_of_the_documentation_is_what_the_command_prints(row: list[str], golden_files: Path) -> None:
    _, words, file, names, factor, value = row
    result = call(*words.strip("`").split(), "--inputs", str(golden_files / file.strip("`")), "--identity-adapters")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    total = sum(found[name.strip("`")] for name in names.split(" + "))
    assert float(factor) * total == pytest.approx(float(value), rel=1e-6)


def test_the_documentation_has_all_golden_values() -> None:
    assert len(golden_rows()) == 32
    tested = {value for *_, value in GOLDEN} | {value for *_, value in GOLDEN_TORCHDISTILL}
    assert tested <= {float(row[-1]) for row in golden_rows()}
