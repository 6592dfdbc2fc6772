"""The tests mirror the source tree."""

from pathlib import Path

# Recorded exchanges with the real servers.
FIXTURES_DIR = Path(__file__).parent / "fixtures"
