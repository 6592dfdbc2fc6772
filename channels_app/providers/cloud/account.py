"""Parses what Meta reports about accounts and templates (docs/providers/cloud.md §10.4). Pure.

Such an event raises or ends an incident of the channels that it concerns: both have the same
topic. What only informs is skipped under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.providers.events import AccountEvent, UnsupportedEvent

# What a person should do, by reason. `%(who)s` is the event's detail.
SENTENCES: dict[str, str | Promise] = {
    "account_deleted": _(
        "The WhatsApp account was deleted: assign the channel to another account, or deactivate it"
    ),
    "account_disabled": _(
        "Meta disabled the WhatsApp account: request a review in Meta's Business Manager"
    ),
    "account_disable_scheduled": _(
        "Meta will disable the WhatsApp account (%(who)s): request a review in Meta's Business"
        " Manager"
    ),
    "account_restricted": _(
        "Meta restricted the WhatsApp account (%(who)s): see its reason in Meta's Business Manager"
    ),
    "account_violation": _(
        "Meta reports a violation of its policy (%(who)s): correct it before Meta restricts the"
        " account"
    ),
    "account_disconnected": _(
        "The account was disconnected from the app (%(who)s): connect it again, or no message"
        " arrives"
    ),
    "account_alert": _("Meta reports: %(who)s"),
    "account_review_rejected": _(
        "Meta did not approve the WhatsApp account: see its reason in Meta's Business Manager"
    ),
    "number_flagged": _(
        "Customers rate this number's messages low: send only what they asked for, or Meta lowers"
        " its limit"
    ),
    "limit_lowered": _("Meta lowered the daily limit of new customers (%(who)s)"),
    "limit_low": _(
        "The account may write to only %(who)s new customers a day: verify the business to raise"
        " the limit"
    ),
    "display_name_rejected": _(
        "Meta rejected the display name “%(who)s”: choose another one in Meta's Business Manager"
    ),
    "pin_reset_requested": _(
        "Somebody requested a new two-step PIN for this number: if it was none of you, change the"
        " passwords of the Meta account"
    ),
    "pin_changed": _(
        "The number's two-step PIN was changed: if it was none of you, change the passwords of the"
        " Meta account"
    ),
    "template_rejected": _("Meta rejected the template %(who)s: correct and submit it again"),
    "template_paused": _(
        "Meta paused the template %(who)s, because customers complained about it: improve it before"
        " it is used again"
    ),
    "template_disabled": _(
        "Meta disabled the template %(who)s for good: write a new one, and stop what uses it"
    ),
    "template_flagged": _(
        "Customers complain about the template %(who)s: improve it before Meta disables it"
    ),
    "template_quality_low": _(
        "The quality of the template %(who)s is low: improve it before Meta pauses it"
    ),
    "template_quality_medium": _("The quality of the template %(who)s has become worse"),
    "template_category_will_change": _(
        "Meta will change the category of the template %(who)s: price and rules of opting out"
        " change with it"
    ),
    "template_category_changed": _(
        "Meta changed the category of the template %(who)s: price and rules of opting out have"
        " changed"
    ),
}

# Fewer new customers a day than this need a person.
_LOW_LIMIT = 1000
_DISCONNECTED = frozenset({"PARTNER_REMOVED", "PARTNER_APP_UNINSTALLED", "ACCOUNT_OFFBOARDED"})
_CONNECTED = frozenset({"PARTNER_ADDED", "PARTNER_APP_INSTALLED", "ACCOUNT_RECONNECTED"})
_TEMPLATE_REASONS = {
    "REJECTED": "template_rejected",
    "PAUSED": "template_paused",
    "LOCKED": "template_paused",
    "LIMIT_EXCEEDED": "template_paused",
    "DISABLED": "template_disabled",
    "FLAGGED": "template_flagged",
}
# The template works again, or nobody uses it any more.
_TEMPLATE_ENDS = frozenset(
    {"APPROVED", "REINSTATED", "UNLOCKED", "UNARCHIVED", "DELETED", "PENDING_DELETION", "ARCHIVED"}
)

Value = Mapping[str, Any]
# Topic, reason ("" ends it), detail, and whether no event will report its end; None: only informs.
_Found = tuple[str, str, str, bool] | None


def read(field: str, value: Value, account_id: str) -> AccountEvent | UnsupportedEvent | None:
    """Return the event of a change of one of these fields; None if the field is another one."""
    # Meta's own sample of a quality update has the field of a status update.
    if "new_quality_score" in value:
        field = "message_template_quality_update"
    parse = _FIELDS.get(field)
    if parse is None:
        return None
    found = parse(value)
    if found is None:
        kinds = (value.get(name) for name in ("event", "decision", "new_quality_score"))
        kind = next((str(kind) for kind in kinds if kind), "")
        return UnsupportedEvent("", f"field:{field}:{kind}"[:100] if kind else f"field:{field}")
    topic, reason, detail, passing = found
    number = value.get("display_phone_number") or value.get("phone_number")
    waba = _dict(value, "waba_info").get("waba_id")
    of_number = field in _OF_NUMBER
    return AccountEvent(
        channel_key="",
        # The ID of some entries is not that of the account.
        account_id="" if of_number else str(waba or account_id),
        phone_number=re.sub(r"\D", "", str(number or "")),
        topic=topic[:64],
        reason=reason,
        detail=detail[:200],
        passing=passing,
    )


def is_about_template(field: str, value: Value) -> bool:
    """Return whether a change says that a template of the account is different now (§11.8)."""
    about = field.startswith("message_template_") or field == "template_category_update"
    return about or "message_template_id" in value


def read_error(channel_key: str, error: Value) -> AccountEvent:
    """Return the event of an error that concerns the number and no message."""
    code = str(error.get("code", ""))[:20] or "failed"
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, Mapping) else None
    detail = str(details or error.get("message") or error.get("title") or "")
    return AccountEvent(channel_key, "", "", code, code, detail[:200], passing=True)


def _account_update(value: Value) -> _Found:
    event = _word(value, "event")
    if event == "ACCOUNT_DELETED":
        return "deleted", "account_deleted", "", False
    if event == "ACCOUNT_VIOLATION":
        kind = str(_dict(value, "violation_info").get("violation_type") or "?")
        return "violation", "account_violation", kind, True
    if event == "ACCOUNT_RESTRICTION":
        return "restriction", "account_restricted", _restrictions(value), True
    if event == "DISABLED_UPDATE":
        ban = _dict(value, "ban_info")
        state, date = _word(ban, "waba_ban_state"), str(ban.get("waba_ban_date") or "?")
        reasons = {
            "DISABLE": "account_disabled",
            "SCHEDULE_FOR_DISABLE": "account_disable_scheduled",
        }
        if state == "REINSTATE":
            return "ban", "", "", False
        return ("ban", reasons[state], date, False) if state in reasons else None
    if event in _DISCONNECTED:
        info = _dict(value, "disconnection_info")
        return "disconnected", "account_disconnected", str(info.get("reason") or event), False
    if event in _CONNECTED:
        return "disconnected", "", "", False
    return None


def _restrictions(value: Value) -> str:
    found = value.get("restriction_info")
    rows = found if isinstance(found, list) else [found]
    kinds = (str(row.get("restriction_type") or "") for row in rows if isinstance(row, Mapping))
    return ", ".join(kind for kind in kinds if kind) or "?"


def _account_alerts(value: Value) -> _Found:
    # Older versions have the fields of `alert_info` beside the entity.
    info = {**value, **_dict(value, "alert_info")}
    kind = str(info.get("alert_type") or "?")
    topic = f"alert:{kind}:{value.get('entity_id', '')}"
    if _word(info, "alert_status") not in ("ACTIVE", ""):
        return topic, "", "", False
    if _word(info, "alert_severity") not in ("CRITICAL", "WARNING"):
        return None
    return topic, "account_alert", str(info.get("alert_description") or kind), True


def _account_review(value: Value) -> _Found:
    decisions = {"REJECTED": "account_review_rejected", "APPROVED": ""}
    decision = _word(value, "decision")
    return ("review", decisions[decision], "", False) if decision in decisions else None


def _number_quality(value: Value) -> _Found:
    event = _word(value, "event")
    if event in ("FLAGGED", "UNFLAGGED"):
        return "quality", "number_flagged" if event == "FLAGGED" else "", "", False
    if event == "DOWNGRADE":
        limit = value.get("current_limit") or value.get("max_daily_conversations_per_business")
        return "limit", "limit_lowered", str(limit or "?"), False
    if event in ("UPGRADE", "THROUGHPUT_UPGRADE", "ONBOARDING"):
        return "limit", "", "", False
    return None


def _capability(value: Value) -> _Found:
    limit = value.get("max_daily_conversations_per_business")
    if limit is None:
        limit = value.get("max_daily_conversation_per_phone")
    number = _limit(limit)
    if number is None:
        return None
    is_low = 0 <= number < _LOW_LIMIT
    return "capability", "limit_low" if is_low else "", str(number), False


def _limit(value: object) -> int | None:
    """Return a limit of messages, which comes as a number or as "TIER_2K"; -1: unlimited."""
    found = re.fullmatch(r"(?:TIER_)?(-?\d{1,9})(K?)", str(value))
    if found is not None:
        return int(found[1]) * (1000 if found[2] else 1)
    return -1 if str(value) == "TIER_UNLIMITED" else None


def _number_name(value: Value) -> _Found:
    decision = _word(value, "decision")
    name = str(value.get("requested_verified_name") or "?")
    if decision == "REJECTED":
        return "name", "display_name_rejected", name, False
    return ("name", "", "", False) if decision == "APPROVED" else None


def _security(value: Value) -> _Found:
    reasons = {"PIN_RESET_REQUEST": "pin_reset_requested", "PIN_CHANGED": "pin_changed"}
    event = _word(value, "event")
    return ("pin", reasons[event], "", True) if event in reasons else None


def _template_status(value: Value) -> _Found:
    event, topic = _word(value, "event"), f"template:{_template_id(value)}"
    if event in _TEMPLATE_ENDS:
        return topic, "", "", False
    if event not in _TEMPLATE_REASONS:
        return None
    why = value.get("reason")
    why = "" if why in (None, "", "NONE") else str(why)
    return topic, _TEMPLATE_REASONS[event], _template_name(value, why), False


def _template_quality(value: Value) -> _Found:
    topic = f"quality:{_template_id(value)}"
    reasons = {"RED": "template_quality_low", "YELLOW": "template_quality_medium"}
    score = _word(value, "new_quality_score")
    if score in reasons:
        return topic, reasons[score], _template_name(value), False
    return (topic, "", "", False) if score in ("GREEN", "UNKNOWN") else None


def _template_category(value: Value) -> _Found:
    topic, new = f"category:{_template_id(value)}", str(value.get("new_category") or "?")
    correct = value.get("correct_category")
    if correct:
        name = _template_name(value, f"{new} → {correct}")
        return topic, "template_category_will_change", name, True
    before = str(value.get("previous_category") or "?")
    return topic, "template_category_changed", _template_name(value, f"{before} → {new}"), True


def _template_id(value: Value) -> str:
    return str(value.get("message_template_id") or value.get("message_template_name") or "")


def _template_name(value: Value, more: str = "") -> str:
    """Return a template's name as people know it, with its language and what else is known."""
    name = str(value.get("message_template_name") or _template_id(value) or "?")
    # Webhooks write "pt-BR", all other parts of the API "pt_BR".
    language = str(value.get("message_template_language") or "").replace("-", "_")
    beside = ", ".join(part for part in (language, more) if part)
    return f"{name} ({beside})" if beside else name


_FIELDS: dict[str, Callable[[Value], _Found]] = {
    "account_update": _account_update,
    "account_alerts": _account_alerts,
    "account_review_update": _account_review,
    "phone_number_quality_update": _number_quality,
    "business_capability_update": _capability,
    "phone_number_name_update": _number_name,
    "security": _security,
    "message_template_status_update": _template_status,
    "message_template_quality_update": _template_quality,
    "template_category_update": _template_category,
}
# These concern the number that they name, and no other of its account.
_OF_NUMBER = frozenset({"phone_number_quality_update", "phone_number_name_update", "security"})


def _word(value: Value, name: str) -> str:
    """Return a value in upper case: Meta writes some of them in either."""
    found = value.get(name)
    return found.upper() if isinstance(found, str) else ""


def _dict(value: Value, name: str) -> Value:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}
