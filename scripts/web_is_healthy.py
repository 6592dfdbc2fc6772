"""The health check of the web container: ends with 0 when /readyz answers 200."""

from __future__ import annotations

import os
import sys
import urllib.request
from urllib.parse import urlsplit


def main() -> int:
    """Ask as PUBLIC_URL's own proxy would, because Django answers no other host."""
    public = urlsplit(os.environ.get("PUBLIC_URL", "http://127.0.0.1"))
    request = urllib.request.Request(
        f"http://127.0.0.1:{os.environ.get('PORT', '8000')}/readyz",
        headers={"Host": public.netloc, "X-Forwarded-Proto": public.scheme},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 (our own address)
        return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
