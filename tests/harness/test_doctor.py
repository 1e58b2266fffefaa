"""`harness doctor`: it finds what is there, names what is not, and its exit code says whether the harness can work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness import doctor as diagnosis
from harness.cli.doctor import doctor
from harness.doctor import Check, diagnose

app = typer.Typer()
app.command()(doctor)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No folders from the environment, and no scheduler."""
    for name in ("HARNESS_DATA", "HARNESS_WEIGHTS", "HARNESS_WORKSPACE", "HARNESS_DB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: None)


def run(*words: str) -> tuple[int, dict[tuple[str, str], Check], dict[str, object]]:
    """Exit code, checks by area and name, and all that was printed."""
    result = CliRunner().invoke(app, [*words, "--json"])
    data = json.loads(result.stdout)
    checks = [Check(**check) for check in data["checks"]]
    return result.exit_code, {(check.area, check.name): check for check in checks}, data


def test_a_machine_on_which_the_tests_run_is_well(tmp_path: Path) -> None:
    code, checks, _ = run("--workspace", str(tmp_path / "runs"))
    assert code == 0
    assert not [check for check in checks.values() if check.status == "fail"]
    assert checks["packages", "torch"].status == "ok"
    assert checks["devices", "cpu"].status == "ok"
    assert checks["scheduler", "slurm"].found == "none: the local launcher"
    assert checks["data", "shapes"].status == "ok"
    assert checks["data", "camvid"].status == "info" and "HARNESS_DATA" in checks["data", "camvid"].remedy
    assert not (tmp_path / "runs").exists()  # it looks and touches nothing


def test_for_people_it_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--workspace", str(tmp_path), "--weights-dir", str(tmp_path / "absent")])
    assert result.exit_code == 1
    assert "HARNESS_WEIGHTS" in result.stdout and "1 broken" in result.stdout


def test_what_is_broken_makes_it_fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    other = tmp_path / "other.db"
    other.write_bytes(b"this is no database at all" * 100)
    code, checks, _ = run(
        *("--workspace", str(tmp_path / "file")),
        *("--db", str(other)),
        *("--data-root", str(tmp_path / "absent")),
    )
    assert code == 1
    for name in (("workspace", "folder"), ("database", "leaderboard"), ("data", "root")):
        assert checks[name].status == "fail" and checks[name].remedy, checks[name]


def test_a_server_that_does_not_answer_fails_and_tells_no_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    code, checks, data = run("--workspace", str(tmp_path), "--db", "postgresql://user:secret@127.0.0.1:1/runs")
    assert code == 1
    assert checks["database", "leaderboard"].status == "fail"
    assert "secret" not in json.dumps(data)


def test_a_database_is_counted_and_left_alone(tmp_path: Path) -> None:
    from results.store import open_store

    path = tmp_path / "results.db"
    open_store(path).close()
    before = path.read_bytes()
    code, checks, _ = run("--workspace", str(tmp_path))
    assert code == 0
    assert checks["database", "leaderboard"].found.endswith("results.db: 0 rows")
    assert path.read_bytes() == before


def test_data_and_weights_that_are_there_are_found(tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "val", "test"):
        for folder, mode, ending in ((split, "RGB", "jpg"), (f"{split}annot", "L", "png")):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
            Image.new(mode, (8, 6)).save(tmp_path / "camvid" / folder / f"a.{ending}")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18.safetensors").write_bytes(b"")
    words = ("--workspace", str(tmp_path), "--data-root", str(tmp_path), "--weights-dir", str(tmp_path / "weights"))
    code, checks, _ = run(*words)
    assert code == 0
    assert checks["data", "camvid"].status == "ok", checks["data", "camvid"]
    assert "resnet18" in checks["weights", "imagenet"].found
    (tmp_path / "camvid" / "valannot" / "a.png").unlink()
    _, checks, _ = run(*words)
    assert checks["data", "camvid"].status == "warn"
    assert "harness data check camvid" in checks["data", "camvid"].remedy


def _command(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_slurm_is_described_by_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    tools = tmp_path / "bin"
    tools.mkdir()
    _command(tools, "sbatch", "echo slurm-wlm 22.05.8")
    _command(tools, "sinfo", "echo 'gpu* up 1-00:00:00 4 nodes gpu:2'")
    for name in ("squeue", "scancel"):
        _command(tools, name, "true")
    monkeypatch.setenv("PATH", str(tools))
    found = {check.name: check for check in diagnosis._launchers()}
    assert found["slurm"].found.startswith("slurm-wlm 22.05.8")
    assert found["partition gpu*"].found == "up 1-00:00:00 4 nodes gpu:2"
    assert found["commands"].status == "warn" and "scontrol" in found["commands"].found
    assert found["accounting"].status == "info"
    _command(tools, "sinfo", "echo 'slurm_load_partitions: Unable to contact controller' >&2; exit 1")
    silent = {check.name: check for check in diagnosis._launchers()}
    assert silent["slurm"].status == "warn" and "Unable to contact controller" in silent["slurm"].found


def test_packages_that_are_missing_old_or_do_not_import_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    have = {"torch": "1.9.0+cpu", "numpy": "2.0.0", "scipy": "1.11rc1", "pandas": "2.2+local.1"}
    monkeypatch.setattr(diagnosis, "versions", lambda: have)
    monkeypatch.setattr(diagnosis, "_installed", lambda name: None)
    monkeypatch.setattr(diagnosis, "IMPORTS", ("json", "no_such_package_anywhere"))
    found = {check.name: check for check in diagnosis._packages()}
    assert found["torch"].status == "fail" and found["torch"].found == "1.9.0+cpu, which is not >=2.6"
    assert found["numpy"].status == "ok"
    assert found["scipy"].status == "fail", "a release candidate comes before its release"
    assert found["pandas"].status == "ok", "a build of a release is that release"
    assert found["timm"].status == "fail" and "pip install 'timm>=" in found["timm"].remedy
    assert found["import no_such_package_anywhere"].status == "fail"
    assert "import json" not in found


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = diagnosis.shutil.disk_usage(tmp_path)
    for free, status in ((1 << 40, "ok"), (1 << 30, "warn"), (1 << 20, "fail")):
        monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        assert {check.name: check.status for check in diagnosis._workspace(tmp_path)}["free disk"] == status


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(diagnosis, "revision", broken)
    checks = {check.area: check for check in diagnose(tmp_path, str(tmp_path / "results.db"))}
    assert checks["code"].status == "fail" and "unforeseen" in checks["code"].found
    assert "weights" in checks


def test_numerics_are_tabulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.numerics import check as numerics

    few = tuple(case for case in numerics.TABLE if case.kind in ("1x1", "depthwise 3x3, dilation 2"))
    monkeypatch.setattr(numerics.table, "__defaults__", (("fp32", "bf16"), (False, True), few, None))
    code, _, data = run("--workspace", str(tmp_path), "--numerics", "--device", "cpu")
    rows = data["numerics"]
    assert isinstance(rows, list) and len(rows) == 16
    assert sum(row["convolution"].endswith("own gradients") for row in rows) == 4
    assert sum(row["convolution"].endswith(", oneDNN") for row in rows) == 4
    by_name = {(row["convolution"].split(",")[0], row["precision"], row["channels_last"]): row for row in rows}
    assert by_name["1x1", "fp32", True]["right"] and by_name["1x1", "bf16", True]["right"]
    for row in rows:
        errors = [float(value) for value in row["relative_errors"].values()]
        assert row["right"] == all(error <= row["tolerance"] for error in errors)
    assert code == 0  # stages avoid what is wrong: the harness can work
    shown = CliRunner().invoke(app, ["--workspace", str(tmp_path), "--numerics", "--device", "cpu"]).stdout
    assert "depthwise 3x3, dilation 2, own gradients" in shown and "NHWC" in shown
