from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
import requests

from simulators.graph.app import make_wamid
from simulators.graph.tables import ERRORS, SCENARIOS
from tests.simulators.conftest import NUMBER_ID, ORDINARY, TOKEN, Graph

EXAMPLES = {name: f"+55119{'9999'}00{scenario.digits}" for name, scenario in SCENARIOS.items()}
REJECTED = [s for s in SCENARIOS.values() if s.refusal and not s.rejects_first_attempts_only]


def key_id_of(wamid: str) -> tuple[str, str]:
    raw = base64.b64decode(wamid.removeprefix("wamid."))
    remote_end = 3 + raw[2]
    key = raw[remote_end + 6 : remote_end + 6 + raw[remote_end + 5]]
    return raw[3:remote_end].decode(), key.decode()


def test_an_ordinary_number_is_accepted(meta: Graph) -> None:
    answer = meta.send("+5511988887777")
    body = answer.json()

    assert answer.status_code == 200
    assert body["messaging_product"] == "whatsapp"
    assert body["contacts"] == [{"input": "+5511988887777", "wa_id": "5511988887777"}]
    assert list(body["messages"][0]) == ["id"]


def test_a_user_id_is_answered_by_the_id_and_in_the_wrong_field_dropped(meta: Graph) -> None:
    """docs/providers/cloud.md §10.1.4."""
    user_id = "BR.13491208655302741918"
    body = {"messaging_product": "whatsapp", "type": "text", "text": {"body": "oi"}}

    def post(**recipient: str) -> requests.Response:
        url = f"{meta.url}/v25.0/{NUMBER_ID}/messages"
        return requests.post(url, json=body | recipient, headers=meta.headers, timeout=5)

    answer = post(recipient=user_id).json()
    assert answer["contacts"] == [{"input": user_id, "user_id": user_id}]
    assert key_id_of(answer["messages"][0]["id"])[0] == user_id
    dropped = post(to=user_id)
    assert (dropped.status_code, list(dropped.json()["messages"][0])) == (200, ["id"])
    assert [entry["delivered"] for entry in meta.ledger()["messages"]] == [True, False]
    for wrong, code in (({"recipient": "bia.loja"}, 131009), ({}, 100)):
        assert post(**wrong).json()["error"]["code"] == code


def test_the_message_id_carries_recipient_and_key(meta: Graph) -> None:
    remote, key = key_id_of(meta.send(ORDINARY).json()["messages"][0]["id"])

    assert remote == "5511988887777"
    assert len(key) == 18
    assert int(key, 16)


@pytest.mark.parametrize(
    ("wamid", "remote", "key", "from_me"),
    [
        (
            "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQUFERjg0NDEzNDdFODU3MUMxMAA=",
            "16503879439",
            "3AADF8441347E8571C10",
            False,
        ),
        (
            "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI0QUQ2MjA4NEYyRkExNjMyREUA",
            "16503879439",
            "4AD62084F2FA1632DE",
            True,
        ),
    ],
)
def test_message_ids_are_built_like_the_samples_of_meta(
    wamid: str, remote: str, key: str, from_me: bool
) -> None:
    assert make_wamid(remote, key, from_me=from_me) == wamid


def test_accounts_outside_sao_paulo_have_no_ninth_digit(meta: Graph) -> None:
    contact = meta.send("+5531999881234").json()["contacts"][0]

    assert contact == {"input": "+5531999881234", "wa_id": "553199881234"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "x"}])
def test_a_missing_or_wrong_token_is_error_190(meta: Graph, headers: dict[str, str]) -> None:
    meta.headers = headers
    answer = meta.send()

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == 190
    assert answer.json()["error"]["type"] == "OAuthException"


def test_an_unknown_phone_number_id_is_error_100_with_subcode_33(meta: Graph) -> None:
    answer = meta.post("/v25.0/999/messages", {"messaging_product": "whatsapp"})
    error = answer.json()["error"]

    assert answer.status_code == 400
    assert (error["code"], error["error_subcode"]) == (100, 33)


def test_without_configured_numbers_every_number_and_token_is_valid(
    start_graph: Callable[..., Graph],
) -> None:
    meta = start_graph(numbers={})
    meta.headers = {"Authorization": "Bearer anything"}

    assert meta.send().status_code == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"messaging_product": "sms"}, 100),
        ({"to": ""}, 100),
        ({"type": "carrier_pigeon"}, 131051),
        ({"text": {}}, 131008),
        ({"text": {"body": ""}}, 131008),
        ({"text": {"body": "x" * 4097}}, 131009),
        ({"type": "image", "image": {"caption": "x"}}, 131008),
        ({"type": "image", "image": {"id": "1", "caption": "x" * 1025}}, 131009),
        ({"type": "template", "template": {"name": "hello"}}, 131008),
        ({"type": "interactive", "interactive": {"action": {"buttons": [1, 2, 3, 4]}}}, 131009),
        ({"type": "contacts", "contacts": {}}, 131008),
    ],
)
def test_an_invalid_body_is_rejected(meta: Graph, change: dict[str, object], code: int) -> None:
    answer = meta.send(**change)  # type: ignore[arg-type]

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert meta.ledger()["messages"] == []


def test_a_body_that_is_not_json_is_rejected(meta: Graph) -> None:
    url = f"{meta.url}/v25.0/{NUMBER_ID}/messages"
    answer = requests.post(url, data="{", headers=meta.headers, timeout=5)

    assert answer.json()["error"]["code"] == 100


def test_a_text_of_the_maximum_length_is_accepted(meta: Graph) -> None:
    assert meta.send(content="x" * 4096).status_code == 200


def test_marking_as_read_succeeds_with_and_without_typing(meta: Graph) -> None:
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.x"}
    typing = {**read, "typing_indicator": {"type": "text"}}

    for body in (read, typing):
        answer = meta.post(f"/v25.0/{NUMBER_ID}/messages", body)
        assert (answer.status_code, answer.json()) == (200, {"success": True})


def test_the_response_to_a_template_has_the_status_accepted(meta: Graph) -> None:
    answer = meta.send(type="template", template={"name": "hello", "language": {"code": "pt_BR"}})

    assert answer.json()["messages"][0]["message_status"] == "accepted"


@pytest.mark.parametrize("scenario", REJECTED, ids=lambda scenario: scenario.name)
def test_each_error_has_an_example_number(meta: Graph, scenario: object) -> None:
    name = scenario.name  # type: ignore[attr-defined]
    code = SCENARIOS[name].refusal
    answer = meta.send(EXAMPLES[name])
    error = answer.json()["error"]

    assert error["code"] == code
    assert error["type"] == "OAuthException"
    assert error["fbtrace_id"]
    if code != 190:
        assert error["message"] == f"(#{code}) {ERRORS[code].title}"
        assert error["error_data"]["messaging_product"] == "whatsapp"
        assert error["error_data"]["details"] == ERRORS[code].details
    assert meta.ledger()["messages"] == []


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("refused_131047", 400),
        ("refused_130429", 400),
        ("refused_131056", 400),
        ("refused_4", 400),
        ("refused_190", 401),
        ("refused_10", 403),
        ("refused_131031", 403),
        ("refused_132001", 404),
        ("refused_131000", 500),
        ("refused_131016", 500),
        ("unavailable_2", 503),
    ],
)
def test_the_http_status_follows_the_last_table_of_meta(
    meta: Graph, name: str, status: int
) -> None:
    assert meta.send(EXAMPLES[name]).status_code == status


@pytest.mark.parametrize("name", ["unavailable_131016", "unavailable_2"])
def test_an_outage_ends_after_the_configured_number_of_rejections(meta: Graph, name: str) -> None:
    meta.control("settings", {"unavailable_times": 2})
    answers = [meta.send(EXAMPLES[name]) for _ in range(4)]

    assert [answer.ok for answer in answers] == [False, False, True, False]
    assert meta.ledger()["delivered"] == 1


@pytest.mark.parametrize(("name", "delivered"), [("hang_before", 0), ("hang_after", 1)])
def test_a_hanging_request_may_be_accepted(meta: Graph, name: str, delivered: int) -> None:
    with pytest.raises(requests.ReadTimeout):
        meta.send(EXAMPLES[name], timeout=0.5)

    assert meta.ledger()["delivered"] == delivered


@pytest.mark.parametrize(("name", "delivered"), [("reset_before", 0), ("reset_after", 1)])
def test_a_request_with_a_reset_connection_may_be_accepted(
    meta: Graph, name: str, delivered: int
) -> None:
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        meta.send(EXAMPLES[name])

    assert meta.ledger()["delivered"] == delivered


@pytest.mark.parametrize(
    ("name", "status", "kind", "delivered"),
    [
        ("not_json", 200, "application/json", 1),
        ("empty", 200, "application/json", 1),
        ("html_200", 200, "text/html", 0),
        ("html_502", 502, "text/html", 0),
    ],
)
def test_an_answer_can_be_unreadable(
    meta: Graph, name: str, status: int, kind: str, delivered: int
) -> None:
    answer = meta.send(EXAMPLES[name])

    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith(kind)
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert meta.ledger()["delivered"] == delivered


def test_a_server_error_can_come_without_a_code(meta: Graph) -> None:
    answer = meta.send(EXAMPLES["error_500"])

    assert answer.status_code == 500
    assert "code" not in answer.json()["error"]
    assert meta.ledger()["delivered"] == 0


def test_a_slow_answer_arrives(meta: Graph) -> None:
    answer = meta.send(EXAMPLES["slow"])

    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= 0.1


def test_a_script_overrides_the_number_for_one_recipient(meta: Graph) -> None:
    meta.control(
        "script", {"recipient": ORDINARY, "scenarios": ["refused_131047", "refused_131000", "ok"]}
    )

    assert meta.send("+5511977776666").status_code == 200
    codes = [meta.send(ORDINARY).status_code for _ in range(4)]
    assert codes == [400, 500, 200, 200]


def test_a_script_for_all_recipients_can_apply_until_it_is_cleared(meta: Graph) -> None:
    meta.control("script", {"scenarios": ["refused_131016"], "forever": True})

    assert [meta.send(to).status_code for to in (ORDINARY, "+5511977776666")] == [500, 500]
    requests.delete(f"{meta.url}/_control/script", timeout=5)
    assert meta.send().status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("script", {"scenarios": ["no_such"]}),
        ("script", {}),
        ("settings", {"no_such": 1}),
        ("settings", {"status_delay": "soon"}),
        ("settings", {"unavailable_times": True}),
        ("inbound", {"text": "x"}),
        ("inbound", {"from": ORDINARY, "type": "location"}),
        ("webhook", {"field": "x"}),
        ("numbers", {"no_such": 1}),
    ],
)
def test_an_invalid_control_request_is_rejected(
    meta: Graph, path: str, body: dict[str, object]
) -> None:
    answer = meta.post(f"/_control/{path}", body)

    assert answer.status_code == 400
    assert answer.json()["error"]


def test_requests_are_recorded_in_order(meta: Graph) -> None:
    meta.send(content="um")
    meta.send(content="dois")
    recorded = meta.control_get("requests")

    assert [entry["body"]["text"]["body"] for entry in recorded] == ["um", "dois"]
    assert recorded[0]["headers"]["authorization"] == f"Bearer {TOKEN}"
    assert recorded[0]["at"] <= recorded[1]["at"]
    requests.delete(f"{meta.url}/_control/requests", timeout=5)
    assert meta.control_get("requests") == []


def test_the_ledger_counts_the_deliveries_of_each_reference(meta: Graph) -> None:
    meta.send(biz_opaque_callback_data="a")
    meta.send(biz_opaque_callback_data="a")
    meta.send(EXAMPLES["late_131047"], biz_opaque_callback_data="b")
    meta.send(EXAMPLES["refused_131047"], biz_opaque_callback_data="c")
    ledger = meta.ledger()

    assert ledger["delivered_by_reference"] == {"a": 2}
    assert [entry["reference"] for entry in ledger["messages"]] == ["a", "a", "b"]


def test_the_scenario_table_is_available(meta: Graph) -> None:
    rows = {row["name"]: row for row in meta.control_get("scenarios")}

    assert rows["refused_131047"]["example"] == "+55 11 99999-0047"
    assert rows["refused_131047"]["portuguese"]


def test_a_number_can_be_added_at_run_time(meta: Graph) -> None:
    meta.control("numbers", {"phone_number_id": "77", "token": "other"})
    meta.headers = {"Authorization": "Bearer other"}

    assert meta.get("/v25.0/77").status_code == 200
    assert meta.get(f"/v25.0/{NUMBER_ID}").status_code == 400
