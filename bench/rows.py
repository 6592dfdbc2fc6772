"""`python -m bench.rows COUNT CHANNEL`: store sent messages, each in a conversation of its own.

They are as the runner leaves them after Graph's `200`. Prints one line of JSON: for each message
its id, Meta's id of it, and the customer. Run it in the product's environment.
"""

from __future__ import annotations

import json
import os
import sys


def main(count: int, channel_id: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.utils import timezone

    from channels_app.models import Channel, Connection
    from messaging.delivery import statuses
    from messaging.models import Contact, ContactAddress, Conversation, DeliveryAttempt, Message

    channel = Channel.objects.get(pk=channel_id)
    connection = Connection.objects.stored(channel, statuses.Route.OFFICIAL)
    now = timezone.now()
    first = 10_000_000 + Contact.objects.count()
    numbers = [f"+55119{first + number}" for number in range(count)]
    made = Contact.objects.bulk_create([Contact(phone_number=number) for number in numbers])
    ContactAddress.objects.bulk_create(
        [
            ContactAddress(contact=contact, kind="phone", value=number, key=number)
            for contact, number in zip(made, numbers, strict=True)
        ]
    )
    talks = Conversation.objects.bulk_create(
        [Conversation(channel=channel, contact=contact, last_message_at=now) for contact in made]
    )
    sent = Message.objects.bulk_create(
        [
            Message(
                conversation=conversation,
                direction=Message.Direction.OUT,
                text=f"stored {number}",
                status=Message.Status.SENT,
                route=statuses.Route.OFFICIAL,
                decision="",
                round_started_at=now,
                created_at=now,
            )
            for number, conversation in enumerate(talks)
        ]
    )
    attempts = DeliveryAttempt.objects.bulk_create(
        [
            DeliveryAttempt(
                message=message,
                number=1,
                connection=connection,
                rule="first",
                outcome=statuses.Outcome.ACCEPTED,
                provider_message_id=f"wamid.BENCH{message.pk.hex}",
                message_key=f"wamid.BENCH{message.pk.hex}",
                started_at=now,
                finished_at=now,
            )
            for message in sent
        ]
    )
    print(
        json.dumps(
            [
                [str(message.pk), attempt.provider_message_id, number.lstrip("+")]
                for message, attempt, number in zip(sent, attempts, numbers, strict=True)
            ]
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
