"""`harness cost`: costs of a model at an input size, without training."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import AsJson, Plugins, parse_strides
from harness.errors import Exit, HarnessError

if TYPE_CHECKING:
    from harness.specs.spec import ModelSpec

NOTE = (
    "MACs are multiply-adds of convolutions and matrix products; 1 MAC = 2 FLOPs. "
    "'other' are further operations counted by fvcore (normalisation, pooling, resizing)."
)


def cost(
    model: Annotated[str, typer.Argument(help="A model: timm:mobilenetv2_100, or timm:mobilenetv2_100/linear@16.")],
    head: Annotated[str, typer.Option(help="Head, if the model names none.")] = "linear",
    strides: Annotated[
        str, typer.Option("--strides", "-s", help="Output strides, if the model names none: 8,16,32.")
    ] = "4,8,16,32",
    size: Annotated[str, typer.Option(help="Input size: 513, or HEIGHTxWIDTH.")] = "513",
    classes: Annotated[int, typer.Option(min=1, help="Channels of the logits.")] = 21,
    latency: Annotated[
        bool, typer.Option("--latency", help="Also measure latency and peak memory: some seconds per model.")
    ] = False,
    device: Annotated[str, typer.Option(help="Device for --latency: auto, cpu, cuda, cuda:1.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision for --latency: fp32, bf16 or fp16.")] = "fp32",
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Count multiply-adds and parameters of a model at several output strides; nothing is trained or downloaded.

    Examples:

        harness cost timm:mobilenetv2_100 --head linear --strides 4,8,16,32 --size 513 --classes 21

        harness cost smp:resnet18/deeplabv3plus@16 --size 512x1024 --classes 19 --latency --json
    """
    from harness.plugins.load import load_plugins

    load_plugins(plugin or [])
    if precision not in ("fp32", "bf16", "fp16"):
        raise HarnessError(f"'{precision}' is not a precision", "use fp32, bf16 or fp16")
    height, width = parse_size(size)
    specs = _specs(model, head, strides)
    rows = [_row(spec, (height, width), classes, device, precision, latency) for spec in specs]
    if as_json:
        typer.echo(json.dumps({"size": [height, width], "classes": classes, "note": NOTE, "models": rows}, indent=1))
    else:
        _print(rows, (height, width), classes)
    if all("reason" in row for row in rows):
        raise typer.Exit(Exit.FAILED)


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from "513" or "512x1024".

    Raises:
        HarnessError: any other text.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip())
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(sides) < 1:
        raise HarnessError(f"'{text}' is not an input size", "write 513, or HEIGHTxWIDTH as in 512x1024")
    return sides


def _specs(model: str, head: str, strides: str) -> list[ModelSpec]:
    """One specification per stride; only one if the model's word includes a stride."""
    from harness.specs.spec import parse_model

    found = [parse_model(model, head, stride) for stride in parse_strides(strides)]
    return list(dict.fromkeys(found))


def _row(
    spec: ModelSpec, size: tuple[int, int], classes: int, device: str, precision: str, latency: bool
) -> dict[str, Any]:
    """The costs of one model, or the reason why it cannot be built."""
    from harness.builders.models import build_model, model_unsupported_reason
    from harness.cost import count_macs, measure_cost, parameters
    from harness.cost.forward import fitting_size
    from harness.system.devices import pick_device

    row: dict[str, Any] = {"model": spec.word, "stride": spec.stride}
    if reason := model_unsupported_reason(spec):
        return row | {"reason": reason}
    wanted, size = size, fitting_size(spec, size)
    if size != wanted:
        row["note"] = f"counted at {size[0]}x{size[1]}: it does not accept images of {wanted[0]}x{wanted[1]}"
        row["size"] = list(size)
    network = build_model(spec, classes)
    chosen = pick_device(device)
    if latency:
        measured = measure_cost(network.to(chosen), size, chosen, precision)  # type: ignore[arg-type]
        more = {
            "latency": measured.latency.model_dump() if measured.latency else None,
            "peak_memory_bytes": measured.peak_memory_bytes,
        }
        macs, operators, uncounted = measured.macs, measured.macs_by_operator, measured.uncounted
    else:
        counted, more = count_macs(network.to(chosen), size), {}
        macs, operators, uncounted = counted.headline, counted.by_operator, counted.uncounted
    return row | {
        "macs": macs,
        "flops": 2 * macs,
        "other_operations": sum(operators.values()) - macs,
        "macs_by_operator": operators,
        "uncounted": uncounted,
        "parameters": parameters(network),
        "dilation": network.backbone.dilation,
        **more,
    }


def _print(rows: list[dict[str, Any]], size: tuple[int, int], classes: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    timed = any("latency" in row for row in rows)
    label = rows[0]["model"].partition("@")[0]
    table = Table(title=f"{label}, one image of {size[0]}x{size[1]}, {classes} classes", title_justify="left", box=None)
    heads = ("stride", "GMACs", "GFLOPs", "other G", "params M", *(("ms", "p95 ms", "MiB") if timed else ()))
    for column in heads:
        table.add_column(column, justify="right")
    table.add_column("stride built by", overflow="fold")
    for row in rows:
        if "reason" not in row:
            table.add_row(*_cells(row, timed))
    console = Console()
    if table.row_count:
        console.print(table)
        console.print(NOTE, highlight=False)
    for row in rows:
        if "reason" in row:
            console.print(f"[yellow]skip[/] {row['model']}: {escape(row['reason'])}", highlight=False)
        if "note" in row:
            console.print(f"[yellow]note[/] {row['model']}: {escape(row['note'])}", highlight=False)
    lists = dict.fromkeys(_listed(row["uncounted"]) for row in rows if row.get("uncounted"))
    for listed in lists:
        strides = ", ".join(str(row["stride"]) for row in rows if _listed(row.get("uncounted", {})) == listed)
        console.print(f"not counted at stride {strides}: {listed}", highlight=False, markup=False)
    if timed:
        shown = next((row["latency"] for row in rows if row.get("latency")), None)
        how = f"on {shown['device']}, {shown['precision']}" if shown else "(it does not fit into memory)"
        console.print(f"ms: median of batch 1 {how}; MiB: peak", highlight=False)


def _listed(uncounted: dict[str, int]) -> str:
    return ", ".join(f"{name.removeprefix('aten::')} {times}x" for name, times in uncounted.items())


def _cells(row: dict[str, Any], timed: bool) -> list[str]:
    cells = [
        str(row["stride"]),
        f"{row['macs'] / 1e9:.3f}",
        f"{row['flops'] / 1e9:.3f}",
        f"{row['other_operations'] / 1e9:.3f}",
        f"{row['parameters'] / 1e6:.3f}",
    ]
    if timed:
        latency, memory = row["latency"], row["peak_memory_bytes"]
        cells += [f"{latency['median_ms']:.1f}", f"{latency['p95_ms']:.1f}"] if latency else ["", ""]
        cells += ["" if memory is None else f"{memory / 2**20:.1f}"]
    return [*cells, row["dilation"]]
