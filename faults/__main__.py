"""`python -m faults`: COUNT messages (10000), SEED (1), a kill EVERY s (10), KILLS=0 for none.

INBOUND=n receives n messages instead, RATE (10) a second, by webhook and by WebSocket.
"""

from __future__ import annotations

import os
import sys

from faults.inbound import InboundPlan, run_inbound
from faults.run import Plan, run


def main() -> int:
    if "INBOUND" in os.environ:
        return _inbound(int(os.environ["INBOUND"]))
    count = int(os.environ.get("COUNT", "10000"))
    plan = Plan(
        count=count,
        seed=int(os.environ.get("SEED", "1")),
        kill_every=float(os.environ.get("EVERY", "10")),
        kills=None if "KILLS" not in os.environ else int(os.environ["KILLS"]),
    )
    verdict = run(plan, say=print)
    print(verdict.report())
    return 1 if verdict.faults else 0


def _inbound(count: int) -> int:
    plan = InboundPlan(
        count=count,
        seed=int(os.environ.get("SEED", "1")),
        rate=float(os.environ.get("RATE", "10")),
        kill_every=float(os.environ.get("EVERY", "10")),
        kills=None if "KILLS" not in os.environ else int(os.environ["KILLS"]),
    )
    verdict = run_inbound(plan, say=print)
    print(verdict.report())
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
