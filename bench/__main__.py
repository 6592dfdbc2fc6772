"""`python -m bench [name …]`: run all measurements, or the named ones."""

from __future__ import annotations

import importlib
import sys

NAMES = ("sending", "receive_mode", "crash")


def main() -> int:
    names = sys.argv[1:] or NAMES
    for name in names:
        if name not in NAMES:
            print(f"unknown: {name} (known: {', '.join(NAMES)})", file=sys.stderr)
            return 2
    for name in names:
        print(f"== {name}", flush=True)
        importlib.import_module(f"bench.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
