"""The scenarios and fixed texts of the simulated wwebjs-api, as data.

What each response proves about the message: ``docs/providers/wwebjs.md §0``.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from simulators.base import Scenario

PROTOCOL_TIMEOUT = (
    "Runtime.callFunctionOn timed out. Increase the 'protocolTimeout' setting in launch/connect"
    " calls for a higher timeout if needed."
)
NOT_READY = "Cannot read properties of undefined (reading 'getChat')"
INVALID_WID = "wid error: invalid wid"
NO_LID = "No LID for user"
RATE_LIMITED = "rate-overlimit"
NO_QR = "qr code not ready or already scanned"
DETACHED = "Attempted to use detached Frame 'F0E1D2C3B4A5968778695A4B3C2D1E0F'."
DOLLAR_BUILD = (
    "DataError: Failed to execute 'get' on 'IDBObjectStore': No key or key range specified."
)
NOT_BASE64 = (
    "InvalidCharacterError: Failed to execute 'atob' on 'Window': The string to be decoded is not"
    " correctly encoded.\nwindow.WWebJS.mediaInfoToFile (pptr:evaluate:1091:35)"
)
BAD_PAIRING_NUMBER = (
    "invalid phone number\nObject.startAltLinkingFlow (https://web.whatsapp.com/:114:219)"
)

Answer = Literal[
    "message",
    "bare",
    "error",
    "session_error",
    "protocol_timeout",
    "session_timeout",
    "reset",
    "html_502",
    "html_200",
    "empty",
    "not_json",
]
Delivery = Literal["yes", "no", "late"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WwebjsScenario(Scenario):
    """The server's response to a send, and the outcome of the message."""

    answer: Answer = "message"
    error: str = ""
    delivery: Delivery = "yes"
    ack: int = 1
    last_ack: int = 3
    dollar_id: bool = False
    lid_remote: bool = False
    registered: bool = True
    lookup_error: str = ""
    without_ninth_digit: bool = False


def _table(*scenarios: WwebjsScenario) -> dict[str, WwebjsScenario]:
    return {scenario.name: scenario for scenario in scenarios}


def _error(
    name: str, digits: str, error: str, english: str, portuguese: str, delivery: Delivery = "no"
) -> WwebjsScenario:
    return WwebjsScenario(
        name=name,
        digits=digits,
        english=english,
        portuguese=portuguese,
        answer="error",
        error=error,
        delivery=delivery,
    )


def _session_error(name: str, digits: str, error: str, portuguese: str) -> WwebjsScenario:
    return WwebjsScenario(
        name=name,
        digits=digits,
        english=f"404 {error}: certainly not sent",
        portuguese=f"404 {error}: {portuguese}, com certeza não enviada",
        answer="session_error",
        error=error,
        delivery="no",
    )


SCENARIOS: dict[str, WwebjsScenario] = _table(
    WwebjsScenario(
        name="ok",
        digits="00",
        english="sent, ack 1, then delivered and read",
        portuguese="enviada, ack 1, depois entregue e lida",
    ),
    WwebjsScenario(
        name="bare_delivered",
        digits="01",
        english="success without message, delivered (normal since July 2026)",
        portuguese="sucesso sem mensagem, entregue (normal desde julho de 2026)",
        answer="bare",
    ),
    WwebjsScenario(
        name="bare_lost",
        digits="02",
        english="success without message, not delivered",
        portuguese="sucesso sem mensagem, não entregue",
        answer="bare",
        delivery="no",
    ),
    WwebjsScenario(
        name="ack_error",
        digits="03",
        english="success with ack -1: WhatsApp rejected it",
        portuguese="sucesso com ack -1: o WhatsApp recusou",
        ack=-1,
        delivery="no",
    ),
    WwebjsScenario(
        name="dollar_id",
        digits="04",
        english="the id has $1 instead of _serialized",
        portuguese="o id traz $1 no lugar de _serialized",
        dollar_id=True,
    ),
    WwebjsScenario(
        name="lid_remote",
        digits="05",
        english="the answer names an @lid instead of the number",
        portuguese="a resposta traz um @lid no lugar do número",
        lid_remote=True,
    ),
    WwebjsScenario(
        name="not_on_whatsapp",
        digits="06",
        english="number not on WhatsApp: lookup is null, send is 500 No LID for user",
        portuguese="número sem WhatsApp: consulta nula, envio 500 No LID for user",
        answer="error",
        error=NO_LID,
        delivery="no",
        registered=False,
    ),
    WwebjsScenario(
        name="ack_one_only",
        digits="07",
        english="only ack 1: the phone stays off",
        portuguese="ack 1 e nada mais: o celular segue desligado",
        last_ack=1,
        delivery="no",
    ),
    WwebjsScenario(
        name="queued",
        digits="08",
        english="success with ack 0, delivered afterwards",
        portuguese="sucesso com ack 0, entregue depois",
        ack=0,
    ),
    WwebjsScenario(
        name="ninth_digit",
        digits="09",
        english="registered without the ninth digit; only that form receives the message",
        portuguese="registrado sem o nono dígito; só essa forma recebe",
        without_ninth_digit=True,
    ),
    _error(
        "target_closed_delivered",
        "10",
        "Protocol error (Runtime.callFunctionOn): Target closed",
        "500 Target closed, but delivered",
        "500 Target closed, mas entregue",
        "yes",
    ),
    _error(
        "serialize_delivered",
        "11",
        "Cannot read properties of undefined (reading 'serialize')",
        "500 reading 'serialize', but delivered",
        "500 reading 'serialize', mas entregue",
        "yes",
    ),
    _error(
        "get_chat", "13", NOT_READY, "500 before the send: page not ready", "500 antes do envio"
    ),
    _error(
        "invalid_wid", "14", INVALID_WID, "500 before the send: bad chat id", "500 antes do envio"
    ),
    WwebjsScenario(
        name="rate_limited_lookup",
        digits="16",
        english="the look-up is 500 rate-overlimit: nothing was sent",
        portuguese="a consulta do número responde 500 rate-overlimit: nada foi enviado",
        lookup_error=RATE_LIMITED,
    ),
    _error(
        "rate_limited_send",
        "17",
        RATE_LIMITED,
        "500 rate-overlimit on the send, not delivered",
        "500 rate-overlimit no envio, não entregue",
    ),
    _error("minified_lost", "15", "r", "500 with the text r, not delivered", "500 com o texto r"),
    WwebjsScenario(
        name="hang_lost",
        digits="20",
        english="no answer until the protocol timeout, nothing delivered",
        portuguese="sem resposta até o tempo esgotar, nada entregue",
        answer="protocol_timeout",
        delivery="no",
    ),
    WwebjsScenario(
        name="hang_delivered",
        digits="21",
        english="no answer until the protocol timeout, but delivered",
        portuguese="sem resposta até o tempo esgotar, mas entregue",
        answer="protocol_timeout",
    ),
    WwebjsScenario(
        name="late_delivery",
        digits="22",
        english="500 after the protocol timeout, delivered some time later",
        portuguese="500 depois do tempo esgotar, entregue um tempo depois",
        answer="protocol_timeout",
        delivery="late",
    ),
    WwebjsScenario(
        name="reset_before",
        digits="23",
        english="connection reset, not delivered",
        portuguese="conexão derrubada, não entregue",
        answer="reset",
        delivery="no",
    ),
    WwebjsScenario(
        name="reset_after",
        digits="24",
        english="connection reset, but delivered",
        portuguese="conexão derrubada, mas entregue",
        answer="reset",
    ),
    WwebjsScenario(
        name="html_502",
        digits="25",
        english="502 with an HTML page, not delivered",
        portuguese="502 com página HTML, não entregue",
        answer="html_502",
        delivery="no",
    ),
    WwebjsScenario(
        name="html_200",
        digits="26",
        english="200 with an HTML page, not delivered",
        portuguese="200 com página HTML, não entregue",
        answer="html_200",
        delivery="no",
    ),
    WwebjsScenario(
        name="empty",
        digits="27",
        english="200 with an empty body, delivered",
        portuguese="200 com corpo vazio, entregue",
        answer="empty",
    ),
    WwebjsScenario(
        name="not_json",
        digits="28",
        english="200 with broken JSON, delivered",
        portuguese="200 com JSON quebrado, entregue",
        answer="not_json",
    ),
    _session_error("session_not_found", "30", "session_not_found", "sessão não existe"),
    _session_error("session_not_connected", "31", "session_not_connected", "sessão desconectada"),
    _session_error("browser_tab_closed", "32", "browser tab closed", "navegador fechado"),
    WwebjsScenario(
        name="session_timeout",
        digits="33",
        english="404 with the protocol timeout's text: certainly not sent",
        portuguese="404 com o texto do tempo esgotado: com certeza não enviada",
        answer="session_timeout",
        delivery="no",
    ),
)
