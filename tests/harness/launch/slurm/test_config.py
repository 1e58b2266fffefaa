"""The site's file and a user's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.launch.slurm.config import Resources, make_config, minutes, settings_config


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No site file but the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HARNESS_SLURM_CONFIG", raising=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4:00:00", 240),
        ("90", 90),
        (90, 90),
        ("1-12:00:00", 2160),
        ("2-3", 3060),
        ("30m", 30),
        ("4h", 240),
        ("2d", 2880),
        ("10:30", 11),
        ("0:00:01", 1),
        ("45s", 1),
    ],
)
def test_minutes(text: str | int, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "0", "0:00:00", "4:00:00:00", "-5", "4 hours; rm"])
def test_no_time_limit(text: str) -> None:
    with pytest.raises(HarnessError, match="time limit"):
        minutes(text)


@pytest.mark.parametrize(
    ("flag", "kind", "expected"),
    [
        ("gpus-per-node", "", {"gpus-per-node": "2"}),
        ("gpus-per-node", "a100", {"gpus-per-node": "a100:2"}),
        ("gres", "", {"gres": "gpu:2"}),
        ("gres", "v100", {"gres": "gpu:v100:2"}),
        ("gpus-per-task", "", {"gpus-per-task": "1"}),
        ("gpus", "", {"gpus": "6"}),
        ("none", "", {}),
    ],
)
def test_gpus_as_the_site_spells_them(flag: str, kind: str, expected: dict[str, str]) -> None:
    wanted = Resources.model_validate({"gpus": 2, "nodes": 3, "gpu_flag": flag, "gpu_type": kind})
    assert wanted.flags() == expected and wanted.world_size == 6


def test_file_then_flags(tmp_path: Path) -> None:
    Path("harness-slurm.yaml").write_text(
        "partition: gpu\ntime: 4:00:00\nsbatch: {nice: 100, exclusive: true}\nsetup: [module load cuda]\n"
        "stages:\n  teacher: {time: 12:00:00, mem: 64G}\n"
    )
    config = make_config({"partition": "long", "sbatch": {"exclude": "n7"}})
    assert config.partition == "long" and config.setup == ("module load cuda",)
    # YAML 1.1 would read 4:00:00 as the number 14400.
    assert minutes(config.time) == 240 and minutes(config.resources("teacher").time) == 720
    assert config.resources("student").mem == "" and config.resources("teacher").mem == "64G"
    assert config.resources("student").flags() == {
        "partition": "long", "gpus-per-node": "1", "nice": 100, "exclusive": True, "exclude": "n7",
    }  # fmt: skip
    # A word on the command line holds for all kinds, unless it names one.
    assert minutes(make_config({"time": "1h"}).resources("teacher").time) == 60
    assert make_config({"teacher.mem": "8G"}).resources("teacher").mem == "8G"


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "config" / "harness" / "slurm.yaml"
    home.parent.mkdir(parents=True)
    home.write_text("partition: home\n")
    assert make_config({}).partition == "home"
    Path("harness-slurm.yaml").write_text("partition: here\n")
    assert make_config({}).partition == "here"
    (tmp_path / "named.yaml").write_text("partition: named\n")
    monkeypatch.setenv("HARNESS_SLURM_CONFIG", str(tmp_path / "named.yaml"))
    assert make_config({}).partition == "named"
    assert make_config({}, Path("harness-slurm.yaml")).partition == "here"
    with pytest.raises(HarnessError, match="no file of slurm settings"):
        make_config({}, tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"partitoin": "gpu"}, "unknown setting 'partitoin'"),
        ({"mem": "lots"}, "not an amount of memory"),
        ({"mem": "1G\n"}, "not an amount of memory"),
        ({"time": "soon"}, "not a time limit"),
        ({"gpus": -1}, "gpus"),
        ({"partition": "gpu\nrm -rf ~"}, "control character"),
        ({"sbatch": {"array": "0-9"}}, "set by the launcher itself"),
        ({"sbatch": {"nice\n": "1"}}, "not a flag of sbatch"),
        ({"sbatch": {"comment": "a\nb"}}, "control character"),
        ({"setup": ["a\nb"]}, "control character"),
        ({"student.partition": "a\nb"}, "control character"),
    ],
)
def test_what_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(HarnessError, match=sentence):
        make_config(changes)


@pytest.mark.parametrize("text", ["- a\n- b\n", "partition: [", "a: b: c"])
def test_files_that_are_no_settings(text: str) -> None:
    Path("harness-slurm.yaml").write_text(text)
    with pytest.raises(HarnessError, match=r"harness-slurm\.yaml"):
        make_config({})


def test_settings_as_words() -> None:
    config = settings_config(
        {"gpus-per-run": 2, "time": "1:00:00", "teacher.mem": "8G", "sbatch.nice": 7, "setup": "module load x",
         "srun": "--mpi=none --label", "snapshot": True, "max-parallel": 3, "student.gpus-per-run": 1}
    )  # fmt: skip
    assert (config.gpus, config.snapshot, config.max_parallel) == (2, True, 3)
    assert config.resources("student").gpus == 1 and config.resources("teacher").gpus == 2
    assert config.sbatch == {"nice": 7} and config.setup == ("module load x",)
    assert config.srun == ("--mpi=none", "--label")


def test_signal_never_eats_a_short_limit() -> None:
    config = make_config({"signal_delay_s": 90})
    assert [config.signal_s(m) for m in (1, 3, 10, 240)] == [20, 60, 90, 90]
