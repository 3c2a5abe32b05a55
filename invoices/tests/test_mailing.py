"""E-mails to customers, through a mail server that really listens."""

import datetime as dt
import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope
from django.conf import LazySettings
from django.utils import timezone

from core.errors import InvalidState, NotFound
from identity.models import Tenant
from invoices import services
from invoices.models import Invoice, InvoiceSettings, Mailing
from invoices.services import Customer, EvenSchedule, Interval
from ops.servers import free_port
from tests.invoicing import in_days, issued, pay_offline
from tests.making import at_once, fresh_key

pytestmark = pytest.mark.django_db(transaction=True)


class MailServer:
    """Keeps what it gets; refuses as it is told."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.got.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return self.answer


@pytest.fixture
def server(settings: LazySettings) -> Iterator[MailServer]:
    made = MailServer()
    controller = Controller(made, hostname="127.0.0.1", port=free_port())
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", controller.port
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    yield made
    controller.stop()


def send(*, at: dt.datetime | None = None) -> int:
    return services.send_due_mailings(now=at or timezone.now(), limit=50)


def sent_invoice(tenant: Tenant, **new: Any) -> Invoice:
    invoice = issued(tenant, **new)
    services.send_invoice(
        tenant_id=tenant.pk, invoice_id=invoice.pk, key=fresh_key(), now=timezone.now()
    )
    return invoice


def text_of(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return str(body.get_content()).replace("\u00a0", " ")


def test_an_invoice_goes_out_with_its_pdf(tenant: Tenant, server: MailServer) -> None:
    invoice = sent_invoice(tenant)

    assert send() == 1

    [message] = server.got
    assert message["To"] == "budi@example.com"
    assert message["Subject"] == f"Invoice {invoice.number}"
    assert invoice.token in text_of(message)
    assert "IDR 1,130,000" in text_of(message)
    assert message["Auto-Submitted"] == "auto-generated"
    [attached] = message.iter_attachments()
    assert attached.get_filename() == f"{invoice.number}.pdf"
    assert attached.get_content().startswith(b"%PDF-")
    assert send() == 0


def test_it_is_in_the_invoices_language(tenant: Tenant, server: MailServer) -> None:
    sent_invoice(tenant, locale="id")
    send()
    assert "Berikut tagihan" in text_of(server.got[0])
    assert "Rp 1.130.000" in text_of(server.got[0])


def test_a_receipt_goes_out_by_itself(tenant: Tenant, server: MailServer) -> None:
    pay_offline(issued(tenant), 500_000)
    send()
    [message] = server.got
    assert message["Subject"].startswith("Receipt")
    assert "IDR 500,000" in text_of(message)


def test_a_refusal_is_tried_again_and_then_given_up(tenant: Tenant, server: MailServer) -> None:
    invoice = sent_invoice(tenant)
    server.answer = "451 try later"
    now = timezone.now()
    for number in range(8):
        assert send(at=now + dt.timedelta(hours=3 * number)) == 0

    mailing = Mailing.objects.get()
    invoice.refresh_from_db()
    assert (mailing.status, mailing.attempts) == (Mailing.Status.FAILED, 8)
    assert "451" in mailing.last_error
    assert invoice.attention == "email_failed"

    server.answer = "250 OK"
    services.requeue_mailing(tenant_id=tenant.pk, mailing_id=mailing.pk, now=now)
    assert send() == 1


def test_a_server_that_is_away_is_tried_again_later(
    tenant: Tenant, server: MailServer, settings: LazySettings
) -> None:
    sent_invoice(tenant)
    port, settings.EMAIL_PORT = settings.EMAIL_PORT, free_port()
    assert send() == 0
    # Not at once.
    settings.EMAIL_PORT = port
    assert send() == 0
    assert send(at=timezone.now() + dt.timedelta(minutes=2)) == 1


def test_a_message_that_kills_its_worker_ends_too(tenant: Tenant, server: MailServer) -> None:
    sent_invoice(tenant)
    # So often somebody claimed it and died.
    Mailing.objects.update(attempts=8)
    assert send() == 0
    assert Mailing.objects.get().status == Mailing.Status.FAILED
    assert server.got == []


def test_sent_again_it_is_known_by_its_id(tenant: Tenant, server: MailServer) -> None:
    sent_invoice(tenant)
    mailing = Mailing.objects.get()
    send()
    assert server.got[0]["Message-ID"].startswith(f"<{mailing.pk}@")


def test_two_workers_send_it_once(tenant: Tenant, server: MailServer) -> None:
    sent_invoice(tenant)
    at_once([send, send, send])
    assert len(server.got) == 1


def test_nobody_is_reminded_of_what_is_paid(tenant: Tenant, server: MailServer) -> None:
    invoice = issued(tenant, due_date=in_days(1))
    due = timezone.now() + dt.timedelta(days=1, hours=12)
    services.take_due_steps(now=due, limit=10)
    assert Mailing.objects.get(kind="reminder").status == Mailing.Status.QUEUED
    pay_offline(invoice, 1_130_000)
    send(at=due)
    assert Mailing.objects.get(kind="reminder").status == Mailing.Status.DROPPED
    assert [message["Subject"].split()[0] for message in server.got] == ["Receipt"]


def test_a_reminder_names_the_installment(tenant: Tenant, server: MailServer) -> None:
    issued(tenant, schedule=EvenSchedule(2, Interval.MONTHLY, in_days(1)))
    due = timezone.now() + dt.timedelta(days=1, hours=12)
    services.take_due_steps(now=due, limit=10)
    send(at=due)
    assert "IDR 565,000" in text_of(server.got[0])


def test_nobody_adds_headers_by_a_name(tenant: Tenant, server: MailServer) -> None:
    InvoiceSettings.objects.create(
        tenant=tenant, legal_name="Toko\r\nBcc: evil@example.com", updated_at=timezone.now()
    )
    name = "Budi\r\nBcc: evil@example.com"
    sent_invoice(tenant, customer=Customer(name=name, email="budi@example.com"))
    assert send() == 1
    [message] = server.got
    assert message["Bcc"] is None
    assert message["To"] == "budi@example.com"


def test_only_what_failed_is_queued_again(tenant: Tenant, other_tenant: Tenant) -> None:
    sent_invoice(tenant)
    mailing = Mailing.objects.get()
    now = timezone.now()
    with pytest.raises(InvalidState):
        services.requeue_mailing(tenant_id=tenant.pk, mailing_id=mailing.pk, now=now)
    with pytest.raises(NotFound):
        services.requeue_mailing(tenant_id=other_tenant.pk, mailing_id=mailing.pk, now=now)
