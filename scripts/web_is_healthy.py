"""Health check of the web container: exits with 0 if /readyz returns 200."""

from __future__ import annotations

import os
import sys
import urllib.request
from urllib.parse import urlsplit


def main() -> int:
    """Send the request as PUBLIC_URL's proxy would, because Django rejects other hosts."""
    public = urlsplit(os.environ.get("PUBLIC_URL", "http://127.0.0.1"))
    request = urllib.request.Request(
        f"http://127.0.0.1:{os.environ.get('PORT', '8000')}/readyz",
        headers={"Host": public.netloc, "X-Forwarded-Proto": public.scheme},
    )
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 (our own address)
        return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
