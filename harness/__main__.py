"""`harness` and `python -m harness`."""

from __future__ import annotations

import sys

LEAVING_S = 5.0
"""Seconds in which a command must end after its work, if third-party code ran in it."""


def main() -> None:
    """Run the command line; print errors as one sentence with a hint, unless `--debug` is given."""
    from harness.cli.app import run

    code = run(sys.argv[1:])
    _end_what_plugins_started(code)
    sys.exit(code)


def _end_what_plugins_started(code: int) -> None:
    """End processes that a plugin has forked or started, so that none outlives the command."""
    registry = sys.modules.get("harness.plugins.registry")
    if registry is not None and registry.foreign_code_ran():
        from harness.system.processes import end_children, leave_within

        for process in end_children():
            print(f"note: ended process {process}, which a plugin left running", file=sys.stderr)
        leave_within(LEAVING_S, code)


if __name__ == "__main__":
    main()
