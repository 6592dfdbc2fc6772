"""Storage of the static files."""

from __future__ import annotations

from django.contrib.staticfiles.storage import HashedFilesMixin
from whitenoise.storage import CompressedManifestStaticFilesStorage

# Django's import patterns for JavaScript modules, without its pattern of file names.
_ANY_SCRIPT, _IMPORTS = HashedFilesMixin._js_module_import_aggregation_patterns  # type: ignore[attr-defined]


class StaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Hashed files; our own JavaScript modules import each other by the hashed names.

    Django would rewrite the imports of every script. Scripts of other packages may import modules
    that those packages do not contain.
    """

    patterns = (*CompressedManifestStaticFilesStorage.patterns, ("js/*.js", _IMPORTS))
