"""Plan the messages of a run and their recipients, from the seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

# Brazilian area codes: each adds one customer per scenario.
AREAS = (
    *range(11, 20), 21, 22, 24, 27, 28, *range(31, 36), 37, 38, *range(41, 50), 51, 53, 54, 55,
    *range(61, 70), 71, 73, 74, 75, 77, 79, *range(81, 90), *range(91, 100),
)  # fmt: skip
# Digits of simulators/graph/tables.py: immediate rejections, transient errors, late failures,
# unknown outcomes, out-of-order statuses.
REJECTED = ("47", "26", "30", "29", "49", "50", "03", "48", "04", "51", "53", "01", "17", "99")
TRANSIENT = ("16", "02")
LATE = ("67", "66", "69", "63", "60", "68", "65")
UNKNOWN = ("80", "81", "82", "83", "84", "85", "86", "87", "88", "89")
DISORDER = ("91", "92", "93", "94", "95", "96")
# Rejected immediately or late, and allowed on the fallback, which carries them if it is healthy.
CARRIED = ("47", "26", "30", "29", "04", "51", "53", "01", "17", "99", "67", "66", "63", "68")
# Retried after 1, 4, 16 and 64 s: for long runs only.
SLOW = ("56",)
# Rejections of the whole account, on a separate channel: they open its circuit breaker.
ACCOUNT = ("90", "42", "10")
# Digits of simulators/wwebjs/tables.py. Omitted: 02, a false success (indistinguishable from a real
# one, docs/providers/wwebjs.md §0), and 03, which blocks all new chats for a day.
FALLBACK = (
    "00", "00", "00", "00", "01", "04", "05", "06", "07", "08", "10", "11", "15", "20", "21", "22",
    "23", "24", "25", "27", "28",
)  # fmt: skip
# Certainly not sent: retried after 3, 15 and 60 s.
SLOW_FALLBACK = ("13", "31", "32")
# Digits of simulators/evolution/model.py, with the same omissions.
BAILEYS = (
    "00", "00", "00", "00", "02", "06", "07", "09", "10", "13", "20", "21", "23", "24", "25", "26",
    "27", "28", "29",
)  # fmt: skip
SLOW_BAILEYS = ("30", "31")

# The channels: one with a wwebjs session, one that Meta rejects entirely, one with Baileys.
Channel = Literal["main", "account", "baileys"]


@dataclass(frozen=True, slots=True)
class SentMessage:
    """One message to send by a channel; `graph` and `fallback` are the simulators' scenarios."""

    number: int
    to: str
    text: str
    graph: str
    fallback: str
    channel: Channel = "main"


def planned_messages(count: int, seed: int) -> list[SentMessage]:
    """Return the messages of a run: about two thirds without faults, the rest with all kinds."""
    rng = random.Random(seed)
    fault_free_customers = max(10, count // 4)
    kinds = [REJECTED, TRANSIENT, LATE, UNKNOWN, DISORDER]
    weights: list[float] = [8, 2, 5, 6, 5]
    web: tuple[str, ...] = FALLBACK
    baileys: tuple[str, ...] = BAILEYS
    if count >= 1000:
        kinds.append(SLOW)
        weights.append(0.2)
        web, baileys = web + SLOW_FALLBACK, baileys + SLOW_BAILEYS
    messages = []
    for number in range(count):
        text = f"faults {seed} {number}"
        chance = rng.random()
        if chance < 0.64:
            to = f"+55119{70_000_000 + rng.randrange(fault_free_customers)}"
            messages.append(SentMessage(number, to, text, "00", "00"))
            continue
        channel: Channel = "account" if chance > 0.98 else "baileys" if chance > 0.86 else "main"
        graph = rng.choice(ACCOUNT if channel == "account" else rng.choices(kinds, weights)[0])
        fallback = rng.choice(baileys if channel == "baileys" else web)
        areas: tuple[int, ...] = AREAS
        if graph in TRANSIENT and channel == "main":
            # Few customers, with many messages each: retries must not change their order.
            fallback, areas = "00", AREAS[:2]
        elif graph in CARRIED and channel == "main" and rng.random() < 0.5:
            fallback = "00"
        to = f"+55{rng.choice(areas)}99999{fallback}{graph}"
        messages.append(SentMessage(number, to, text, graph, fallback, channel))
    return messages
