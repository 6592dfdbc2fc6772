"""Storage of the static files."""

from __future__ import annotations

from django.contrib.staticfiles.storage import HashedFilesMixin
from whitenoise.storage import CompressedManifestStaticFilesStorage

# Of Django's patterns for imports in JavaScript modules, without those of other files.
_ANY_SCRIPT, _IMPORTS = HashedFilesMixin._js_module_import_aggregation_patterns  # type: ignore[attr-defined]


class StaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Hashed files; our own JavaScript modules import each other by the hashed names.

    Django rewrites the imports of every script or of none. Those of other packages may import
    modules that they do not contain.
    """

    patterns = (*CompressedManifestStaticFilesStorage.patterns, ("js/*.js", _IMPORTS))
