"""The errors and scenarios of the simulated Graph API, as data.

Codes, texts and HTTP statuses: ``docs/providers/cloud.md §2``.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from simulators.base import Scenario

# -- errors ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorText:
    """The texts of one Graph error (``docs/providers/cloud.md §2``)."""

    title: str
    details: str
    subcode: int = 0


ERRORS: dict[int, ErrorText] = {
    2: ErrorText("Service temporarily unavailable", "The service is down or overloaded."),
    4: ErrorText("Application request limit reached", "The app reached its API call limit."),
    10: ErrorText(
        "Application does not have permission for this action",
        "Permission is either not granted or has been removed.",
    ),
    100: ErrorText("Invalid parameter", "The request has an unsupported or misspelled parameter."),
    190: ErrorText("Error validating access token: Session has expired.", "", 463),
    80007: ErrorText("Rate limit issues", "The WhatsApp Business Account reached its rate limit."),
    130403: ErrorText("Business is blocked", "The recipient has blocked this business."),
    130429: ErrorText("Rate limit hit", "Cloud API message throughput has been reached.", 2494055),
    130472: ErrorText("User's number is part of an experiment", "Message was not sent."),
    131000: ErrorText("Something went wrong", "Message failed to send due to an unknown error."),
    131008: ErrorText("Required parameter is missing", "The request misses a required parameter."),
    131009: ErrorText("Parameter value is not valid", "One or more parameter values are invalid."),
    131016: ErrorText("Service unavailable", "A service is temporarily unavailable."),
    131026: ErrorText(
        "Message undeliverable",
        "Unable to deliver message. The recipient may not be on WhatsApp, may not have accepted"
        " the terms, or uses an old version.",
    ),
    131031: ErrorText("Account has been locked", "The account was disabled for a violation."),
    131042: ErrorText(
        "Business eligibility payment issue",
        "Message failed to send because there were errors related to your payment method.",
    ),
    131062: ErrorText(
        "Business-scoped User ID (BSUID) recipients are not supported for this message.", ""
    ),
    132000: ErrorText(
        "Number of parameters does not match the expected number of params",
        "The number of variable parameter values does not match the template.",
    ),
    132012: ErrorText(
        "Parameter format does not match format in the created template",
        "Variable parameter values are formatted incorrectly.",
    ),
    132015: ErrorText("Template is paused", "The template is paused due to low quality."),
    132016: ErrorText("Template is disabled", "The template was paused too many times."),
    132018: ErrorText(
        "Issue with the parameters of the template", "The template's parameters do not match."
    ),
    131047: ErrorText(
        "Re-engagement message",
        "Message failed to send because more than 24 hours have passed since the customer last"
        " replied to this number.",
    ),
    131048: ErrorText(
        "Spam rate limit hit",
        "Message failed to send because there are restrictions on how many messages can be sent"
        " from this phone number.",
    ),
    131049: ErrorText(
        "This message was not delivered to maintain healthy ecosystem engagement.",
        "In order to maintain a healthy ecosystem engagement, the message failed to be delivered.",
    ),
    131050: ErrorText(
        "Unable to deliver the message.",
        "The recipient chose to stop receiving marketing messages from this business.",
    ),
    131051: ErrorText("Unsupported message type", "Message type is currently not supported."),
    131053: ErrorText("Media upload error", "Unable to upload the media used in the message."),
    131056: ErrorText(
        "(Business Account, Consumer Account) pair rate limit hit",
        "Too many messages sent from this phone number to the same recipient.",
    ),
    131999: ErrorText("Brand new trouble", "A code that no table knows yet."),
    132001: ErrorText(
        "Template name does not exist in the translation",
        "The template does not exist in the language or has not been approved.",
    ),
}

_HTTP_STATUS = {
    **dict.fromkeys((0, 190), 401),
    **dict.fromkeys((10, 368, 131005, 131031), 403),
    132001: 404,
    **dict.fromkeys((3, 131000, 131016, 131045, 131057, 133000), 500),
    **dict.fromkeys((2, 133004), 503),
}


def http_status(code: int) -> int:
    """Return a Graph error's HTTP status; rate limits are 400 (docs/providers/cloud.md §2.2)."""
    if 200 <= code < 300:
        return 403
    return _HTTP_STATUS.get(code, 400)


# -- scenarios ---------------------------------------------------------------------------------

Answer = Literal[
    "accepted",
    "slow",
    "after_statuses",
    "hang",
    "reset",
    "not_json",
    "html_502",
    "html_200",
    "empty",
    "error_500",
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GraphScenario(Scenario):
    """The response of Graph, whether it accepts the message, and the statuses that follow."""

    refusal: int = 0
    rejects_first_attempts_only: bool = False
    late_refusal: int = 0
    answer: Answer = "accepted"
    accepted: bool = True
    statuses: tuple[str, ...] = ("sent", "delivered", "read")
    scrambled: bool = False
    held: bool = False
    """The answer says that Meta holds the message (``docs/providers/cloud.md §10.3``)."""

    @property
    def reaches_customer(self) -> bool:
        return self.accepted and not {"delivered", "read"}.isdisjoint(self.statuses)


def _table(*scenarios: GraphScenario) -> dict[str, GraphScenario]:
    return {scenario.name: scenario for scenario in scenarios}


def _rejected(digits: str, code: int, english: str, portuguese: str) -> GraphScenario:
    return GraphScenario(
        name=f"refused_{code}",
        digits=digits,
        english=f"rejected immediately with {code}: {english}",
        portuguese=f"recusada na hora com {code}: {portuguese}",
        refusal=code,
        accepted=False,
    )


def _unavailable(digits: str, code: int) -> GraphScenario:
    return GraphScenario(
        name=f"unavailable_{code}",
        digits=digits,
        english=f"{code} (unavailable) the first times, then accepted",
        portuguese=f"{code} (indisponível) nas primeiras vezes, depois aceita",
        refusal=code,
        rejects_first_attempts_only=True,
    )


def _late(
    digits: str, code: int, english: str, portuguese: str, statuses: tuple[str, ...] = ()
) -> GraphScenario:
    return GraphScenario(
        name=f"late_{code}",
        digits=digits,
        english=f"accepted, then failed with {code} by webhook: {english}",
        portuguese=f"aceita e depois falha com {code} pelo webhook: {portuguese}",
        late_refusal=code,
        statuses=statuses,
    )


SCENARIOS: dict[str, GraphScenario] = _table(
    GraphScenario(
        name="ok",
        digits="00",
        english="accepted, then sent, delivered and read",
        portuguese="aceita, depois enviada, entregue e lida",
    ),
    _rejected("47", 131047, "24-hour window closed", "janela de 24 horas fechada"),
    _rejected("26", 131026, "undeliverable", "não pode ser entregue"),
    _rejected("30", 131000, "unknown error, worth a retry", "erro desconhecido, vale repetir"),
    _rejected("29", 130429, "throughput reached", "limite de vazão atingido"),
    _rejected("56", 131056, "too many to the same person", "mensagens demais à mesma pessoa"),
    _rejected("49", 131049, "healthy ecosystem", "limite de marketing por pessoa"),
    _rejected("50", 131050, "person opted out", "pessoa pediu para não receber"),
    _rejected("03", 130403, "person blocked the business", "pessoa bloqueou a empresa"),
    _rejected("72", 130472, "marketing experiment", "experimento de marketing"),
    _rejected("90", 190, "token expired", "token expirado"),
    _rejected("10", 10, "permission missing", "falta permissão"),
    _rejected("42", 131042, "payment problem", "problema de pagamento"),
    _rejected("31", 131031, "account locked", "conta bloqueada"),
    _rejected("48", 131048, "spam rate limit", "limite por spam"),
    _rejected("04", 4, "app call limit", "limite de chamadas do aplicativo"),
    _rejected("07", 80007, "account rate limit", "limite da conta"),
    _rejected("51", 131051, "type not supported", "tipo não suportado"),
    _rejected("53", 131053, "media upload", "envio da mídia"),
    _rejected("01", 132001, "template missing", "modelo não existe"),
    _rejected("17", 131016, "service down for good", "serviço fora do ar"),
    _rejected("99", 131999, "an unknown code", "um código desconhecido"),
    _unavailable("16", 131016),
    _unavailable("02", 2),
    _late("67", 131047, "24-hour window closed", "janela de 24 horas fechada"),
    _late("66", 131026, "undeliverable", "não pode ser entregue"),
    _late("69", 131049, "healthy ecosystem", "limite de marketing por pessoa"),
    _late("63", 131053, "media upload", "envio da mídia"),
    _late("60", 131000, "unknown error, after sent", "erro desconhecido, já enviada", ("sent",)),
    GraphScenario(
        name="delivered_then_failed",
        digits="65",
        english="delivered, then failed with 131026 nevertheless",
        portuguese="entregue e, mesmo assim, depois falha com 131026",
        late_refusal=131026,
        statuses=("sent", "delivered"),
    ),
    GraphScenario(
        name="held",
        digits="15",
        english="held to assess the template's quality, then sent",
        portuguese="retida para avaliar a qualidade do modelo, depois enviada",
        held=True,
    ),
    GraphScenario(
        name="held_then_failed",
        digits="14",
        english="held to assess the template's quality, then failed with 132015",
        portuguese="retida para avaliar a qualidade do modelo, depois falha com 132015",
        held=True,
        late_refusal=132015,
        statuses=(),
    ),
    GraphScenario(
        name="refused_twice",
        digits="68",
        english="131047 immediately and again by webhook",
        portuguese="131047 na hora e de novo pelo webhook",
        refusal=131047,
        late_refusal=131047,
        accepted=False,
    ),
    GraphScenario(
        name="hang_before",
        digits="80",
        english="no answer, nothing sent",
        portuguese="sem resposta, nada enviado",
        answer="hang",
        accepted=False,
    ),
    GraphScenario(
        name="hang_after",
        digits="81",
        english="no answer, but accepted: the statuses follow",
        portuguese="sem resposta, mas aceita: os status chegam",
        answer="hang",
    ),
    GraphScenario(
        name="slow",
        digits="82",
        english="accepted after some seconds",
        portuguese="aceita depois de alguns segundos",
        answer="slow",
    ),
    GraphScenario(
        name="reset_before",
        digits="83",
        english="connection reset, nothing sent",
        portuguese="conexão derrubada, nada enviado",
        answer="reset",
        accepted=False,
    ),
    GraphScenario(
        name="reset_after",
        digits="84",
        english="connection reset, but accepted: the statuses follow",
        portuguese="conexão derrubada, mas aceita: os status chegam",
        answer="reset",
    ),
    GraphScenario(
        name="not_json",
        digits="85",
        english="200 with broken JSON, accepted",
        portuguese="200 com JSON quebrado, aceita",
        answer="not_json",
    ),
    GraphScenario(
        name="html_502",
        digits="86",
        english="502 with an HTML page, not accepted",
        portuguese="502 com página HTML, não aceita",
        answer="html_502",
        accepted=False,
    ),
    GraphScenario(
        name="html_200",
        digits="87",
        english="200 with an HTML page of a proxy, not accepted",
        portuguese="200 com página HTML de um proxy, não aceita",
        answer="html_200",
        accepted=False,
    ),
    GraphScenario(
        name="empty",
        digits="88",
        english="200 with an empty body, accepted",
        portuguese="200 com corpo vazio, aceita",
        answer="empty",
    ),
    GraphScenario(
        name="error_500",
        digits="89",
        english="500 with JSON but no code, not accepted",
        portuguese="500 com JSON sem código, não aceita",
        answer="error_500",
        accepted=False,
    ),
    GraphScenario(
        name="scrambled_statuses",
        digits="91",
        english="accepted; statuses arrive twice and in reverse order",
        portuguese="aceita; os status chegam repetidos e em ordem inversa",
        scrambled=True,
    ),
    GraphScenario(
        name="status_first",
        digits="92",
        english="the statuses arrive before the response",
        portuguese="os status chegam antes da resposta",
        answer="after_statuses",
    ),
    GraphScenario(
        name="silent",
        digits="93",
        english="accepted, then no status at all",
        portuguese="aceita e depois nenhum status",
        statuses=(),
    ),
    GraphScenario(
        name="sent_only",
        digits="94",
        english="accepted and sent; the phone stays off",
        portuguese="aceita e enviada; o celular segue desligado",
        statuses=("sent",),
    ),
    GraphScenario(
        name="delivered_skipped",
        digits="95",
        english="sent, then read without delivered",
        portuguese="enviada e lida, sem o status entregue",
        statuses=("sent", "read"),
    ),
    GraphScenario(
        name="delivered_only",
        digits="96",
        english="delivered, but never read",
        portuguese="entregue, mas nunca lida",
        statuses=("sent", "delivered"),
    ),
    GraphScenario(
        name="played",
        digits="97",
        english="sent, delivered, read and played, as a voice message",
        portuguese="enviada, entregue, lida e ouvida, como um áudio",
        statuses=("sent", "delivered", "read", "played"),
    ),
)
