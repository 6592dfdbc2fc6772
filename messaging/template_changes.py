"""Submit what the form of a template contains."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.utils.translation import gettext as _

from channels_app import message_templates
from channels_app.models import Channel, MessageTemplate
from messaging.models import Media
from messaging.template_forms import TemplateForm


def submit(
    form: TemplateForm, channel: Channel, template: MessageTemplate | None
) -> MessageTemplate:
    """Create a template, or change this one, and return it. Meta reviews it.

    The example of a header is uploaded to Meta first. Raises ValidationError, keyed by the part of
    the form, or the provider's SendError. Not inside a transaction.
    """
    handle = _upload_example(form, channel) if form.has_file and not form.is_code else ""
    draft = form.draft(handle=handle)
    if template is None:
        return message_templates.create(channel, draft)
    return message_templates.edit(template, draft)


def _upload_example(form: TemplateForm, channel: Channel) -> str:
    stored = Media.objects.filter(state=Media.State.STORED)
    media = stored.filter(pk=form.media_id).first() if form.media_id else None
    if media is None:
        raise ValidationError({"header": [_("Upload an example of the file.")]})
    with default_storage.open(str(media.file.name), "rb") as file:
        data = cast("bytes", file.read())
    return message_templates.upload_example(
        channel, data=data, filename=Path(media.filename).name, mime_type=media.mime_type
    )
