"""Parse uploads, with a size limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from rest_framework import exceptions, parsers, status

from channels_app.providers import media_types

# The size allowed for the parts of a form other than the file.
FORM_OVERHEAD_BYTES = 64 * 1024


class TooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class UploadParser(parsers.MultiPartParser):
    """DRF's multipart parser, which does not parse a body too large for any message."""

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the form's fields and files. Raises ParseError or TooLarge."""
        request = (parser_context or {})["request"]
        try:
            length = int(request.META.get("CONTENT_LENGTH") or 0)
        except ValueError:
            length = 0
        if length > media_types.MAX_BYTES + FORM_OVERHEAD_BYTES:
            raise TooLarge(
                _("The upload has %(size)s; WhatsApp accepts at most %(most)s.")
                % {
                    "size": filesizeformat(length),
                    "most": filesizeformat(media_types.MAX_BYTES),
                }
            )
        return super().parse(stream, media_type, parser_context)
