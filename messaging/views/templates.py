"""The pages of message templates: list, one template, create, edit, delete, synchronize."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin
from channels_app import message_templates
from channels_app.incidents import reason_text
from channels_app.models import MessageTemplate
from channels_app.providers.base import SendError, Unknown
from channels_app.providers.cloud import template_drafts, templates
from messaging import template_changes, template_forms, template_selectors, template_words
from messaging.template_forms import TemplateForm

PER_PAGE = 50
_HEADERS = {
    "": gettext_lazy("None"),
    "TEXT": gettext_lazy("Text"),
    "IMAGE": gettext_lazy("Image"),
    "VIDEO": gettext_lazy("Video"),
    "DOCUMENT": gettext_lazy("Document"),
    "LOCATION": gettext_lazy("Location"),
}
_BUTTONS = {
    "QUICK_REPLY": gettext_lazy("Quick reply"),
    "URL": gettext_lazy("Open an address"),
    "PHONE_NUMBER": gettext_lazy("Call a number"),
    "COPY_CODE": gettext_lazy("Copy a coupon code"),
    "REQUEST_CONTACT_INFO": gettext_lazy("Ask for the phone number"),
}
_LIMITS = {
    "header": template_drafts.MAX_HEADER,
    "body": template_drafts.MAX_BODY,
    "footer": template_drafts.MAX_FOOTER,
    "button": template_drafts.MAX_BUTTON_TEXT,
}


class TemplateFilterForm(forms.Form):
    """The filters of the list. An invalid value is ignored."""

    search = forms.CharField(
        label=gettext_lazy("Search templates"),
        required=False,
        max_length=100,
        widget=forms.TextInput(
            attrs={"type": "search", "placeholder": gettext_lazy("Name or text")}
        ),
    )
    status = forms.ChoiceField(label=gettext_lazy("Status"), required=False)
    category = forms.ChoiceField(label=gettext_lazy("Category"), required=False)
    account = forms.ChoiceField(label=gettext_lazy("Account"), required=False)

    def __init__(self, data: Any, *, accounts: list[template_selectors.Account]) -> None:
        super().__init__(data)
        words: dict[str, dict[str, template_words.Word]] = {
            "status": template_words.STATUSES,
            "category": template_words.CATEGORIES,
        }
        everything = {"status": _("All statuses"), "category": _("All categories")}
        for name, found in words.items():
            choices = [(code, word.label) for code, word in found.items()]
            cast("forms.ChoiceField", self.fields[name]).choices = [
                ("", everything[name]),
                *choices,
            ]
        if len(accounts) > 1:
            cast("forms.ChoiceField", self.fields["account"]).choices = [
                ("", _("All accounts")),
                *((one.id, one.name) for one in accounts),
            ]
        else:
            del self.fields["account"]


class TemplateListView(StaffPermissionRequiredMixin, View):
    """All templates with status and quality, filtered."""

    permissions = ("channels_app.view_messagetemplate",)

    def get(self, request: HttpRequest) -> HttpResponse:
        accounts = template_selectors.accounts()
        filters = TemplateFilterForm(request.GET, accounts=accounts)
        filters.is_valid()
        values: dict[str, Any] = filters.cleaned_data
        chosen = values.get("account") or ""
        found = template_selectors.find(
            [one.id for one in accounts if chosen in ("", one.id)],
            search=values.get("search") or "",
            status=values.get("status") or "",
            category=values.get("category") or "",
        )
        page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
        query = request.GET.copy()
        query.pop("page", None)
        context = {
            "accounts": accounts,
            "filters": filters,
            "filtered": any(values.values()),
            "page": page,
            "query": query.urlencode(),
            "in_review": any(row.status in ("PENDING", "IN_APPEAL") for row in page),
        }
        return render(request, "message_templates/list.html", context)


class TemplateView(StaffPermissionRequiredMixin, View):
    """One template: what the customer sees, its state, and what to do about it."""

    permissions = ("channels_app.view_messagetemplate",)

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        template = _stored(pk)
        definition = template.definition
        editable_here = template_forms.is_editable_here(definition)
        context = {
            "template": template,
            "account": template_selectors.account_of(template),
            "fields": templates.fields(definition),
            "category_changes": [
                reason_text.describe(one.reason, one.detail)
                for one in template_selectors.category_changes(template)
            ],
            "editable_here": editable_here,
            "may_edit": editable_here
            and definition.status in template_drafts.EDITABLE
            and request.user.has_perm("channels_app.change_messagetemplate"),
        }
        return render(request, "message_templates/detail.html", context)


class CheckDraftView(StaffPermissionRequiredMixin, View):
    """The preview and the errors of a draft, while a person types. Nothing is stored."""

    permissions = ("channels_app.view_messagetemplate",)

    def post(self, request: HttpRequest) -> HttpResponse:
        form, template = TemplateForm.from_post(request.POST), None
        if (pk := request.POST.get("template", "")).isdecimal():
            template = _editable(int(pk))
            form.belongs_to(template)
        errors = {key: text for key, text in _errors(form, template).items()
                  if not form.untouched(key)}  # fmt: skip
        context = _form_context(form, template, errors)
        shown = request.POST.getlist("shown_example")
        context["new_examples"] = shown != [one.key for one in form.examples]
        return render(request, "message_templates/_checked.html", context)


def _stored(pk: int) -> MessageTemplate:
    return get_object_or_404(MessageTemplate, pk=pk, deleted_at=None)


def _errors(form: TemplateForm, template: MessageTemplate | None) -> dict[str, str]:
    """Return what Meta would reject. The example of a file is uploaded when all else is right."""
    draft = form.draft(handle=template_forms.PENDING_HANDLE if form.media else "")
    if template is not None:
        return template_drafts.edit_errors(template.definition, draft)
    return template_drafts.creation_errors(draft)


def _form_context(
    form: TemplateForm, template: MessageTemplate | None, errors: dict[str, str]
) -> dict[str, Any]:
    """Return what the form shows. Errors of parts that it does not have are listed apart."""
    known = {"name", "language", "category", "header", "body", "footer", "buttons"}
    for index, row in enumerate(form.buttons):
        row.error = errors.get(f"button.{index}", "")
        known.add(f"button.{index}")
    others = [text for key, text in errors.items() if key not in known]
    ids = {
        "error-name": errors.get("name", ""),
        "error-language": errors.get("language", ""),
        "error-category": errors.get("category", ""),
        "error-header": errors.get("header", ""),
        "error-body": errors.get("body", ""),
        "error-footer": "" if form.is_code else errors.get("footer", ""),
        "error-code-footer": errors.get("footer", "") if form.is_code else "",
        "error-buttons": errors.get("buttons", ""),
        "error-other": " ".join(others),
    }
    return {
        "form": form,
        "template": template,
        "errors": errors,
        "part_errors": list(ids.items()),
        "other_errors": others,
        "rendered": form.rendered(),
        "accounts": template_selectors.accounts(),
        "languages": template_words.LANGUAGES,
        "categories": list(template_words.CATEGORIES.items()),
        "fixed_category": template is not None and template.status == "APPROVED",
        "headers": list(_HEADERS.items()),
        "button_kinds": list(_BUTTONS.items()),
        "new_row": template_forms.ButtonRow(),
        "limits": _LIMITS,
    }


class TemplateCreateView(StaffPermissionRequiredMixin, View):
    """Create a template; `?from=` starts with the parts of another one."""

    permissions = ("channels_app.view_messagetemplate", "channels_app.add_messagetemplate")

    def get(self, request: HttpRequest) -> HttpResponse:
        accounts = template_selectors.accounts()
        if not accounts:
            return redirect("message_templates:list")
        form = TemplateForm(account=accounts[0].id)
        if (pk := request.GET.get("from", "")).isdecimal():
            source = _stored(int(pk))
            form = TemplateForm.from_definition(
                source.definition, account=source.business_account_id
            )
        return _form_page(request, form, None)

    def post(self, request: HttpRequest) -> HttpResponse:
        form = TemplateForm.from_post(request.POST)
        return _submit(request, form, None)


class TemplateUpdateView(StaffPermissionRequiredMixin, View):
    """Replace the parts of a template. Meta reviews it again."""

    permissions = ("channels_app.view_messagetemplate", "channels_app.change_messagetemplate")

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        template = _editable(pk)
        form = TemplateForm.from_definition(
            template.definition, account=template.business_account_id
        )
        return _form_page(request, form, template)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        template = _editable(pk)
        form = TemplateForm.from_post(request.POST)
        form.belongs_to(template)
        return _submit(request, form, template)


class TemplateDeleteView(StaffPermissionRequiredMixin, View):
    """Delete a template at Meta, in one language or all."""

    permissions = ("channels_app.view_messagetemplate", "channels_app.delete_messagetemplate")

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._page(request, _stored(pk))

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        template = _stored(pk)
        try:
            for one in _languages(template) if request.POST.get("which") == "all" else [template]:
                message_templates.delete(one)
        except SendError as error:
            return self._page(request, template, refused=_refusal(error))
        messages.success(request, _("The template was deleted."))
        return redirect("message_templates:list")

    def _page(
        self, request: HttpRequest, template: MessageTemplate, *, refused: str = ""
    ) -> HttpResponse:
        others = [one for one in _languages(template) if one.pk != template.pk]
        context = {"template": template, "others": others, "refused": refused}
        status = 409 if refused else 200
        return render(request, "message_templates/delete.html", context, status=status)


class UnpauseView(StaffPermissionRequiredMixin, View):
    """Release a template that Meta paused while it delivered a first batch."""

    permissions = ("channels_app.view_messagetemplate", "channels_app.change_messagetemplate")

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        template = _stored(pk)
        try:
            message_templates.unpause(template)
        except SendError as error:
            messages.error(request, _refusal(error))
        else:
            messages.success(request, _("The template was released."))
        return redirect("message_templates:detail", pk=pk)


class SyncView(StaffPermissionRequiredMixin, View):
    """Read the templates of an account from Meta now."""

    permissions = ("channels_app.view_messagetemplate", "channels_app.change_messagetemplate")

    def post(self, request: HttpRequest) -> HttpResponse:
        account = _account(request.POST.get("account", ""))
        try:
            message_templates.synchronize(account.channel)
        except SendError as error:
            messages.error(request, _refusal(error))
        else:
            messages.success(request, _("The templates are up to date."))
        return redirect("message_templates:list")


def _languages(template: MessageTemplate) -> list[MessageTemplate]:
    """Return the template in all its languages."""
    rows = MessageTemplate.objects.filter(
        business_account_id=template.business_account_id, name=template.name, deleted_at=None
    )
    return list(rows)


def _account(account_id: str) -> template_selectors.Account:
    found = [one for one in template_selectors.accounts() if one.id == account_id]
    if not found:
        raise Http404
    return found[0]


def _editable(pk: int) -> MessageTemplate:
    template = _stored(pk)
    if not template_forms.is_editable_here(template.definition):
        raise Http404
    return template


def _refusal(error: SendError) -> str:
    """Return why Meta did not do it, in words."""
    if error.outcome == Unknown.outcome:
        return _("Meta did not answer. It may have been done: synchronize before you try again.")
    return reason_text.describe(error.code, error.detail or error.title)


def _form_page(
    request: HttpRequest,
    form: TemplateForm,
    template: MessageTemplate | None,
    *,
    errors: dict[str, str] | None = None,
    refused: str = "",
) -> HttpResponse:
    context = {
        **_form_context(form, template, errors or {}),
        "refused": refused,
        "submitted": errors is not None,
    }
    status = 200 if errors is None and not refused else 400
    return render(request, "message_templates/form.html", context, status=status)


def _submit(
    request: HttpRequest, form: TemplateForm, template: MessageTemplate | None
) -> HttpResponse:
    if errors := _errors(form, template):
        return _form_page(request, form, template, errors=errors)
    try:
        template = template_changes.submit(form, _account(form.account).channel, template)
    except SendError as error:
        return _form_page(request, form, template, refused=_refusal(error))
    except ValidationError as error:
        errors = {key: " ".join(texts) for key, texts in error.message_dict.items()}
        return _form_page(request, form, template, errors=errors)
    messages.success(request, _("The template was submitted. Meta reviews it now."))
    return redirect("message_templates:detail", pk=template.pk)
