"""What pydantic finds wrong with a value, in words that fit into a sentence. The harness uses it too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError


class Invalid(NamedTuple):
    """The first thing that is wrong.

    Attributes:
        where: the field, with dots: "stages.teacher.time"; "" for the value as a whole.
        what: what is wrong with it.
        value: what was given there.
        unknown: there is no such field.
    """

    where: str
    what: str
    value: Any
    unknown: bool

    @property
    def field(self) -> str:
        """The outermost field."""
        return self.where.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def first_invalid(error: ValidationError) -> Invalid:
    """The first of the things that are wrong, as a sentence tells it."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "")
    what = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return Invalid(where, what, first["input"], first["type"] == "extra_forbidden")
