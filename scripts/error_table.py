"""Write docs/error-codes.md from the program's error table.

    python scripts/error_table.py          write it
    python scripts/error_table.py --print  print it

Needs no database.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "error-codes.md"
sys.path.insert(0, str(ROOT))

HEAD = """\
# Meta's error codes, and what is done about each

Written by `scripts/error_table.py` from `channels_app/providers/error_codes.py`, by which the
program decides; the same table is in the product under `/help/errors/`. The meanings are Meta's,
the rest is our judgement. A code that is not listed follows what the provider says about it
(`is_transient`, then the class of the HTTP status) and is reported in the log.

| code | meaning | kind | what is done | why |
|---|---|---|---|---|
"""


def page() -> str:
    """Return the content of the page in English."""
    import django
    from django.utils import translation

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()

    from channels_app.providers import error_codes

    with translation.override("en"):
        rows = [
            f"| {rule.code} | {rule.title} | {rule.kind.label} | {rule.fallback.label} |"
            f" {rule.explanation} |"
            for rule in error_codes.all_rules()
        ]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    if "--print" in sys.argv:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page())
