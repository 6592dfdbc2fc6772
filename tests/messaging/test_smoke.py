import pytest
from channels_app.models import Channel
from messaging import sending
pytestmark = pytest.mark.django_db(transaction=True)

def test_smoke():
    ch = Channel.objects.create(name="oficial", phone_number_id="1065", access_token="t")
    a = sending.accept_message(channel=ch, to="+5511999990047", user=None, text="oi")
    from messaging import delivery
    assert a.message.status == "queued"
    print(delivery.deliver(str(a.message.pk)))
    a.message.refresh_from_db()
    print(a.message.status, a.message.error_code, a.message.decision)
