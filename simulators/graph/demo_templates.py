"""The templates of the demo's account: one of each kind that a shop meets, in Portuguese."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]


def _body(text: str, *examples: str) -> JsonObject:
    part: JsonObject = {"type": "BODY", "text": text}
    return {**part, "example": {"body_text": [list(examples)]}} if examples else part


def _header(format_: str) -> JsonObject:
    return {"type": "HEADER", "format": format_, "example": {"header_handle": ["4::demo"]}}


def _buttons(*buttons: JsonObject) -> JsonObject:
    return {"type": "BUTTONS", "buttons": list(buttons)}


def _reply(text: str) -> JsonObject:
    return {"type": "QUICK_REPLY", "text": text}


def _card(text: str, example: str) -> JsonObject:
    return {"components": [_header("IMAGE"), _body(text, example), _buttons(_reply("Quero esta"))]}


# Ids that do not change: the product keeps its copy when the demo starts again.
TEMPLATES: tuple[JsonObject, ...] = (
    {
        "id": "900000000000001",
        "name": "pedido_enviado",
        "quality": "GREEN",
        "parameter_format": "NAMED",
        "components": [
            {
                "type": "HEADER",
                "format": "TEXT",
                "text": "Pedido {{numero}}",
                "example": {
                    "header_text_named_params": [{"param_name": "numero", "example": "1042"}]
                },
            },
            {
                "type": "BODY",
                "text": "Olá, {{nome}}! Seu pedido *já saiu* e chega até {{prazo}}.\n"
                "Qualquer dúvida, é só responder aqui.",
                "example": {
                    "body_text_named_params": [
                        {"param_name": "nome", "example": "Ana"},
                        {"param_name": "prazo", "example": "sexta, 18h"},
                    ]
                },
            },
            {"type": "FOOTER", "text": "Loja Demo"},
            _buttons(
                {
                    "type": "URL",
                    "text": "Acompanhar",
                    "url": "https://loja.example/r/{{1}}",
                    "example": ["https://loja.example/r/1042"],
                },
                _reply("Falar com alguém"),
            ),
        ],
    },
    {
        "id": "900000000000002",
        "name": "lembrete_consulta",
        "quality": "GREEN",
        "components": [
            _body("Oi, {{1}}. Sua consulta é {{2}}. Podemos confirmar?", "Ana", "amanhã, às 14h"),
            _buttons(_reply("Confirmo"), _reply("Preciso remarcar")),
        ],
    },
    {
        "id": "900000000000003",
        "name": "orcamento_pronto",
        "quality": "YELLOW",
        "components": [
            _header("DOCUMENT"),
            _body(
                "Olá, {{1}}! Segue o orçamento que você pediu. Ele vale até {{2}}, ok?",
                "Ana",
                "30/12",
            ),
            _buttons({"type": "PHONE_NUMBER", "text": "Ligar", "phone_number": "+551130000000"}),
        ],
    },
    {
        "id": "900000000000004",
        "name": "oferta_da_semana",
        "category": "MARKETING",
        "status": "PAUSED",
        "quality": "RED",
        "components": [
            _header("IMAGE"),
            _body("Oi, {{1}}! Esta semana tem *20% de desconto* com o cupom abaixo.", "Ana"),
            {"type": "FOOTER", "text": "Para não receber mais ofertas, responda PARAR"},
            _buttons({"type": "COPY_CODE", "text": "Copiar código", "example": "SEMANA20"}),
        ],
    },
    {
        "id": "900000000000005",
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
    {
        "id": "900000000000006",
        "name": "codigo_de_acesso",
        "category": "AUTHENTICATION",
        "components": [
            {"type": "BODY", "add_security_recommendation": True},
            {"type": "FOOTER", "code_expiration_minutes": 10},
            _buttons({"type": "OTP", "otp_type": "COPY_CODE", "text": "Copiar código"}),
        ],
    },
    {
        "id": "900000000000007",
        "name": "novo_endereco",
        "status": "PENDING",
        "components": [
            {"type": "HEADER", "format": "LOCATION"},
            _body("Mudamos! Esperamos você na unidade {{1}} a partir de segunda.", "Centro"),
        ],
    },
    {
        "id": "900000000000008",
        "name": "novidades_da_loja",
        "status": "REJECTED",
        "rejected_reason": "TAG_CONTENT_MISMATCH",
        "components": [_body("Chegaram novidades, {{1}}! Responda e reserve a sua.", "Ana")],
    },
)
