"""Reading annotation files: every error becomes a message that starts with the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError


@contextmanager
def reading(file: Path, kind: str, hint: str) -> Iterator[None]:
    """Context for reading a JSON file of a certain format.

    Args:
        kind: whose JSON it should be: "COCO's".
        hint: what such a file holds, or how it is made.

    Raises:
        HarnessError: it is missing, no JSON, or of another kind.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise HarnessError(f"{file}: is missing", "correct annotations: in dataset.yaml") from error
    except (OSError, ValueError, RecursionError) as error:
        raise HarnessError(f"{file}: is not JSON: {error}") from error
    except (LookupError, TypeError, AttributeError, StopIteration) as error:
        raise HarnessError(f"{file}: is not {kind} JSON: {error!r}", hint) from error
    except HarnessError as error:
        place = "" if error.message.startswith(f"{file}: ") else f"{file}: "
        raise HarnessError(f"{place}{error.message}", error.hint) from error
