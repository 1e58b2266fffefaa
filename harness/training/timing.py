"""Time of the parts of an iteration, on devices that run asynchronously."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch


class Piece:
    """The time of one `with` block.

    On a GPU, the block only enqueues work: its time is measured between two events of the stream, and `seconds` waits
    for them.

    Attributes:
        askers: number of students that requested the result.
    """

    def __init__(self, device: torch.device) -> None:
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None
        if device.type == "cuda":
            self._events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        self._began = self._seconds = 0.0
        self.askers = 0

    def __enter__(self) -> Piece:
        if self._events:
            self._events[0].record()
        else:
            self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self._events:
            self._events[1].record()
        else:
            self._seconds = time.perf_counter() - self._began

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        if self._events:
            self._events[1].synchronize()
            self._seconds = self._events[0].elapsed_time(self._events[1]) / 1000
            self._events = None
        return self._seconds


def total(pieces: Iterable[Piece]) -> float:
    """The total seconds of all pieces."""
    return sum(piece.seconds for piece in pieces)


@dataclass(frozen=True)
class Share:
    """Seconds of a number of iterations of one student, as if it had been trained alone.

    Attributes:
        own: its forward and backward pass, terms and optimisers.
        teacher: the teacher's forward pass, and what was computed from its maps alone; 0 if it asks for none.
        loading: all else that an iteration takes: waiting for a batch, above all.
        teacher_paid: `teacher`, each piece divided by the number of students that asked for it.
        students: how many shared the loading.
        wall: what the iterations took for all of them together.
    """

    own: float
    teacher: float
    loading: float
    teacher_paid: float
    students: int
    wall: float

    @property
    def alone(self) -> float:
        """All of it, as if the student had been alone."""
        return self.own + self.teacher + self.loading

    @property
    def paid(self) -> float:
        """Its own part, and its part of what was shared."""
        return self.own + self.teacher_paid + self.loading / self.students
