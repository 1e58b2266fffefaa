"""Fixtures: a real SLURM for the session, workspaces on it, and what the local launcher makes of the same stages."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import Cluster, unavailable
from tests.slurm.site import Place, Site, harness, host_environment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a SLURM, and says why when there is none."""
    reason = unavailable()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def start_cluster() -> Iterator[Callable[..., Cluster]]:
    """Starts clusters with any options; they end with the session."""
    with ExitStack() as stack:

        def start(**options: Any) -> Cluster:
            # A short path: unix sockets allow no long one.
            folder = Path(tempfile.mkdtemp(prefix="slurm"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            return stack.enter_context(Cluster(folder / "c", **options))

        yield start


@pytest.fixture(scope="session")
def cluster(start_cluster: Callable[..., Cluster]) -> Cluster:
    """The site of most tests: one node, two GPUs, arrays of at most five tasks, no accounting."""
    return start_cluster(max_array_size=5)


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    """A fresh workspace on the cluster; nothing may be left running when the test ends."""
    site = Site(cluster, Place(tmp_path / "runs"))
    yield site
    if jobs := site.place.all_jobs:
        cluster.try_run("scancel", *jobs)
        cluster.wait_until_ended(jobs, 60)
        cluster.wait_until(lambda: not cluster.processes(jobs), "all processes of its jobs to end", 30)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Place]:
    """What the local launcher makes of a sweep, each stage alone; the same sweep is run once."""
    place = Place(tmp_path_factory.mktemp("local") / "runs")
    ran: set[tuple[str, ...]] = set()

    def run(arguments: list[str]) -> Place:
        if tuple(arguments) not in ran:
            command = ("sweep", *arguments, "--cohort=off", f"--workspace={place.folder}", "--json")
            done = harness(*command, env=host_environment())
            assert done.returncode == 0, done.stdout + done.stderr
            ran.add(tuple(arguments))
        return place

    return run
