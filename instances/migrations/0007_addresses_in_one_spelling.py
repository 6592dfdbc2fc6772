from core.http_addresses import normalise
from django.db import migrations


def normalise_addresses(apps, schema_editor):
    """Keep what is known of an instance whose server's address gets its one spelling."""
    WhatsAppSession = apps.get_model("instances", "WhatsAppSession")
    for pk, address in WhatsAppSession.objects.values_list("pk", "address"):
        # "<server> <instance>": an address that is accepted holds no space.
        server, space, instance = address.partition(" ")
        spelled = f"{normalise(server)}{space}{instance}"
        if spelled != address and len(spelled) <= 310:
            WhatsAppSession.objects.filter(pk=pk).update(address=spelled)


class Migration(migrations.Migration):

    dependencies = [
        ("instances", "0006_linked_numbers"),
        ("channels_app", "0012_addresses_and_session_wishes"),
    ]

    operations = [
        migrations.RunPython(normalise_addresses, migrations.RunPython.noop),
    ]
