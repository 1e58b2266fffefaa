"""A SLURM that is a JSON file: its commands, for states that no real one can be made to show.

`install` puts them into a folder for PATH. Their behaviour is in `fake.py`; what they say is in the file that
FAKE_SLURM names:

    {"next": 100, "jobs": [{"id": "100", "array": "0-4%1", "name": ..., "script": ..., "comment": ...}],
     "squeue": "text" | {"exit": 1, "stderr": "..."} | {"sleep": 60}, "sacct": ..., "scontrol": {...}, "sbatch": [...]}
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "sinfo", "scancel", "srun")


class FakeSlurm:
    """The commands, and the file that they speak from."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state_file = folder, folder / "state.json"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        body = Path(__file__).with_name("fake.py").read_text()
        for name in COMMANDS:
            command = self.bin / name
            command.write_text(f"#!{sys.executable} -S\n{body}")
            command.chmod(0o755)
        self.tell(next=100, jobs=[], scontrol={"config": "MaxArraySize            = 1001\n"})

    @property
    def env(self) -> dict[str, str]:
        """What has to be added to the environment, PATH's old value left to the caller."""
        return {"FAKE_SLURM": str(self.state_file)}

    def tell(self, **answers: Any) -> None:
        """Change what the commands say."""
        self.state_file.write_text(json.dumps({**self.state, **answers}))

    @property
    def state(self) -> dict[str, Any]:
        """The file."""
        return dict(json.loads(self.state_file.read_text())) if self.state_file.is_file() else {}

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """What was submitted."""
        return list(self.state["jobs"])

    @property
    def calls(self) -> list[list[str]]:
        """Every command that was run, with its arguments."""
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
