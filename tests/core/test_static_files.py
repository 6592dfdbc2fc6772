"""The collected static files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from django.conf import settings as configured
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command

from core.static_files import StaticFilesStorage

IMPORT = re.compile(r"""^(?:import|export)\b[^;]*?["']([./][^"']*)["'];""", re.MULTILINE)


def test_collected_modules_import_files_that_exist_by_their_hashed_names(
    settings: Any, tmp_path: Path
) -> None:
    settings.STATIC_ROOT = tmp_path
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "core.static_files.StaticFilesStorage"},
    }
    call_command("collectstatic", interactive=False, verbosity=0)

    seen: set[str] = set()
    entries = "|".join(
        path.read_text() for path in Path(configured.BASE_DIR, "templates").rglob("*.html")
    )
    pending = re.findall(r'type="module" src="{% static "(js/[\w/]+\.js)" %}"', entries)
    storage = cast("StaticFilesStorage", staticfiles_storage)
    collected = [tmp_path / storage.stored_name(name) for name in pending]
    while collected:
        module = collected.pop()
        seen.add(re.sub(r"\.[0-9a-f]{12}\.js$", ".js", module.relative_to(tmp_path).as_posix()))
        for imported in IMPORT.findall(module.read_text()):
            target = (module.parent / imported).resolve()
            assert re.search(r"\.[0-9a-f]{12}\.js$", target.name), (module.name, imported)
            assert target.is_file(), (module.name, imported)
            collected.append(target)

    [source] = configured.STATICFILES_DIRS
    modules = {path.relative_to(source).as_posix() for path in Path(source).rglob("*.js")}
    # Not modules: other programs' files, and what the browser starts by itself.
    assert seen == {name for name in modules if name.startswith("js/")}
