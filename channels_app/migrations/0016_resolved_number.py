from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ("channels_app", "0015_current_reasons_and_new_chat_blocks"),
    ]

    operations = [
        migrations.RenameModel("KnownNumber", "ResolvedNumber"),
    ]
