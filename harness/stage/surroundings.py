"""Compare the environment of a finished stage (code, libraries, device, data) with the current one."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from harness.builders.datasets import manifest_digest, open_dataset
from harness.builders.models import model_source
from harness.data.base import Dataset
from harness.errors import ChangedSincePlanned, HarnessError
from harness.plugins.registries import DATASETS
from harness.specs.spec import StageSpec
from harness.workspace.files import read_json
from harness.workspace.folders import StageFolder
from results.invalid import first_invalid
from results.record import Environment, Record

Changes = dict[str, tuple[str, str]]
"""Name -> (then, now)."""


def changed_environment(then: Environment, now: Environment) -> Changes:
    """Differences of two environments: revision, device, host, threads and versions of libraries."""
    pairs = {
        "code": (_revision(then), _revision(now)),
        "device": (then.device, now.device),
        "host": (then.host, now.host),
        "threads": (str(then.threads), str(now.threads)),
    }
    for name in dict.fromkeys([*then.versions, *now.versions]):
        pairs[name] = then.versions.get(name, "absent"), now.versions.get(name, "absent")
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _revision(environment: Environment) -> str:
    return environment.revision + (" with changes" if environment.dirty else "")


def recorded_spec(record: Record) -> StageSpec:
    """The stage specification of a record.

    Raises:
        HarnessError: this version of the harness cannot read it, or computes another key for it.
    """
    remedy = f"take the code of then: {_revision(record.environment)}"
    try:
        spec = StageSpec.model_validate(record.spec)
    except ValidationError as error:
        raise HarnessError(f"{record.name}: the specification in its record: {first_invalid(error)}", remedy) from error
    if spec.key != record.key:
        raise HarnessError(
            f"{record.name}: the harness that wrote its record names the same stage {record.key}, this one {spec.key}",
            remedy,
        )
    return spec


def device_word(record: Record, asked: str = "auto") -> str:
    """The requested device; by default the kind of device in the record."""
    return asked if asked != "auto" else record.environment.device.partition(":")[0] or "auto"


def data_root_of(folder: StageFolder, given: Path | None) -> Path | None:
    """The given data root, else that of the stage's last job."""
    job = read_json(folder.job_file)
    told = job.get("data_root") if isinstance(job, dict) else None
    return given or (Path(told) if isinstance(told, str) and Path(told).is_dir() else None)


def same_data(spec: StageSpec, data_root: Path | None) -> Dataset:
    """The stage's data set, with data, plugins and packages verified to be unchanged since planning.

    Raises:
        HarnessError: the data, or the plugin or package of data set or model, have changed.
    """
    hint = "use the original data and plugins (--data-root, --plugin)"
    sources = {
        f"the plugin or package of data set '{spec.dataset.name}'": (
            spec.dataset.source,
            DATASETS.entry(spec.dataset.name).source,
        ),
        f"the plugin or package of model {spec.model.word}": (spec.model.source, model_source(spec.model)),
    }
    for what, (planned, found) in sources.items():
        if planned != found:
            raise ChangedSincePlanned(what, planned, found, hint)
    dataset = open_dataset(spec.dataset, data_root)
    if (manifest := manifest_digest(dataset)) != spec.dataset.manifest:
        raise ChangedSincePlanned(f"the data of {spec.dataset.label}", spec.dataset.manifest, manifest, hint)
    return dataset
