"""Prefetch batches to the device: the next one is copied during computations on the current one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from harness.data.loading import Batch


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches in order, on the device. On a GPU one batch is prefetched on a separate stream."""
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    stream, ahead = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = batch.to(device)
        if ahead is not None:
            yield _arrived(ahead, stream, device)
        ahead = copied
    if ahead is not None:
        yield _arrived(ahead, stream, device)


def _arrived(batch: Batch, stream: torch.cuda.Stream, device: torch.device) -> Batch:
    """The batch for use on the current stream; its memory is not reused before that stream has finished with it."""
    current = torch.cuda.current_stream(device)
    current.wait_stream(stream)
    for tensor in (batch.images, batch.labels):
        tensor.record_stream(current)
    return batch
