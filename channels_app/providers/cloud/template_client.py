"""Reads and changes the templates of a WhatsApp Business account (docs/providers/cloud.md §11).

Everything here sends no message. What only reads raises Rejected or Transient; what changes
something at Meta may also raise Unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from channels_app.providers.base import Rejected, SendError, Transient, Unknown
from channels_app.providers.cloud import templates
from channels_app.providers.cloud.client import (
    DEFAULT_GRAPH_URL,
    DEFAULT_GRAPH_VERSION,
    error_of,
)
from channels_app.providers.cloud.templates import Definition
from channels_app.providers.error_codes import failure
from core import http_client
from core.text import safe_id

if TYPE_CHECKING:
    from channels_app.providers.cloud.settings import CloudSettings

# One unknown field fails the whole call (§11.1).
FIELDS: Final = (
    "id,name,language,status,category,parameter_format,components,quality_score,rejected_reason"
)
PAGE_SIZE, MAX_PAGES = 100, 200
UPLOAD_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Created:
    """What Meta made of a draft: it chooses the category itself."""

    template_id: str
    status: str
    category: str


class TemplateClient:
    """The templates of the account to which a channel's number belongs."""

    def __init__(self, settings: CloudSettings, *, timeout: float) -> None:
        self._base = settings.graph_url or DEFAULT_GRAPH_URL
        self._version = settings.graph_version or DEFAULT_GRAPH_VERSION
        self._account = settings.business_account_id
        self._token = settings.access_token
        self._timeout = timeout

    def definitions(self) -> list[Definition]:
        """Return all templates of the account. Raises Rejected or Transient."""
        found: dict[str, Definition] = {}
        for row in self._rows():
            definition = templates.read(row)
            # A template that is created meanwhile moves others to the next page.
            if definition is not None:
                found[definition.template_id] = definition
        return list(found.values())

    def _rows(self) -> Iterator[Any]:
        query = {"fields": FIELDS, "limit": str(PAGE_SIZE)}
        for _page in range(MAX_PAGES):
            body = self._read("/{version}/{account}/message_templates", query=query)
            rows = body.get("data")
            if not isinstance(rows, list):
                raise failure(Transient, "unreadable_answer")
            yield from rows
            paging = body.get("paging")
            paging = paging if isinstance(paging, Mapping) else {}
            cursors = paging.get("cursors")
            after = cursors.get("after") if isinstance(cursors, Mapping) else None
            if not paging.get("next") or not isinstance(after, str) or not after:
                return
            if after == query.get("after"):
                raise failure(Transient, "unreadable_answer", "the page repeats")
            query["after"] = after
        raise failure(Transient, "unreadable_answer", "too many pages")

    def create(self, draft: Mapping[str, Any]) -> Created:
        """Create a template from a draft. Raises Rejected, Transient or Unknown."""
        body = self._change("POST", "/{version}/{account}/message_templates", json=dict(draft))
        template_id = safe_id(str(body.get("id") or ""))
        if template_id is None:
            raise failure(Unknown, "unreadable_answer")
        status, category = (str(body.get(name) or "").upper()[:40] for name in _ANSWERED)
        return Created(template_id[:64], status, category)

    def edit(self, template_id: str, changes: Mapping[str, Any]) -> None:
        """Replace the components of a template. Raises Rejected, Transient or Unknown."""
        self._change("POST", "/{version}/{template}", json=dict(changes), template=template_id)

    def delete(self, name: str, template_id: str) -> None:
        """Delete one language of a template. Raises Rejected, Transient or Unknown."""
        query = {"name": name, "hsm_id": template_id}
        self._change("DELETE", "/{version}/{account}/message_templates", query=query)

    def unpause(self, template_id: str) -> None:
        """End the pause of a template that Meta paces. Raises Rejected, Transient or Unknown."""
        self._change("POST", "/{version}/{template}/unpause", template=template_id)

    def upload_example(self, *, data: bytes, filename: str, mime_type: str) -> str:
        """Upload the example of a header and return its handle (§11.7).

        Raises Rejected or Transient.
        """
        about = self._read("/{version}/debug_token", query={"input_token": self._token})
        inner = about.get("data")
        app_id = safe_id(str(inner.get("app_id") or "")) if isinstance(inner, Mapping) else None
        if app_id is None:
            raise failure(Rejected, "unreadable_answer", "app_id")
        begin = {"file_name": filename, "file_length": str(len(data)), "file_type": mime_type}
        session = self._read("/{version}/{app}/uploads", method="POST", query=begin, app=app_id)
        upload, _mark, query = str(session.get("id") or "").partition("?")
        if not upload.startswith("upload:"):
            raise failure(Transient, "upload_failed")
        signature = dict(part.partition("=")[::2] for part in query.split("&") if part)
        answer = self._read(
            "/{version}/{upload}",
            method="POST",
            query=signature,
            data=data,
            headers={"Authorization": f"OAuth {self._token}", "file_offset": "0"},
            timeout=max(self._timeout, UPLOAD_SECONDS),
            upload=upload,
        )
        handle = answer.get("h")
        if not isinstance(handle, str) or not handle:
            raise failure(Transient, "upload_failed")
        return handle

    def _read(self, path: str, *, method: str = "GET", **options: Any) -> dict[str, Any]:
        """Make a request that changes no template, so that it can be repeated."""
        try:
            return self._change(method, path, **options)
        except Unknown as error:
            raise failure(Transient, error.code, error.detail) from None

    def _change(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        template: str = "",
        app: str = "",
        upload: str = "",
        **options: Any,
    ) -> dict[str, Any]:
        if not (self._account and self._token):
            raise failure(Rejected, "not_configured")
        try:
            answer = http_client.request(
                method,
                self._base,
                path,
                params={
                    "version": self._version,
                    "account": self._account,
                    "template": template,
                    "app": app,
                    "upload": upload,
                },
                headers=headers or {"Authorization": f"Bearer {self._token}"},
                timeout=timeout or self._timeout,
                **options,
            )
        except http_client.RequestNotSent as error:
            kind: type[SendError] = Rejected if error.reason == "invalid_address" else Transient
            raise failure(kind, error.reason, error.detail) from None
        except http_client.ResponseLost as error:
            raise failure(Unknown, error.reason, error.detail) from None
        body = answer.json_object()
        if 200 <= answer.status < 300 and body is not None and "error" not in body:
            return body
        raise error_of(answer, secrets=(self._token,))


_ANSWERED = ("status", "category")
