"""One conversation with every kind of message (docs/message-kinds.md), as providers report it."""

from __future__ import annotations

import base64
import json
from itertools import count
from typing import Any

from tests import files

NUMBER = "5511988880077"
CHAT = "5511988880078@s.whatsapp.net"
ANA = "Ana de Todos os Tipos"


def cloud_payloads(phone_number_id: str, *, now: int, number: str = NUMBER) -> list[Any]:
    """Return Meta's payloads, oldest first."""
    numbers = count(1)

    def message(type_: str, content: Any = None, **beside: Any) -> Any:
        place = next(numbers)
        one = {"from": number, "id": f"wamid.KIND{place}", "timestamp": str(now + place * 20)}
        one |= {"type": type_, **({} if content is None else {type_: content}), **beside}
        value = {
            "metadata": {"phone_number_id": phone_number_id},
            "contacts": [{"profile": {"name": ANA}, "wa_id": number}],
            "messages": [one],
        }
        return {"entry": [{"changes": [{"field": "messages", "value": value}]}]}

    ad = {
        "source_type": "ad", "source_id": "120226305854810726", "source_url": "https://fb.me/xyz",
        "headline": "Promoção de primavera", "body": "Até 30% de desconto na loja inteira",
        "ctwa_clid": "AffabcDEF",
    }  # fmt: skip
    answers = {"flow_token": "x", "nome_completo": "Ana Souza", "turno": ["manhã", "tarde"]}
    form = {"name": "flow", "body": "Sent", "response_json": json.dumps(answers)}
    items = [
        {"product_retailer_id": "pao-frances", "quantity": 12, "item_price": 0.9},
        {"product_retailer_id": "bolo-de-cenoura", "quantity": 1, "item_price": "35.00"},
    ]
    phones = [{"phone": "+55 11 98888-7777"}, {"phone": "+55 11 3333-4444"}]
    card = {"name": {"formatted_name": "João da Silva"}, "phones": phones}
    reason = {"code": 131060, "title": "?", "error_data": {"details": "Ask them to send it again"}}
    edited, deleted = "wamid.KIND2", "wamid.KIND3"
    return [
        message("text", {"body": "Oi, vim pelo anúncio de vocês"}, referral=ad),
        message("text", {"body": "preço 10"}),
        message("text", {"body": "mensagem que vou apagar"}),
        message(
            "edit",
            {
                "original_message_id": edited,
                "message": {"type": "text", "text": {"body": "preço 100"}},
            },
        ),
        message("revoke", {"original_message_id": deleted}),
        message("reaction", {"message_id": edited, "emoji": "❤️"}),
        message(
            "location",
            {"latitude": -23.561, "longitude": -46.656, "name": "MASP", "address": "Av. Paulista"},
        ),
        message("contacts", [{**card, "org": {"company": "Padaria Exemplo"}}]),
        message("button", {"text": "Cancelar inscrição", "payload": "x"}),
        message("interactive", {"type": "nfm_reply", "nfm_reply": form}),
        message(
            "interactive",
            {"type": "call_permission_reply", "call_permission_reply": {"response": "accept"}},
        ),
        message(
            "order",
            {"text": "quero estes", "product_items": [{**one, "currency": "BRL"} for one in items]},
        ),
        message("unsupported", errors=[reason]),
        message("text", {"body": "encaminhada"}, context={"frequently_forwarded": True}),
        message(
            "text",
            {"body": "Ainda tem este?"},
            context={"id": "wamid.GONE", "referred_product": {"product_retailer_id": "di9ozbzfi4"}},
        ),
        message("text", {"body": "em resposta"}, context={"id": edited}),
        message(
            "system",
            {"type": "user_changed_number", "customer": number, "wa_id": "5511977770000"},
        ),
        message("a_type_to_come", {"title": "palavras de um tipo novo"}),
        message("request_welcome"),
        message("media_placeholder"),
        {
            "entry": [
                {"changes": [{"field": "messaging_handovers", "value": {
                    "recipient": {"phone_number_id": phone_number_id},
                    "sender": {"phone_number": number},
                    "timestamp": str(now + next(numbers) * 20),
                    "type": "control_passed",
                    "control_passed": {
                        "previous_owner_role": "ai_agent", "new_owner_role": "escalation",
                        "conversation_context": {"type": "summary", "summary": "Quer um bolo"},
                    },
                }}]}
            ]
        },
    ]  # fmt: skip


def evolution_events(instance: str, *, now: int, chat: str = CHAT) -> list[Any]:
    """Return the events of an instance, oldest first."""
    numbers = count(1)

    def written(message: Any, **beside: Any) -> Any:
        place = next(numbers)
        data = {
            "key": {"remoteJid": chat, "fromMe": False, "id": f"3AKIND{place}"},
            "pushName": "Beto dos Arquivos",
            "message": message,
            "messageType": next(iter(message), "") if message else "unknown",
            "messageTimestamp": now + place * 20,
            **beside,
        }
        return {"event": "messages.upsert", "instance": instance, "data": data}

    def with_file(message: Any, data: bytes) -> Any:
        return written({**message, "base64": base64.b64encode(data).decode()})

    quoted = {"stanzaId": "GONE", "quotedMessage": {"conversation": "texto que nunca tivemos aqui"}}
    options = ["segunda", "terça", "quarta-feira de manhã, bem cedo"]
    pix = {"merchant_name": "Padaria Exemplo", "key": "+5511900000099", "key_type": "PHONE"}
    payment = {
        "currency": "BRL", "total_amount": {"value": 4590, "offset": 100}, "reference_id": "R1",
        "payment_settings": [{"type": "pix_static_code", "pix_static_code": pix}],
    }  # fmt: skip
    buttons = [
        {"urlButton": {"displayText": "Abrir", "url": "https://exemplo.invalid/f/1"}},
        {"quickReplyButton": {"displayText": "Parar"}},
    ]
    template = {
        "hydratedTitleText": "Fatura", "hydratedContentText": "Vence amanhã",
        "hydratedFooterText": "Seguros Exemplo", "hydratedButtons": buttons,
    }  # fmt: skip
    product = {
        "title": "Bolo de cenoura", "description": "Com cobertura", "currencyCode": "BRL",
        "priceAmount1000": {"low": 35000, "high": 0},
    }  # fmt: skip
    poll = "3AKIND8"
    vote = {"pollCreationMessageKey": {"id": poll}, "vote": {"selectedOptions": ["terça"]}}
    return [
        written({"conversation": "bom dia"}, contextInfo=quoted),
        with_file({"imageMessage": {"caption": "foto com legenda"}}, files.PNG),
        with_file({"audioMessage": {"ptt": True, "seconds": 4}}, files.OPUS),
        with_file({"ptvMessage": {"mimetype": "video/mp4"}}, files.MP4),
        with_file(
            {"documentMessage": {"fileName": "contrato assinado.pdf", "caption": "segue"}},
            files.PDF,
        ),
        with_file({"stickerMessage": {"mimetype": "image/webp"}}, files.WEBP),
        written(
            {"liveLocationMessage": {"degreesLatitude": -23.5, "degreesLongitude": -46.6,
                                     "caption": "chegando"}}
        ),
        written(
            {"pollCreationMessageV3": {"name": "Qual dia é melhor?", "selectableOptionsCount": 0,
                                       "options": [{"optionName": one} for one in options]}}
        ),
        written({"pollUpdateMessage": vote}),
        written({"reactionMessage": {"text": "👍", "key": {"id": poll}}}),
        written({"productMessage": {"product": product, "body": "Tem esse?"}}),
        written(
            {"interactiveMessage": {"nativeFlowMessage": {"buttons": [
                {"name": "payment_info", "buttonParamsJson": json.dumps(payment)}]}}}
        ),
        written({"templateMessage": {"hydratedTemplate": template}}),
        with_file(
            {"interactiveMessage": {"header": {"imageMessage": {"mimetype": "image/png"}},
                                    "body": {"text": "Oferta do dia"},
                                    "footer": {"text": "até amanhã"}}},
            files.PNG,
        ),
        written({"sendPaymentMessage": {"noteMessage": {"conversation": "paguei"}}}),
        written(
            {"eventMessage": {"name": "Festa junina", "description": "Traga um prato",
                              "location": {"name": "Praça da Matriz"},
                              "joinLink": "https://call.whatsapp.com/video/x"}}
        ),
        written({"groupInviteMessage": {"groupName": "Clientes VIP", "caption": "entra aí"}}),
        written({"callLogMesssage": {"isVideo": True, "callOutcome": "MISSED"}}),
        written({"albumMessage": {"expectedImageCount": 3, "expectedVideoCount": 1}}),
        written({"viewOnceMessageV2": {}}),
        written({"placeholderMessage": {"type": "MASK_LINKED_DEVICES"}}),
        written(None, messageStubType=2),
    ]  # fmt: skip


# What a person reads in either conversation, in Portuguese.
WORDS = (
    "Veio de um anúncio", "Promoção de primavera", "preço 100", "O cliente apagou esta mensagem",
    "Editada", "❤️", "MASP", "-23.561, -46.656", "João da Silva", "+55 11 3333-4444",
    "Padaria Exemplo", "Cancelar inscrição", "nome completo: Ana Souza", "manhã, tarde",
    "O cliente permite ligações", "12 x pao-frances", "BRL 45.80", "13 itens",
    "Mensagem que só o celular mostra", "Ask them to send it again", "Encaminhada muitas vezes",
    "di9ozbzfi4", "O cliente mudou de número", "palavras de um tipo novo",
    "O cliente abriu a conversa", "Um arquivo de antes de o número ser conectado",
    "O agente da Meta passou a conversa para vocês", "Quer um bolo",
    "texto que nunca tivemos aqui", "foto com legenda", "contrato assinado.pdf", "chegando",
    "Qual dia é melhor?", "terça (1 voto)", "👍", "Bolo de cenoura · BRL 35.00", "Chave Pix:",
    "Fatura", "Seguros Exemplo", "https://exemplo.invalid/f/1", "Oferta do dia", "paguei",
    "Festa junina", "Praça da Matriz", "Clientes VIP", "Ligação de vídeo", "3 fotos", "1 vídeo",
    "Só pode ser aberta uma vez", "O WhatsApp ainda não a entregou",
)  # fmt: skip
# No name of a provider's type is shown to people.
RAW = (
    "a_type_to_come", "request_welcome", "nfm_reply", "call_permission", "unsupported",
    "Message]", "placeholder", "[unknown]", "messageType", "flow_token", "user_changed",
    "media_placeholder", "ai_agent", "handover", "control_passed",
)  # fmt: skip
