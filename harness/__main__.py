"""`harness` and `python -m harness`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; print errors as one sentence with a hint, unless `--debug` is given."""
    from harness.cli.app import run

    code = run(sys.argv[1:])
    _end_what_plugins_started()
    sys.exit(code)


def _end_what_plugins_started() -> None:
    """End processes that a plugin has forked or started, so that none outlives the command."""
    registry = sys.modules.get("harness.plugins.registry")
    if registry is not None and registry.foreign_code_ran():
        from harness.system.processes import end_children

        for process in end_children():
            print(f"note: ended process {process}, which a plugin left running", file=sys.stderr)


if __name__ == "__main__":
    main()
