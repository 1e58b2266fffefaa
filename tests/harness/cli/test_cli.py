"""The command line: wrong words get one clear sentence and exit code 2, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import __version__
from harness.cli.app import run

WRONG = [
    (["sweep", "--methods", "kaa"], "did you mean"),
    (["sweep", "--methods", "KA"], "did you mean ka?"),
    (["sweep", "--methods", "all-kd"], "'all' stands for every method, by itself"),
    (["sweep", "--methods", "ka[beta=lots]"], "beta"),
    (["sweep", "--methods", "kd[tau=true]"], "true is not a number"),
    (["sweep", "--methods", "kd[tau='4']"], "single quotes are not supported"),
    (["sweep", "--methods", "kd[tau=inf]"], "tau"),
    (["sweep", "--methods", "kd[tau=1e999]"], "tau"),
    (["new-method", "torch"], "would hide the Python module 'torch'"),
    (["sweep", "--methods", "ka-nothing"], "nothing"),
    (["sweep", "--strides", "8,x"], "'x' is not a whole number"),
    (["sweep", "--strides", ""], "strides"),
    (["sweep", "--students", "mobilenet"], "is not a model"),
    (["sweep", "--students", "timn:mobilenetv2_100"], "timm"),
    (["sweep", "--dataset", "shape"], "shapes"),
    (["sweep", "--dataset", "shapes[size=-3]"], "size"),
    (["sweep", "--recipe", "quik"], "quick"),
    (["sweep", "--set", "iterations"], "name=value"),
    (["sweep", "--set", "iterations=many"], "iterations"),
    (["sweep", "--set", "speed=3"], "speed"),
    (["sweep", "--set", "iterations=true"], "true is not a number"),
    (["sweep", "--seeds", "0,-1"], "seeds.1: Input should be greater than or equal to 0"),
    (["sweep", "--teacher-seed", "-1"], "teacher_seed: Input should be greater than or equal to 0"),
    (["sweep", "--weights", "nowhere.safetensors"], "is not a file"),
    (["sweep", "--launcher", "slrum"], "slurm"),
    (["sweep", "--plugin", "nowhere.py"], "is not a file"),
    (["sweep", "--file", "nowhere.yaml"], "nowhere.yaml: no such file"),
    (["sweep", "--workers", "-1"], "workers"),
    (["sweep", "--nonsense"], "nonsense"),
    (["swep"], "swep"),
    (["recipes", "quik"], "quick"),
    (["status", "--workspace", "nowhere"], "no sweep was planned"),
    (["show", "zzz", "--workspace", "nowhere"], ""),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_wrong_words(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    extra = ["--dry-run"] if arguments[0] == "sweep" else []
    assert run([*arguments, *extra]) == 2
    captured = capsys.readouterr()
    assert said in captured.err + captured.out
    assert "Traceback" not in captured.err + captured.out


def test_the_version_is_printed_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"harness {__version__}\n"


def test_flags_and_file_give_the_same_sweep(tmp_path: Path) -> None:
    from harness.planning.parse_sweep import sweep_spec

    file = tmp_path / "sweep.yaml"
    file.write_text("methods: [none, 'ka[beta=1|10]']\nstrides: [8, 16]\nseeds: 0,1\nset: {student.iterations: 5}\n")
    flags = {"methods": "none,ka[beta=1|10]", "strides": "8,16", "seeds": "0,1", "set": ["student.iterations=5"]}
    assert sweep_spec({}, file) == sweep_spec(flags, None)
    assert sweep_spec({"strides": "32"}, file).strides == (32,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methods: {ka: {beta: 10}}", "methods: {'ka': {'beta': 10}} is not valid here"),
        ("methods: [ka[beta=1]]", "quote values with brackets or colons:  methods: [none, 'ka[beta=1|10]']"),
        ("methods: [[none]]", "methods: ['none'] is not valid here"),
        ("methods: 5", "methods: 5 is not valid here"),
        ("methods:", "methods has no value"),
        ("teachers: {a: b}", "teachers: {'a': 'b'} is not valid here"),
        ("students: [5]", "students: 5 is not valid here"),
        ("strides: true", "strides: True is not valid here"),
        ("strides: [8, x]", "strides: 'x' is not a whole number"),
        ("strides: [8.5]", "strides: 8.5 is not valid here"),
        ("teacher_seed: true", "teacher_seed: 'True' is not a whole number"),
        ("head: 5", "head: 5 is not text"),
        ("set: [5]", "set: [5] is not a change"),
        ("set: {student: 5}", "recipe 'quick', student: 5: Extra inputs"),
        ("set: ['student.iterations={']", "--set student.iterations={: '{' is not a valid value"),
        ("method: [ka]", "did you mean methods?"),
        ("seeds: 0\nmethods: none\nseeds: 1", "line 3: found duplicate key"),
        ("set: {iterations: 6, iterations: 7}", "line 1: found duplicate key"),
        ("set: {student: {iterations: 5}, student.iterations: 6}", "'student.iterations' is set twice"),
        ("set: {iterations: true}", "true is not a number"),
        ("- ka", "is not a sweep"),
    ],
)
def test_a_file_that_is_no_sweep_says_what_and_where(
    text: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(text + "\n")
    assert run(["sweep", "--file", str(file), "--dry-run", "--workspace", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "bug of the harness" not in captured.err and captured.out == ""


def test_changes_in_a_file_may_be_nested(tmp_path: Path) -> None:
    from harness.planning.parse_sweep import sweep_spec

    file = tmp_path / "sweep.yaml"
    file.write_text("set: {student: {iterations: 5, optimizer: {lr: 0.5}}, crop: [32, 32]}\n")
    flags = ["student.iterations=5", "student.optimizer.lr=0.5", "crop=[32,32]"]
    assert sweep_spec({}, file) == sweep_spec({"set": flags}, None)
    nested = ["student={iterations: 5, optimizer: {lr: 0.5}}", "crop=[32,32]"]
    assert sweep_spec({"set": nested}, None) == sweep_spec({"set": flags}, None)


@pytest.mark.parametrize("command", [["sweep", "-m", "kd"], ["ablate", "kd"]], ids=lambda command: command[0])
def test_all_settings_reach_the_launcher(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.launch.run_sweep import FinishedSweep, PlannedSweep

    seen: dict[str, object] = {}

    def keep(planned: PlannedSweep, _: str) -> FinishedSweep:
        seen.update(planned.options.settings)
        return FinishedSweep(planned, None)

    monkeypatch.setattr("harness.launch.run_sweep.run_sweep", keep)
    flags = ["--partition", "gpu", "--time", "1:00:00", "--max-parallel", "3", "-o", "mem=8G", "--snapshot"]
    monkeypatch.setattr("harness.launch.slurm.launcher.SlurmLauncher.describe", lambda *_: "")
    # The database is not there, so that nothing can be shown: what was asked of the launcher is all that is looked at.
    run([*command, "--launcher", "slurm", "-w", str(tmp_path), *flags, "--gpus-per-run", "2"])
    wanted = {"partition": "gpu", "time": "1:00:00", "max_parallel": 3, "mem": "8G", "snapshot": True, "gpus": 2}
    assert seen == wanted


def test_an_impossible_cell_is_skipped_with_its_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["sweep", "-m", "none", "-s", "4,32", "--students", "timm:resnet18", "-w", str(tmp_path), "--dry-run"]
    assert run(words) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "skip none timm:resnet18/linear@4" in output and "2 cells need 1 student" in output


@pytest.mark.parametrize("columns", [72, 80, 200])
def test_the_plan_fits_the_terminal_with_all_its_columns(
    columns: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run(["sweep", "-m", "kd", "-w", str(tmp_path), "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert max(len(line) for line in output.splitlines()) <= columns
    assert output.count("to do") == 2 and "iterations" in output and "for cells" in output


def test_camvid_without_a_folder_says_what_to_give(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    assert run(["sweep", "--dataset", "camvid", "--dry-run"]) == 2
    assert "--data-root" in capsys.readouterr().err


def _plain(text: str) -> str:
    """Output without the line breaks and padding of a table."""
    return " ".join(text.split())


GRID = ["-m", "none,ka[beta=1|10]", "-s", "32", "--students", "timm:resnet18", "--teacher", "timm:resnet18@32"]


def test_a_plan_names_the_variants_of_a_method(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["sweep", *GRID, "-w", str(tmp_path), "--dry-run"]) == 0
    shown = _plain(capsys.readouterr().out)
    assert "ka[beta=1] timm:resnet18" in shown and "ka[beta=10] timm:resnet18" in shown


def test_status_names_the_variants_of_a_method(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from harness.planning.parse_sweep import sweep_spec
    from harness.planning.plan import make_plan
    from harness.workspace.folders import Workspace
    from harness.workspace.status import save_sweep

    words = {"methods": "ka[beta=1|10]", "strides": "32", "students": "timm:resnet18", "teachers": "timm:resnet18@32"}
    save_sweep(Workspace(tmp_path), make_plan(sweep_spec(words, None)), "harness sweep")
    assert run(["status", "--all", "-w", str(tmp_path)]) == 0
    shown = _plain(capsys.readouterr().out)
    assert "ka[beta=1]" in shown and "ka[beta=10]" in shown


def test_progress_prints_names_and_reasons_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.launch.progress import Display
    from harness.planning.parse_sweep import sweep_spec
    from harness.planning.plan import make_plan

    words = {"methods": "ka[beta=10]", "strides": "32", "students": "timm:resnet18", "teachers": "timm:resnet18@32"}
    plan = make_plan(sweep_spec(words, None))
    key = next(key for key, node in plan.nodes.items() if node.spec.kind == "student")
    with Display(plan, [key]) as display:
        display.update({key: {"progress": {"iteration": 1, "iterations": 9, "loss": 1.0, "eta_s": 2.0}}})
        display.failed(key, "no map of that name: last[/]")
        display.note("see [red]this[/red]")
    shown = _plain(capsys.readouterr().err)
    assert "| ka[beta=10] timm:resnet18" in shown
    assert "failed ka[beta=10]" in shown and "no map of that name: last[/]" in shown
    assert "see [red]this[/red]" in shown


def test_a_line_of_progress_names_few_of_many_stages(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.launch.progress import LINE_STAGES, Display
    from harness.planning.parse_sweep import sweep_spec
    from harness.planning.plan import make_plan

    words = {"methods": "none", "strides": "32", "students": "timm:resnet18", "seeds": "0,1,2,3,4,5,6"}
    plan = make_plan(sweep_spec(words, None))
    with Display(plan, list(plan.nodes)) as display:
        display.update(
            {key: {"progress": {"iteration": 1, "iterations": 9, "loss": 1.0, "eta_s": 2.0}} for key in plan.nodes}
        )
    shown = _plain(capsys.readouterr().err)
    assert shown.count("none timm:resnet18") == LINE_STAGES and "; and 3 more" in shown


def test_recipes_are_shown_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["recipes", "camvid"], ["recipes", "show", "camvid"]):
        assert run(words) == 0
        shown = capsys.readouterr().out
        assert "  crop: [288, 288]\n" in shown
        assert "  iterations: teacher 368, translator 46, student 368\n" in shown
    assert run(["recipes", "show", "ka-cityscapes", "--diff", "cirkd-cityscapes"]) == 0
    assert "crop: [769, 769] -> [512, 1024]" in capsys.readouterr().out
    assert run(["recipes", "--diff", "camvid"]) == 2
    assert run(["recipes", "a", "b"]) == 2
