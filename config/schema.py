"""Additions to the generated OpenAPI schema, and the page that displays it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import redirect_to_login
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework import exceptions

PROBLEM = {
    "type": "object",
    "description": "What went wrong, for people and for programs.",
    "properties": {"detail": {"type": "string"}, "code": {"type": "string"}},
    "required": ["detail", "code"],
}
FIELD_ERRORS = {
    "type": "object",
    "description": "For each field its faults; or a problem, where the request cannot be read.",
    "additionalProperties": {},
}
_METHODS = ("get", "post", "put", "patch", "delete")


class DocsView(SpectacularSwaggerSplitView):
    """The browsable API documentation. Anonymous visitors are redirected to the login."""

    def handle_exception(self, exc: Exception) -> Any:
        """Redirect to the login instead of returning the API's 401."""
        if isinstance(exc, exceptions.NotAuthenticated):
            return redirect_to_login(self.request.get_full_path())
        return super().handle_exception(exc)


def document_errors(
    result: dict[str, Any], generator: Any, request: Any, public: bool
) -> dict[str, Any]:
    """Add to every operation the error responses that are common to its kind.

    A response that the view documents itself is not overwritten.
    """
    schemas = result["components"]["schemas"]
    schemas.setdefault("Problem", PROBLEM)
    schemas["FieldErrors"] = FIELD_ERRORS
    for path, operations in result["paths"].items():
        for method in _METHODS:
            if operation := operations.get(method):
                for status, (schema, text) in _errors(path, method, operation).items():
                    operation["responses"].setdefault(status, _response(schema, text))
    return result


def _errors(path: str, method: str, operation: dict[str, Any]) -> dict[str, tuple[str, str]]:
    errors = {
        "401": ("Problem", "No login, or a token that is not valid."),
        "403": ("Problem", "This is not allowed to this user."),
        "406": ("Problem", "Answers are JSON only."),
        "503": ("Problem", "The database is unavailable. Try again in a moment."),
    }
    if method == "delete":
        errors["409"] = ("Problem", "`in_use`: other records depend on this one.")
    if "requestBody" in operation:
        errors["415"] = ("Problem", "Requests are JSON only.")
    if "requestBody" in operation or any(p["in"] == "query" for p in _parameters(operation)):
        errors["400"] = ("FieldErrors", "Invalid fields.")
    if "{" in path or any(p["name"] == "cursor" for p in _parameters(operation)):
        errors["404"] = ("Problem", "There is no such thing.")
    return errors


def _parameters(operation: dict[str, Any]) -> list[dict[str, Any]]:
    return list(operation.get("parameters", []))


def _response(schema: str, text: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": text, "content": content}
