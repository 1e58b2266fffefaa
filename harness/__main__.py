"""`harness` and `python -m harness`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; errors are one sentence with a hint, unless `--debug`."""
    from harness.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
