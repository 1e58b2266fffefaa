"""A real SLURM for a test: controller, nodes with GPUs that are not there, munge; one temporary folder, loopback only.

    with Cluster(tmp_path) as cluster:
        cluster.run("sbatch", "--wrap", "hostname")

No systemd, no cgroups, nothing of the machine's own configuration is read or written. All daemons are children of this
process and die with it; `stop` also ends whatever their jobs left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DAEMONS = ("slurmctld", "slurmd", "munged")
CLIENTS = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PR_SET_PDEATHSIG = 1
_DAEMON_NAMES = (*DAEMONS, "slurmscriptd")


def unavailable() -> str:
    """Why no SLURM can be brought up here; empty when it can."""
    missing = [p for p in (*DAEMONS, *CLIENTS) if not shutil.which(p, path=_search_path())]
    if missing:
        return f"SLURM is not installed ({', '.join(missing)} missing): apt-get install the packages of packages.txt"
    return ""


def _search_path() -> str:
    return f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


@dataclass
class Cluster:
    """A throw-away SLURM.

    Args:
        folder: where everything lives; must be short enough for a unix socket (about 90 characters).
        nodes, gpus, cpus: node count, and what each node claims to have.
        max_array_size: `MaxArraySize`, which caps the *index* of an array task: 5 allows 0 to 4.
        preempt: "REQUEUE" or "CANCEL": what happens to a job of partition `gpu` when one of `high` needs its place.
        over_memory_kill: jobs above their `--mem` are killed.
        signal_grace_s: `KillWait`: seconds between SIGTERM and SIGKILL.
        credentials_s: life of a munge credential; SLURM holds a requeued job back for a little longer than this.
    """

    folder: Path
    nodes: int = 1
    gpus: int = 2
    cpus: int = 16
    max_array_size: int = 1001
    preempt: str = "REQUEUE"
    over_memory_kill: bool = False
    signal_grace_s: int = 15
    credentials_s: int = 5
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _node_ports: list[int] = field(default_factory=list)
    _controller_port: int = 0

    def __enter__(self) -> Cluster:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def conf(self) -> Path:
        """The configuration; `SLURM_CONF` points here."""
        return self.folder / "slurm.conf"

    @property
    def env(self) -> dict[str, str]:
        """The environment in which this cluster's commands are run."""
        drop = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SUBMITIT_", "CUDA_VISIBLE")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
        return {**kept, "PATH": _search_path(), "SLURM_CONF": str(self.conf)}

    # ------------------------------------------------------------------ life

    def start(self) -> Cluster:
        """Bring everything up and wait until the nodes are idle."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._controller_port, *self._node_ports = _free_ports(1 + self.nodes)
        self._write_configuration()
        self._start_munge()
        self.start_controller()
        for index in range(self.nodes):
            self._start_node(index)
        self.wait_until(lambda: self._idle_nodes() == self.nodes, "the nodes to become idle", timeout_s=60)
        return self

    def start_controller(self) -> None:
        """Start slurmctld and wait until it answers."""
        self._spawn("slurmctld", ["slurmctld", "-D", "-f", str(self.conf)])
        self.wait_until(lambda: self.try_run("scontrol", "ping").returncode == 0, "slurmctld to answer")

    def stop_controller(self) -> None:
        """Stop slurmctld alone: jobs run on, no command is answered. Its state is saved."""
        self._end("slurmctld", signal.SIGTERM)

    def restart_controller(self) -> None:
        """Stop and start slurmctld."""
        self.stop_controller()
        self.start_controller()

    def stop_node(self, index: int = 0) -> None:
        """Kill a node's daemon."""
        self._end(f"slurmd-{index}", signal.SIGKILL)

    def stop(self) -> None:
        """End all: jobs, daemons, and every process that was started under this configuration."""
        if self._alive("slurmctld"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.try_run("scancel", "--user", pwd.getpwuid(os.getuid()).pw_name, timeout_s=5)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for name in [n for n in self._children if n != "munged"] + ["munged"]:
            self._end(name, signal.SIGTERM if name == "slurmctld" else signal.SIGKILL)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, jobs: Collection[str] = ()) -> list[int]:
        """Processes that belong to this cluster and are not its daemons: steps, jobs, what jobs started.

        Args:
            jobs: ids of arrays; their processes alone.
        """
        mark = f"SLURM_CONF={self.conf}".encode()
        arrays = {f"SLURM_ARRAY_JOB_ID={job}".encode() for job in jobs}
        return [
            pid
            for pid, name, env in _processes()
            if name not in _DAEMON_NAMES and mark in env and (not arrays or arrays & env)
        ]

    # ------------------------------------------------------------------ use

    def run(self, *command: str, timeout_s: float = 30, **environment: str) -> str:
        """Run a command against this cluster and return what it printed.

        Raises:
            AssertionError: it failed; the message holds its output.
        """
        result = self.try_run(*command, timeout_s=timeout_s, **environment)
        assert result.returncode == 0, f"{' '.join(command)} -> {result.returncode}\n{result.stdout}{result.stderr}"
        return result.stdout

    def try_run(self, *command: str, timeout_s: float = 30, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command against this cluster, whatever comes of it."""
        return subprocess.run(
            command, env={**self.env, **environment}, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def jobs(self) -> dict[str, str]:
        """State of every job and array task the controller remembers: {"12_0": "RUNNING"}."""
        text = self.run("squeue", "--noheader", "--array", "--states=all", "--format=%i %T")
        return dict(line.split(None, 1) for line in text.splitlines() if line.strip())

    def job(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of one job."""
        text = self.run("scontrol", "show", "--oneliner", "job", job)
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def wait_until(self, condition: Callable[[], Any], what: str, timeout_s: float = 30, poll_s: float = 0.1) -> Any:
        """Wait for something and return it.

        Raises:
            AssertionError: it did not come in time; the message has the queue and the end of the logs.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(poll_s)
        raise AssertionError(f"waited {timeout_s:.0f} s for {what}\n{self.report()}")

    def wait_for_state(self, job: str, *states: str, timeout_s: float = 60) -> str:
        """Wait until a job is in one of these states."""
        return self.wait_until(
            lambda: (s := self.jobs().get(job, "")) in states and s, f"job {job} to be {'/'.join(states)}", timeout_s
        )

    def wait_until_ended(self, jobs: Collection[str], timeout_s: float = 120) -> None:
        """Wait until none of these jobs is pending, running or completing."""
        command = ("squeue", "--noheader", f"--jobs={','.join(jobs)}")
        self.wait_until(lambda: not self.run(*command).strip(), f"jobs {jobs} to end", timeout_s, 0.25)

    def report(self) -> str:
        """The queue and the ends of the daemons' logs, for a failed test."""
        queue = self.try_run("squeue", "--array", "--states=all", "--format=%i %j %P %T %r %E", timeout_s=10)
        parts = [queue.stdout + queue.stderr]
        for log in sorted(self.folder.glob("*.log")):
            parts.append(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:]))
        return "\n".join(parts)

    # ------------------------------------------------------------------ parts

    def _idle_nodes(self) -> int:
        states = self.try_run("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%T").stdout.split()
        return states.count("idle")

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        socket_file = self.folder / "munge.sock"
        options = {
            "key-file": key,
            "socket": socket_file,
            "pid-file": self.folder / "munged.pid",
            "log-file": self.folder / "munged-own.log",
            "seed-file": self.folder / "munge.seed",
        }
        self._spawn("munged", ["munged", "--foreground", "--force", *(f"--{k}={v}" for k, v in options.items())])
        self.wait_until(socket_file.exists, "munged to listen")

    def _start_node(self, index: int) -> None:
        self._spawn(f"slurmd-{index}", ["slurmd", "-D", "-N", f"node{index}", "-f", str(self.conf)])

    def _spawn(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def _alive(self, name: str) -> bool:
        return name in self._children and self._children[name].poll() is None

    def _end(self, name: str, how: signal.Signals) -> None:
        child = self._children.pop(name, None)
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(how)
        try:
            child.wait(timeout=15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _version(self) -> tuple[int, int]:
        text = subprocess.run(["slurmctld", "-V"], env=self.env, capture_output=True, text=True, check=True).stdout
        major, minor = re.findall(r"\d+", text)[:2]
        return int(major), int(minor)

    def _write_configuration(self) -> None:
        for name in ("state", *(f"spool-{i}" for i in range(self.nodes))):
            (self.folder / name).mkdir(exist_ok=True)
        for index in range(self.gpus * self.nodes):
            # A device file must be one: a regular file is counted, but no CUDA_VISIBLE_DEVICES comes of it.
            link = self.folder / f"fakegpu{index}"
            if not link.is_symlink():
                link.symlink_to("/dev/null")
        lines = [
            f"NodeName=node{i} Name=gpu File={self.folder}/fakegpu[{i * self.gpus}-{(i + 1) * self.gpus - 1}]"
            for i in range(self.nodes)
        ]
        (self.folder / "gres.conf").write_text("\n".join(lines if self.gpus else []) + "\n")
        if self._version() >= (23, 11):
            (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        self.conf.write_text("\n".join(self._configuration()) + "\n")

    def _configuration(self) -> Iterator[str]:
        user = pwd.getpwuid(os.getuid()).pw_name
        yield "ClusterName=throwaway"
        yield f"SlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort={self._controller_port}"
        yield "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
        yield f"SlurmUser={user}\nSlurmdUser={user}"
        yield f"AuthType=auth/munge\nAuthInfo=socket={self.folder}/munge.sock,cred_expire={self.credentials_s}"
        yield f"StateSaveLocation={self.folder}/state\nSlurmdSpoolDir={self.folder}/spool-%n"
        yield f"SlurmctldPidFile={self.folder}/slurmctld.pid\nSlurmdPidFile={self.folder}/slurmd-%n.pid"
        yield "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSwitchType=switch/none\nMpiDefault=none"
        yield "JobAcctGatherType=jobacct_gather/linux\nSlurmdParameters=config_overrides"
        if self.over_memory_kill:
            yield "JobAcctGatherFrequency=task=1\nJobAcctGatherParams=OverMemoryKill"
        yield "AccountingStorageType=accounting_storage/none\nJobCompType=jobcomp/none"
        yield "SelectType=select/cons_tres\nSelectTypeParameters=CR_Core_Memory\nGresTypes=gpu\nDefMemPerCPU=500"
        yield "SchedulerType=sched/backfill"
        yield "SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,bf_resolution=1"
        yield f"PreemptType=preempt/partition_prio\nPreemptMode={self.preempt}"
        yield "SlurmctldParameters=preempt_send_user_signal"
        yield f"KillWait={self.signal_grace_s}\nMinJobAge=3600\nInactiveLimit=0\nReturnToService=2\nSlurmdTimeout=30"
        # Ids that begin at 1 in every cluster would find the files of the one before.
        yield f"FirstJobId={int(time.time()) % 10_000_000 + 1}\nMaxJobId=67000000"
        yield f"MaxArraySize={self.max_array_size}\nMaxJobCount=50000\nJobRequeue=1"
        yield "SlurmctldDebug=info\nSlurmdDebug=info"
        gres = f" Gres=gpu:{self.gpus}" if self.gpus else ""
        for index, port in enumerate(self._node_ports):
            yield (
                f"NodeName=node{index} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} "
                f"CPUs={self.cpus} RealMemory=64000{gres} State=UNKNOWN"
            )
        grace = "GraceTime=0"
        yield f"PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10 {grace}"
        yield "PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=100 PreemptMode=off"


def _processes() -> Iterator[tuple[int, str, set[bytes]]]:
    """(pid, name, environment) of every process that may be looked at."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                yield (
                    int(entry.name),
                    (entry / "comm").read_text().strip(),
                    set((entry / "environ").read_bytes().split(b"\0")),
                )
