"""Templates of the demo's account: one of each kind that the pages show differently."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]


def _body(text: str, *examples: str) -> JsonObject:
    body: JsonObject = {"type": "BODY", "text": text}
    return body | ({"example": {"body_text": [list(examples)]}} if examples else {})


def _buttons(*buttons: JsonObject) -> JsonObject:
    return {"type": "BUTTONS", "buttons": list(buttons)}


def _header(format_: str) -> JsonObject:
    example = {"header_handle": ["https://scontent.whatsapp.net/v/example"]}
    return {"type": "HEADER", "format": format_, "example": example}


def _card(text: str, example: str) -> JsonObject:
    reply = {"type": "QUICK_REPLY", "text": "Quero esta"}
    return {"components": [_header("IMAGE"), _body(text, example), _buttons(reply)]}


TEMPLATES: list[JsonObject] = [
    {
        "name": "lembrete_consulta",
        "category": "UTILITY",
        "quality": "GREEN",
        "components": [
            {
                "type": "HEADER",
                "format": "TEXT",
                "text": "Consulta de {{1}}",
                "example": {"header_text": ["sexta"]},
            },
            _body("Olá {{1}}, sua consulta é às {{2}}. Pode confirmar?", "Ana", "14h"),
            {"type": "FOOTER", "text": "Clínica Demo"},
            _buttons(
                {"type": "QUICK_REPLY", "text": "Confirmo"},
                {"type": "QUICK_REPLY", "text": "Preciso remarcar"},
            ),
        ],
    },
    {
        "name": "pedido_a_caminho",
        "category": "UTILITY",
        "quality": "GREEN",
        "parameter_format": "NAMED",
        "components": [
            {
                "type": "BODY",
                "text": "Oi {{nome}}! Seu pedido {{pedido}} saiu para entrega.",
                "example": {
                    "body_text_named_params": [
                        {"param_name": "nome", "example": "Ana"},
                        {"param_name": "pedido", "example": "1042"},
                    ]
                },
            },
            _buttons(
                {
                    "type": "URL",
                    "text": "Acompanhar",
                    "url": "https://example.com/r/{{1}}",
                    "example": ["https://example.com/r/1042"],
                },
                {"type": "PHONE_NUMBER", "text": "Ligar", "phone_number": "+5511900000001"},
            ),
        ],
    },
    {
        "name": "oferta_da_semana",
        "category": "MARKETING",
        "quality": "YELLOW",
        "components": [
            {
                "type": "HEADER",
                "format": "IMAGE",
                "example": {"header_handle": ["https://scontent.whatsapp.net/v/example"]},
            },
            _body("Oi {{1}}, esta semana tudo com 10% de desconto.", "Ana"),
            _buttons({"type": "COPY_CODE", "example": "SEMANA10"}),
        ],
    },
    {
        "name": "codigo_de_acesso",
        "category": "AUTHENTICATION",
        "quality": "GREEN",
        "components": [
            {"type": "BODY", "add_security_recommendation": True},
            {"type": "FOOTER", "code_expiration_minutes": 10},
            _buttons({"type": "OTP", "otp_type": "COPY_CODE", "text": "Copiar código"}),
        ],
    },
    {
        "name": "pesquisa_de_satisfacao",
        "category": "MARKETING",
        "status": "PAUSED",
        "quality": "RED",
        "components": [_body("Como foi o seu atendimento?")],
    },
    {
        "name": "boas_vindas",
        "category": "MARKETING",
        "status": "REJECTED",
        "rejected_reason": "INVALID_FORMAT",
        "components": [_body("Seja bem-vindo, {{1}}!", "Ana")],
    },
    {
        "name": "lembrete_consulta",
        "language": "en_US",
        "category": "UTILITY",
        "status": "PENDING",
        "components": [_body("Hello {{1}}, your appointment is at {{2}} o'clock.", "Ana", "2")],
    },
    {
        "name": "orcamento_pronto",
        "category": "UTILITY",
        "quality": "YELLOW",
        "components": [
            _header("DOCUMENT"),
            _body("Olá {{1}}, segue o orçamento. Ele vale até {{2}}, combinado?", "Ana", "30/12"),
            {"type": "FOOTER", "text": "Oficina Demo"},
        ],
    },
    {
        "name": "nova_colecao",
        "category": "MARKETING",
        "quality": "GREEN",
        "components": [
            _body("Veja o que chegou para você, {{1}}, na nossa loja:", "Ana"),
            {
                "type": "CAROUSEL",
                "cards": [
                    _card("Camisa {{1}} de algodão", "azul"),
                    _card("Calça {{1}} de linho", "preta"),
                ],
            },
        ],
    },
]
