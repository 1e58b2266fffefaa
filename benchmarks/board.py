"""How long the board takes with very many runs: collecting them, every kind of question, commands, and the first paint.

python benchmarks/board.py --runs 100000                        # SQLite
python benchmarks/board.py --runs 100000 --db postgresql://...  # an empty database
python benchmarks/board.py --runs 100000 --db postgres          # a server of its own, taken down at the end
python benchmarks/board.py --runs 100000 --datasets 1           # all of them in one data set
python benchmarks/board.py --runs 2241 --datasets 1 --copies 44 # 100 845 runs, most of them copied in the database
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from benchmarks.board_copies import copy  # noqa: E402
from benchmarks.board_workspace import METHODS, points, write  # noqa: E402
from results import formats, queries  # noqa: E402
from results.brief import brief, complete  # noqa: E402
from results.leaderboard import leaderboard  # noqa: E402
from results.rebuild import collect_into  # noqa: E402
from results.store import Store, open_store  # noqa: E402

PAGE = 200
"""Rows of a page of a table."""
AGAIN = 3
"""Every question is asked so often; the middle time is told."""
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]


def timed(name: str, what: Callable[[], Any], again: int = 1) -> Any:
    """Do something, and print a row: seconds, those of them that this process computed, and how much came of it."""
    taken = []
    for _ in range(again):
        wall, processor = time.perf_counter(), time.process_time()
        found = what()
        taken.append((time.perf_counter() - wall, time.process_time() - processor))
    wall, processor = sorted(taken)[len(taken) // 2]
    size = f"{len(found)}" if hasattr(found, "__len__") else ""
    print(f"| {name} | {wall:.3f} | {processor:.3f} | {size} |", flush=True)
    return found, wall


def collecting(workspace: Path, runs: int, datasets: int, target: str, draw: bool) -> None:
    """Collect the runs, then nothing, then one more; then, if asked for, draw what there was no time for."""
    last = list(zip(points(datasets), range(runs)))[-1][0]
    aside = workspace / "aside"
    (workspace / "stages" / last["key"]).rename(aside)

    def collected(patience_s: float = 20.0) -> Any:
        done = collect_into(workspace, target, patience_s=patience_s, processes=os.cpu_count() or 1).summary
        return done.added

    added, wall = timed("collect: all new", lambda: collected(0.0))
    print(f"| . . . records a second | {len(added) / wall:.0f} | | |")
    timed("collect: none changed", lambda: collected(0.0))
    aside.rename(workspace / "stages" / last["key"])
    timed("collect: one new", lambda: collected(0.0))
    if draw:
        timed("tiers and intervals of all rows and metrics, once", lambda: collected(float("inf")))


def questions(store: Store) -> None:
    """What pages and commands ask."""
    rows = queries.rows_in_brief(store)
    dataset = str(rows["dataset"].value_counts().index[0])
    one = {"dataset": [dataset]}
    student, recipe = str(rows["student"].iloc[0]), str(rows["recipe"].iloc[0])
    key = str(queries.runs(store, limit=1)["key"].iloc[0])
    everything = brief(store, one)
    board = complete(store, everything.head(PAGE), everything)
    asked: dict[str, Callable[[], Any]] = {
        "what there is to filter by": lambda: queries.cells(store),
        "rows in brief, for the sidebar": lambda: queries.rows_in_brief(store),
        "a data set in brief": lambda: brief(store, one),
        "the same by another metric": lambda: brief(store, one, metric="fw_iou"),
        "the same with latency and training cost": lambda: brief(store, one, also=("latency_ms", "training_s")),
        "a page of it in full": lambda: complete(store, everything.tail(PAGE), everything),
        "what is said of all rows": lambda: [formats.caption(everything), *formats.notes(everything)],
        "a student in brief": lambda: brief(store, one | {"student": [student]}),
        "a recipe in brief": lambda: brief(store, one | {"recipe": [recipe]}),
        "one method in all data sets, in brief": lambda: brief(store, {"method": ["ka"]}),
        "leaderboard, a data set, a student and a stride": lambda: leaderboard(
            store, one | {"student": [student], "stride": [16]}, most_drawn=0
        ),
        "leaderboard, a recipe, two seeds of three": lambda: leaderboard(
            store, one | {"recipe": [recipe], "seed": [0, 1]}, most_drawn=0
        ),
        "leaderboard, a data set, every column": lambda: leaderboard(store, one, most_drawn=0),
        "a page of runs": lambda: queries.runs(store, limit=200),
        "the last page of runs": lambda: queries.runs(store, limit=200, offset=queries.count_runs(store) - 200),
        "a page of runs that hold a text": lambda: queries.runs(store, limit=200, search="node7"),
        "how many runs hold it": lambda: [queries.count_runs(store, search="node7")],
        "the runs behind a row": lambda: queries.runs(store, keys=board["keys"].iloc[0].split(",")),
        "IoU by class of a row": lambda: queries.per_class(store, board["keys"].iloc[0].split(",")),
        "a run by the beginning of its key": lambda: [queries.run(store, key[:10])],
        "a run by words": lambda: [queries.run(store, "seed=0", "teacher", dataset, recipe)],
    }
    for name, ask in asked.items():
        timed(name, ask, AGAIN)


def commands(workspace: Path, target: str) -> None:
    """The command line as a user runs it, imports included."""
    with open_store(target, readonly=True) as store:
        key = str(queries.runs(store, limit=1)["key"].iloc[0])
    place = ["--workspace", str(workspace), "--db", target]
    for words in (["show", key[:12]], ["leaderboard", "-d", "camvid"], ["leaderboard", "-d", "camvid", "-f", "csv"]):
        command = [sys.executable, "-m", "harness", *words, *place]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        wall = time.perf_counter() - began
        print(f"| `harness {' '.join(words)}` | {wall:.3f} | {processor:.3f} | {len(done.stdout.splitlines())} |")


@contextlib.contextmanager
def served(workspace: Path, target: str) -> Iterator[tuple[str, psutil.Process]]:
    """The board as `harness dashboard` would start it: its address and its process."""
    from harness.cli.dashboard import command

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"HARNESS_WORKSPACE": str(workspace), "HARNESS_DB": target, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command("127.0.0.1", port), env=os.environ | place, cwd=ROOT)
    try:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


PAINTED = """window.when = {};
new MutationObserver(() => {
  const drawn = ["stDataFrame] canvas", "stVegaLiteChart] canvas", "stVegaLiteChart] svg"];
  const first = document.querySelector(drawn.map((what) => `[data-testid=${what}`).join());
  const note = (name) => requestAnimationFrame(() => requestAnimationFrame(() => {
    window.when[name] ??= performance.now() / 1000;
  }));
  if (first) note("first");
  const ended = document.querySelector("[data-testid=stApp][data-test-script-state=notRunning]");
  if (first && ended && !document.querySelector("[data-testid=stSkeleton]")) note("whole");
}).observe(document, {childList: true, subtree: true, attributes: true, attributeFilter: ["data-test-script-state"]})"""
"""Notes when the first table or chart, and when all of the page has been painted. Playwright, asked to wait for
something, looks only twice a second."""
PAGES = ("", "", "", "runs", "runs", "tradeoff", "tradeoff", "strides", "strides", "classes", "classes")


def painting(workspace: Path, target: str) -> None:
    """From the address to the first table or chart, and to all of a page, in Chromium with nothing in its cache."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with served(workspace, target) as (address, server), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=CHROMIUM)
        for place in PAGES:
            page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
            page.set_default_timeout(300_000)
            page.add_init_script(PAINTED)
            before = sum(server.cpu_times()[:2])
            page.goto(f"{address}/{place}", wait_until="commit")
            page.wait_for_function("when.whole", polling=200)
            when, processor = page.evaluate("when"), sum(server.cpu_times()[:2]) - before
            memory = f"{server.memory_info().rss / 2**20:.0f} MiB"
            print(f"| first paint, {place or 'leaderboard'} | {when['first']:.3f} | {processor:.3f} | {memory} |")
            print(f"| . . . all of the page | {when['whole']:.3f} | | |", flush=True)
            page.wait_for_load_state("networkidle")
            page.context.close()
        browser.close()


def measure(asked: argparse.Namespace, workspace: Path, target: str) -> None:
    """Everything, as a Markdown table."""
    began, runs = time.perf_counter(), asked.runs
    write(workspace, runs, asked.datasets)
    kind = "PostgreSQL" if "://" in target and not target.startswith("sqlite") else "SQLite"
    load = os.getloadavg()[0]
    print(
        f"{runs} runs, {len(METHODS)} methods, {kind}; {platform.machine()}, {os.cpu_count()} cores, load {load:.1f};"
    )
    print(f"the records were written in {time.perf_counter() - began:.0f} s\n")
    print("| what | seconds | of processor time | rows |\n|---|---|---|---|")
    collecting(workspace, runs, asked.datasets, target, not asked.undrawn)
    if asked.copies:
        with open_store(target) as store:
            copy(store, asked.copies)
    with open_store(target, readonly=True) as store:
        questions(store)
    print(f"| memory of this process | | | {psutil.Process().memory_info().rss / 2**20:.0f} MiB |")
    commands(workspace, target)
    if not asked.no_browser:
        painting(workspace, target)


def main() -> None:
    """Read the words, make the place, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--db", help="file or URL of a database that is new; 'postgres' for a server of its own")
    parser.add_argument("--workspace", type=Path, help="folder for the records; they are kept")
    parser.add_argument("--datasets", type=int, default=5, help="of so many data sets; fewer hold more rows each")
    parser.add_argument("--copies", type=int, default=0, help="then add so many copies of all runs to the database")
    parser.add_argument("--undrawn", action="store_true", help="leave tiers and intervals of most rows undrawn")
    parser.add_argument("--no-browser", action="store_true")
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = asked.workspace or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="board")))
        target = asked.db or str(folder / "results.db")
        if target == "postgres":
            from tests.results.server import own_server

            target = stack.enter_context(own_server())
        measure(asked, folder.absolute(), target)


if __name__ == "__main__":
    main()
