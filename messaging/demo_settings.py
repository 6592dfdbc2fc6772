"""Settings shared by the demo data and the simulated providers. Does not import Django."""

from __future__ import annotations

LOGIN = "demo"
PASSWORD = "alterna-demo"  # noqa: S105 (printed at each start; the demo listens on this machine)

PHONE_NUMBER_ID = "106540352242922"
APP_SECRET = "demo-app-secret"  # noqa: S105
ACCESS_TOKEN = "demo-access-token"  # noqa: S105
VERIFY_TOKEN = "demo-verify-token"  # noqa: S105
WWEBJS_API_KEY = "demo-wwebjs-key"
WWEBJS_SESSION = "demo"
OWN_NUMBER = "+5511900000001"
FALLBACK_NUMBER = "+5511900000002"
INSTANCE = "oficina_demo"
EVOLUTION_API_KEY = "demo-evolution-key"

# Numbers to try, as listed in README.md; the last digits select a scenario of `simulators/`.
NUMBERS = (
    ("+55 11 99999-0000", "clock, sent, delivered, read"),
    ("+55 11 99999-0047", "the API rejects it (24-hour window): ✕, then the globe"),
    ("+55 11 99999-0050", "the customer opted out: ✕, and no fallback is used"),
    ("+55 11 99999-0647", "the API rejects it, and the fallback does not find the number: ✕ stays"),
    (
        "+55 11 99999-0080",
        "the API does not respond: `?`, a minute later the globe; may arrive twice (or `hold` it)",
    ),
    ("+55 11 99999-0067", "accepted, then rejected two seconds later: the fallback sends it, once"),
)
