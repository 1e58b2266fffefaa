"""Objects of plugin files in processes that have not loaded these: as loader processes of the local launcher."""

from __future__ import annotations

import pickle
from pathlib import Path

from harness.builders.datasets import open_dataset
from harness.plugins.load import load_plugins
from harness.system.shipping import Shipped
from tests.processes import python

PLUGIN = """
from harness.data.base import Split
from harness.data.sets.shapes import Shapes


class Arrives(Shapes):
    name = "arrives"

    def split(self, name):
        return _Own(super().split(name))


class _Own(Split):
    def __init__(self, split):
        self.split = split

    names = property(lambda self: self.split.names)

    def __getitem__(self, index):
        return self.split[index]
"""


def test_a_split_of_a_plugin_arrives_where_the_plugin_is_not_loaded(tmp_path: Path) -> None:
    """Was: ModuleNotFoundError, and loading in the run's own process, whatever --loader-workers said."""
    plugin, file = tmp_path / "arrives.py", tmp_path / "pickled"
    plugin.write_text(PLUGIN)
    load_plugins([plugin])
    split = open_dataset("arrives[size=32,train=2,val=2,test=3]").split("test")
    file.write_bytes(pickle.dumps(Shipped(split)))
    script = (
        "import pickle, sys; found = pickle.load(open(sys.argv[1], 'rb')); print(found[2].name, len(found.content))"
    )
    done = python("-c", script, str(file))
    assert done.stdout.split() == [split[2].name, "3"], done.stderr
    plugin.write_text(PLUGIN + "# changed since\n")
    assert "ModuleNotFoundError" in python("-c", script, str(file)).stderr
