"""`python -m bench [name …]`: run all measurements, or the named ones.

SHORT=1 runs the short form of each, which proves that it works and measures nothing. Otherwise the
results are written to bench/results.json (`bench/results.py: write`).
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
import time
import traceback

from bench import results
from bench.product import running

# Each has `measure(product, short=…)`, in this order; the long ones last.
NAMES = (
    "intake",
    "statuses",
    "throughput",
    "sending",
    "socket_events",
    "live",
    "scaling",
    "crash",
    "receive_mode",
    "rule",
    "memory",
)
# `measure(short=…)`: it prepares databases of its own.
GROWTH = "growth"
# For 1,000 open pages and what else a process has open.
FILES = 8192


def main() -> int:
    known = [*NAMES, GROWTH]
    names = sys.argv[1:] or known
    for name in names:
        if name not in known:
            print(f"unknown: {name} (known: {', '.join(known)})", file=sys.stderr)
            return 2
    _allow_many_sockets()
    short = bool(os.environ.get("SHORT"))
    fresh = names == known
    failed: list[str] = []
    for name in names:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        module = importlib.import_module(f"bench.{name}")
        try:
            if name == GROWTH:
                found = module.measure(short=short)
            else:
                with running() as product:
                    found = module.measure(product, short=short)
        except Exception:
            # A machine may be too slow for one of them; the others still count.
            traceback.print_exc()
            failed.append(name)
            continue
        for line in found:
            print(line)
        print(f"   {name} took {time.monotonic() - began:.0f} s", flush=True)
        if not short:
            results.write(found, fresh=fresh)
            fresh = False
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _allow_many_sockets() -> None:
    """Raise the limit of open files, which the processes of the product inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
