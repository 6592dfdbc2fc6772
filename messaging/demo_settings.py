"""What the demo's rows and the simulated providers must agree on. Imports nothing of Django."""

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
INSTANCE = "oficina_demo"
EVOLUTION_API_KEY = "demo-evolution-key"
