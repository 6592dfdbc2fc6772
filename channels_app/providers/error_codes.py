"""The meaning of each error code, and whether the fallback may be used: Meta's table, as data.

The meanings are Meta's; the class and the rule are our judgment, each with its reason
(docs/providers/cloud.md §2.3). Our own codes for transport errors ("timeout") are defined here,
too. Pure: no database, no settings.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from django.utils import translation
from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from channels_app.providers.base import SendError
from core import sizes

Text = str | Promise
# Our code for a failure for which the provider gave no reason.
NO_REASON = "failed"
# Our code for a message that a provider accepted, and certainly does not deliver any more.
UNDELIVERED = "undelivered"
_Kind = TypeVar("_Kind", bound=SendError)


class ErrorClass(enum.StrEnum):
    """RETRY may succeed later; PERMANENT concerns this recipient or content; CONFIG the account."""

    RETRY = "retry"
    PERMANENT = "permanent"
    CONFIG = "config"
    TEMPLATE = "template"

    @property
    def label(self) -> Text:
        return _CLASS_LABELS[self]


class FallbackRule(enum.StrEnum):
    """Whether the same message may be sent by a fallback. Each is stricter than the one before.

    RETRY_FIRST: only after the official retries. IMMEDIATE: now. IMMEDIATE_ALERT: now, and staff
    are alerted. WAIT: never; the official route works again after a wait (4^n seconds). OPT_IN:
    only if the channel's owner enabled it. NEVER: it would violate the recipient's will or the law.
    """

    RETRY_FIRST = "retry_first"
    IMMEDIATE = "at_once"
    IMMEDIATE_ALERT = "alarm"
    WAIT = "wait"
    OPT_IN = "opt_in"
    NEVER = "never"

    @property
    def label(self) -> Text:
        return _RULE_LABELS[self]


_CLASS_LABELS: dict[ErrorClass, Text] = {
    ErrorClass.RETRY: _("temporary"),
    ErrorClass.PERMANENT: _("permanent"),
    ErrorClass.CONFIG: _("account or configuration"),
    ErrorClass.TEMPLATE: _("template"),
}
_RULE_LABELS: dict[FallbackRule, Text] = {
    FallbackRule.RETRY_FIRST: _("retry, then use the fallback"),
    FallbackRule.IMMEDIATE: _("use the fallback immediately"),
    FallbackRule.IMMEDIATE_ALERT: _("use the fallback and alert staff"),
    FallbackRule.WAIT: _("wait and retry, never use the fallback"),
    FallbackRule.OPT_IN: _("use the fallback only if the channel allows it"),
    FallbackRule.NEVER: _("never use the fallback"),
}


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One row of the table. `known`: the table contains the code."""

    code: str
    title: Text
    kind: ErrorClass
    fallback: FallbackRule
    explanation: Text
    alerts_staff: bool = False
    known: bool = True

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.kind == ErrorClass.RETRY


_R, _P, _C, _T = ErrorClass.RETRY, ErrorClass.PERMANENT, ErrorClass.CONFIG, ErrorClass.TEMPLATE
_RETRY, _NOW, _ALERT, _WAIT, _OPT_IN, _NEVER = (
    FallbackRule.RETRY_FIRST,
    FallbackRule.IMMEDIATE,
    FallbackRule.IMMEDIATE_ALERT,
    FallbackRule.WAIT,
    FallbackRule.OPT_IN,
    FallbackRule.NEVER,
)

# Reasons shared by several codes.
_OUTAGE = _("The fallback exists for outages of the official API.")
_OUR_REQUEST = _(
    "The customer should not be affected by an invalid request from Alterna; staff must be alerted."
)
_ACCOUNT = _(
    "The official API rejects every message until someone fixes it; customers must not wait."
)
_ENFORCED = _("WhatsApp is restricting the number; sending through WhatsApp Web can make it worse.")
_POLICY = _("Bypassing this rejection would violate WhatsApp's policy.")
_NOT_ON_WEB = _("WhatsApp Web cannot send this type of message.")
_NOT_A_SEND = _("This error does not come from sending a message.")

_ROWS: tuple[tuple[str, Text, ErrorClass, FallbackRule, Text], ...] = (
    ("-1", _("Meta gave no reason"), _R, _RETRY,
     _("Usually temporary; if it persists, the fallback is used.")),
    ("1", _("Invalid request or server error"), _R, _RETRY,
     _("Usually temporary; if it persists, the fallback is used.")),
    ("2", _("The service is down or overloaded"), _R, _RETRY, _OUTAGE),
    ("4", _("Too many calls from this app"), _R, _RETRY, _("The limit is lifted within minutes.")),
    ("80007", _("Too many calls for this WhatsApp account"), _R, _RETRY,
     _("The limit is lifted within minutes.")),
    ("130429", _("Throughput limit of the number reached"), _R, _RETRY,
     _("Retry first: WhatsApp Web is slower, and a burst through it risks a ban.")),
    ("131000", _("Something went wrong at WhatsApp"), _R, _RETRY, _(
        "Meta recommends trying again."
    )),
    ("131016", _("Service unavailable"), _R, _RETRY, _OUTAGE),
    ("131057", _("The account is under maintenance"), _R, _RETRY,
     _("A throughput upgrade takes about a minute.")),
    ("133004", _("Server temporarily unavailable"), _R, _RETRY, _OUTAGE),
    ("131056", _("Too many messages to the same customer"), _R, _WAIT,
     _("Wait 4^n seconds: through WhatsApp Web, the same customer would receive the same burst.")),
    ("131048", _("Spam limit: too many messages were blocked or reported"), _R, _OPT_IN, _ENFORCED),
    ("131064", _("Limited after violations of the template categories"), _R, _OPT_IN, _ENFORCED),

    ("131047", _("More than 24 hours since the customer's last message"), _P, _NOW,
     _("Messages from the app or a linked device are not subject to the 24-hour window.")),
    ("131026", _("Message undeliverable"), _P, _NOW,
     _("Customers are often reachable through the fallback, which checks the number first.")),
    ("131030", _("The recipient is not on the test number's list"), _P, _NOW,
     _("Only test numbers have this list.")),
    ("131051", _("Unsupported message type"), _P, _NOW, _("The fallback may support this type.")),
    ("131053", _("The file could not be uploaded"), _P, _NOW,
     _("WhatsApp Web accepts more kinds of files.")),
    ("131035", _("Not available while local storage is enabled"), _P, _NOW,
     _("The setting applies only to the official API.")),
    ("131036", _("Not available while local storage is enabled"), _P, _NOW,
     _("The setting applies only to the official API.")),
    ("100", _("Invalid parameter"), _P, _ALERT, _OUR_REQUEST),
    ("131008", _("A required parameter is missing"), _P, _ALERT, _OUR_REQUEST),
    ("131009", _("A parameter has an invalid value"), _P, _ALERT, _OUR_REQUEST),
    ("135000", _("Invalid request parameters"), _P, _ALERT, _OUR_REQUEST),
    ("131049", _("Not delivered to keep WhatsApp's ecosystem healthy"), _P, _OPT_IN,
     _("Meta limits marketing per customer and asks to wait at least 24 hours.")),
    ("130472", _("The customer is part of a marketing experiment"), _P, _OPT_IN,
     _("It applies only to marketing messages.")),
    ("131050", _("The customer stopped marketing messages of this business"), _P, _NEVER,
     _("The customer has opted out.")),
    ("130403", _("The business has blocked this customer"), _P, _NEVER,
     _("The block was a deliberate decision.")),
    ("130497", _("The account is not allowed to send messages to this country"),
     _P, _NEVER, _POLICY),
    ("131021", _("Sender and recipient are the same"), _P, _NEVER,
     _("There is no recipient to deliver to.")),
    ("131062", _("This recipient cannot be addressed in this form"), _P, _NEVER,
     _("The fallback needs a phone number.")),
    ("137000", _("The customer's identity has changed"), _P, _NEVER,
     _("For security, the customer must be verified again.")),
    ("131052", _("A file from the customer could not be downloaded"), _P, _NEVER, _NOT_A_SEND),
    ("131060", _("A message from the customer cannot be shown here"), _P, _NEVER, _NOT_A_SEND),

    ("0", _("The access token is invalid"), _C, _ALERT, _ACCOUNT),
    ("3", _("Permission for this call is missing"), _C, _ALERT, _ACCOUNT),
    ("10", _("Permission is missing or was removed"), _C, _ALERT, _ACCOUNT),
    ("33", _("The phone number was deleted or is not visible"), _C, _ALERT, _ACCOUNT),
    ("104", _("The access token is missing"), _C, _ALERT, _ACCOUNT),
    ("190", _("The access token has expired"), _C, _ALERT, _ACCOUNT),
    ("131005", _("Access denied"), _C, _ALERT, _ACCOUNT),
    ("131037", _("The number has no approved display name"), _C, _ALERT, _ACCOUNT),
    ("131042", _("There is a problem with the payment method"), _C, _ALERT, _ACCOUNT),
    ("131045", _("The number is not registered correctly"), _C, _ALERT, _ACCOUNT),
    ("133000", _("The number's registration is incomplete"), _C, _ALERT, _ACCOUNT),
    ("133006", _("The number must be verified"), _C, _ALERT, _ACCOUNT),
    ("133010", _("The number is not registered"), _C, _ALERT, _ACCOUNT),
    ("134011", _("The terms of payment are not accepted"), _C, _ALERT, _ACCOUNT),
    ("368", _("The account is restricted for a violation of policy"), _C, _OPT_IN, _ENFORCED),
    ("131031", _("The account is locked"), _C, _OPT_IN, _ENFORCED),
    ("131063", _("Marketing is disabled on the Cloud API"), _C, _NEVER,
     _("It was a deliberate choice.")),
    ("131044", _("Payment for calls is missing"), _C, _NEVER, _NOT_A_SEND),
    ("133005", _("The two-step PIN is wrong"), _C, _NEVER, _NOT_A_SEND),
    ("133008", _("Too many wrong two-step PINs"), _C, _NEVER, _NOT_A_SEND),
    ("133009", _("The two-step PIN was entered too quickly"), _C, _NEVER, _NOT_A_SEND),
    ("133015", _("The number was deleted a moment ago"), _C, _NEVER, _NOT_A_SEND),
    ("133016", _("Too many attempts to register this number"), _C, _NEVER, _NOT_A_SEND),
    ("2593107", _("Synchronization was requested too often"), _C, _NEVER, _NOT_A_SEND),
    ("2593108", _("Synchronization was requested too late"), _C, _NEVER, _NOT_A_SEND),
    ("2593109", _("The history was not shared"), _C, _NEVER, _NOT_A_SEND),

    ("132000", _("The number of template parameters does not match"), _T, _ALERT, _OUR_REQUEST),
    ("132001", _("The template does not exist in this language"), _T, _ALERT, _OUR_REQUEST),
    ("132005", _("The translated template text is too long"), _T, _ALERT, _OUR_REQUEST),
    ("132008", _("A template parameter does not match"), _T, _ALERT, _OUR_REQUEST),
    ("132012", _("A template parameter has the wrong format"), _T, _ALERT, _OUR_REQUEST),
    ("132018", _("The template's parameters do not match"), _T, _ALERT, _OUR_REQUEST),
    ("132007", _("The template violates WhatsApp's policy"), _T, _NEVER, _POLICY),
    ("132015", _("The template is paused for low quality"), _T, _OPT_IN,
     _("Low quality means that customers complained about the template.")),
    ("132016", _("The template is disabled for low quality"), _T, _OPT_IN,
     _("Low quality means that customers complained about the template.")),
    ("132068", _("The Flow is blocked"), _T, _NEVER, _NOT_ON_WEB),
    ("132069", _("The Flow is throttled"), _T, _NEVER, _NOT_ON_WEB),
    ("131055", _("Not available for marketing messages sent in this form"),
     _T, _NEVER, _NOT_ON_WEB),
    ("134100", _("Only marketing messages can be sent here"), _T, _NEVER, _NOT_ON_WEB),
    ("134101", _("The template is still being synchronized"), _T, _NEVER, _NOT_ON_WEB),
    ("134102", _("The template cannot be used here"), _T, _NEVER, _NOT_ON_WEB),

    ("613", _("Too many calls or call requests"), _P, _NEVER, _NOT_A_SEND),
)  # fmt: skip
# Staff must be alerted to these although the fallback rule itself raises no alert.
_ALSO_ALERT = frozenset({"368", "131031", "131048", "131064"})

_RANGES: tuple[tuple[range, Text, ErrorClass, FallbackRule, Text], ...] = (
    (range(200, 300), _("A permission is missing"), _C, _ALERT, _ACCOUNT),
    (range(138000, 138019), _("The call failed"), _P, _NEVER, _NOT_A_SEND),
)

TABLE: dict[str, ErrorRule] = {
    code: ErrorRule(
        code,
        title,
        kind,
        rule,
        explanation,
        alerts_staff=rule == FallbackRule.IMMEDIATE_ALERT or code in _ALSO_ALERT,
    )
    for code, title, kind, rule, explanation in _ROWS
}

_NOT_SENT = _("The request was not sent.")
_UNPROVEN = _("The message may have been sent: only a confirmation or a person can decide.")
_SETUP = _("The connection's settings must be corrected.")
_SESSION = _("The session cannot send now.")
_OTHER_ROUTE = _("Another route may be able to send it.")

# Our own codes, in the shape of the table.
_OWN_ROWS: tuple[tuple[str, Text, ErrorClass, FallbackRule, Text], ...] = (
    ("dns_failed", _("The server's name was not found"), _R, _RETRY, _NOT_SENT),
    ("connection_refused", _("The server refused the connection"), _R, _RETRY, _NOT_SENT),
    ("connect_timeout", _("The server could not be reached in time"), _R, _RETRY, _NOT_SENT),
    ("unreachable", _("The server cannot be reached"), _R, _RETRY, _NOT_SENT),
    ("certificate_refused", _("The server's certificate cannot be trusted"), _R, _RETRY, _NOT_SENT),
    ("not_tls", _("The server does not use HTTPS at this address"), _R, _RETRY, _NOT_SENT),
    ("tls_failed", _("The secure connection could not be established"), _R, _RETRY, _NOT_SENT),
    ("invalid_address", _(
        "The address or a key contains characters that cannot be used in a request"
    ), _C, _ALERT, _SETUP),
    ("timeout", _("The provider did not respond in time"), _P, _RETRY, _UNPROVEN),
    ("connection_broken", _("The connection closed before the response"), _P, _RETRY, _UNPROVEN),
    ("not_http", _("The response is not HTTP"), _P, _RETRY, _UNPROVEN),
    ("unreadable_answer", _("The provider's response could not be read"), _P, _RETRY, _UNPROVEN),
    ("only_queued", _("WhatsApp Web has not delivered the message to the server yet"),
     _P, _RETRY, _UNPROVEN),
    ("server_error", _("The provider failed while sending"), _P, _RETRY, _UNPROVEN),
    ("client_error", _("The program that communicates with the provider failed"),
     _P, _RETRY, _UNPROVEN),
    ("worker_lost", _("The sending process ended"), _P, _RETRY, _UNPROVEN),
    ("taken_over", _("Another process took over the message"), _R, _RETRY, _NOT_SENT),
    ("internal_error", _("An error in Alterna stopped the delivery"), _P, _RETRY,
     _("The message is on hold; the error is in Alterna's log.")),
    ("not_configured", _("The connection is not configured"), _C, _ALERT, _SETUP),
    ("wrong_key", _("The provider rejected the key"), _C, _ALERT, _SETUP),
    ("wrong_address", _("A different server responds at this address"), _C, _ALERT, _SETUP),
    ("invalid_session", _("The provider does not accept the session's name"), _C, _ALERT, _SETUP),
    ("instance_missing", _("The instance does not exist"), _C, _ALERT, _SETUP),
    ("license_required", _("The Evolution server has no activated license"), _C, _ALERT, _SETUP),
    ("invalid_recipient", _("Messages cannot be sent to this number"), _P, _NEVER,
     _("There is no recipient to deliver to.")),
    ("no_address", _("This customer has no address that this route can send to"),
     _P, _NOW, _OTHER_ROUTE),
    ("address_given_up",
     _("The customer gave up this number at WhatsApp, and no other address is known"), _P, _NEVER,
     _("It may be somebody else's number by now.")),
    ("not_on_whatsapp", _("The number is not on WhatsApp"), _P, _NOW, _OTHER_ROUTE),
    ("unsupported_type", _("This type of message cannot be sent through this route"),
     _P, _NOW, _OTHER_ROUTE),
    ("official_only", _("Only the official API can send this type of message"),
     _P, _NOW, _NOT_ON_WEB),
    ("template_text_unknown", _("The template's text is not known here"), _P, _NOW,
     _("Synchronize the templates: a route without templates sends their text.")),
    ("target_unknown", _("This route does not have the message that it refers to"),
     _P, _NOW, _OTHER_ROUTE),
    ("header_file_unavailable", _("Only Meta has the file in the header"), _P, _NOW,
     _("A file by link, or uploaded here, can be sent by every route.")),
    ("caption_too_long", _("The text is too long to be the caption of the file"),
     _P, _NOW, _OTHER_ROUTE),
    ("invalid_content", _("The message has no content to send"), _P, _NEVER,
     _("No other route could send it.")),
    ("too_large", _("The message or its file is too large"), _P, _NOW, _OTHER_ROUTE),
    ("upload_failed", _("The file could not be uploaded"), _R, _RETRY, _NOT_SENT),
    ("download_failed", _("The file could not be downloaded"), _R, _RETRY, _NOT_SENT),
    ("file_missing", _("The file no longer exists"), _P, _NEVER,
     _("No other route could send it.")),
    ("file_differs", _("The file is not the one that was announced"), _R, _RETRY, _NOT_SENT),
    ("file_unreadable", _("The file cannot be read now"), _R, _RETRY, _NOT_SENT),
    ("link_failed", _("The link's server did not return the file"), _R, _RETRY, _NOT_SENT),
    ("link_refused", _("The link does not lead to a file"), _P, _NOW, _OTHER_ROUTE),
    ("refused_request", _("The provider rejected the request"), _P, _ALERT, _OUR_REQUEST),
    ("ack_error", _("WhatsApp rejected the message"), _P, _NOW, _OTHER_ROUTE),
    ("error", _("WhatsApp rejected the message"), _P, _NOW, _OTHER_ROUTE),
    ("463", _("WhatsApp temporarily blocked new chats from this number"), _P, _NOW,
     _("The number wrote to too many new contacts; continuing may get it banned.")),
    ("fallbacks_jumped", _("An unusual number of messages is sent through the fallback"),
     _P, _RETRY,
     _("A working fallback must not hide a failing official API.")),
    (UNDELIVERED, _("Accepted, but not delivered by its deadline"), _P, _NOW,
     _("Used only if the message asks for it and the first route cannot deliver it any more.")),
    (NO_REASON, _("The provider gave no reason"), _P, _ALERT, _OUR_REQUEST),
    ("lookup_failed", _("The number could not be looked up"), _R, _RETRY, _NOT_SENT),
    ("rate_overlimit", _("WhatsApp requested a pause: too many queries"), _R, _RETRY, _NOT_SENT),
    ("session_not_found", _("The session is not started"), _R, _RETRY, _SESSION),
    ("session_not_connected", _("The session is not connected"), _R, _RETRY, _SESSION),
    ("session_not_ready", _("The session is connected, but not ready yet"), _R, _RETRY, _SESSION),
    ("session_closed", _("The session's browser has closed"), _R, _RETRY, _SESSION),
    ("session_check_failed", _("The session does not respond"), _R, _RETRY, _SESSION),
    ("instance_not_connected", _("The instance is not connected"), _R, _RETRY, _SESSION),
    ("number_unconfirmed", _("The linked phone's number has not been confirmed"), _R, _RETRY,
     _SESSION),
    ("number_unknown", _("The linked phone is not known yet"), _R, _RETRY, _SESSION),
)  # fmt: skip

WORDS: dict[str, ErrorRule] = {
    code: ErrorRule(
        code, title, kind, rule, explanation, alerts_staff=rule == FallbackRule.IMMEDIATE_ALERT
    )
    for code, title, kind, rule, explanation in _OWN_ROWS
}


def lookup(
    code: str, is_transient: bool | None = None, http_status: int | None = None
) -> ErrorRule:
    """Return the rule for one of Meta's codes or our own. Never raises.

    An unknown code follows Meta's `is_transient`, then the class of the HTTP status, and has
    `known` false so that it can be reported. Without any hint it counts as permanent.
    """
    rule = TABLE.get(code) or WORDS.get(code) or _in_range(code)
    if rule is not None:
        return rule
    if match := re.fullmatch(r"http_(\d{3})", code):
        http_status = int(match[1])
    title = _unknown_title(code)
    if is_transient is None:
        is_transient = http_status is not None and (http_status >= 500 or http_status == 429)
    if is_transient:
        return ErrorRule(
            code,
            title,
            _R,
            _RETRY,
            _("The provider reports that it is temporary."),
            alerts_staff=match is None,
            known=match is not None,
        )
    return ErrorRule(
        code,
        title,
        _C if http_status in (401, 403) else _P,
        _ALERT,
        _("Unknown rejection: customers stay reachable and staff are alerted."),
        alerts_staff=True,
        known=match is not None,
    )


def severity(code: str) -> tuple[int, str]:
    """Return the severity of a reason. If a failure has several reasons, the greatest counts.

    No reason at all, or the code for it, has the lowest severity.
    """
    if code in ("", NO_REASON):
        return -1, ""
    return list(FallbackRule).index(lookup(code).fallback), code


# Meta has one code for a token that has expired and for one that never was valid; only its text
# tells them apart.
_TOKEN = "190"  # noqa: S105
_MALFORMED = re.compile("malformed|cannot parse|could not be decrypted", re.IGNORECASE)
_MALFORMED_TOKEN = _("The access token is malformed: enter all of it again")


def title_for(code: str, detail: str = "") -> Text:
    """Return one short sentence for a code, in the reader's language; "" for "".

    `detail` is the provider's text, on which the sentence of a few codes depends.
    """
    if code == _TOKEN and _MALFORMED.search(detail):
        return _MALFORMED_TOKEN
    return lookup(code).title if code else ""


def stored_title(code: str, title: str, detail: str = "") -> str:
    """Return the sentence that `failure` stored with a code, in the reader's language.

    The title of an unknown code may be the provider's own; it is returned unchanged.
    """
    rule = lookup(code)
    ours = bool(code) and (rule.known or title == source_text(rule.title))
    return str(title_for(code, detail)) if ours else title


# Our own details for failures without a provider text. They are stored in English.
_OWN_DETAILS = frozenset(
    {
        gettext_noop("no complete response in time"),
        gettext_noop("the response is not HTTP"),
        gettext_noop("not a public internet address"),
        gettext_noop("no connection in time"),
        gettext_noop("connection refused"),
        gettext_noop("redirected without an address"),
    }
)


def stored_detail(detail: str) -> str:
    """Return the details of a failure: our own in the reader's language, others unchanged."""
    return gettext(detail) if detail in _OWN_DETAILS else sizes.in_units(detail) or detail


def is_ours(detail: str) -> bool:
    """Whether the details of a failure are our own text, not the provider's."""
    return detail in _OWN_DETAILS or sizes.in_units(detail) is not None


def failure(
    kind: type[_Kind], code: str, detail: str = "", *, http_status: int | None = None
) -> _Kind:
    """Return the exception for a failed send, with the title of its code.

    The title is the English source text in every locale: it is stored, and the page that shows it
    calls `title_for` for the reader's language.
    """
    return kind(code, source_text(title_for(code)), detail, http_status=http_status)


def source_text(text: Text) -> str:
    """Return a translatable text in its source language."""
    with translation.override("en"):
        return str(text)


def all_rules() -> Iterator[ErrorRule]:
    """Yield every row for display: Meta's codes by number, ranges written `200-299`."""
    yield from sorted(TABLE.values(), key=lambda rule: int(rule.code))
    for codes, title, kind, rule, explanation in _RANGES:
        yield ErrorRule(
            f"{codes.start}-{codes.stop - 1}",
            title,
            kind,
            rule,
            explanation,
            alerts_staff=rule == _ALERT,
        )


def _in_range(code: str) -> ErrorRule | None:
    if not re.fullmatch(r"[0-9]{1,9}", code):
        return None
    for codes, title, kind, rule, explanation in _RANGES:
        if int(code) in codes:
            return ErrorRule(code, title, kind, rule, explanation, alerts_staff=rule == _ALERT)
    return None


def _unknown_title(code: str) -> Text:
    if match := re.fullmatch(r"http_(\d{3})", code):
        return format_lazy("{} {}", _("The provider responded with HTTP status"), match[1])
    return format_lazy("{} {}", _("Unknown error"), code)
