"""Which Chromium the browser tests use (`scripts/chromium` installs it)."""

from __future__ import annotations

import shutil

# The headless shell first: it has the same engine without the windows, so that a page takes a
# quarter of the CPU time.
NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
