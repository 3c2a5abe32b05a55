"""
The rules of invoices hold against raw SQL: each rule in the catalog is attacked, and refuses in its
own name.
"""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import Model
from django.utils import timezone

from accounts.services import internal_accounts
from identity.models import Tenant
from invoices import services
from invoices.models import (
    Checkout,
    Credit,
    CreditNote,
    CreditNoteRefund,
    CreditUse,
    DailyFigures,
    Installment,
    Invoice,
    InvoiceSettings,
    LineItem,
    Mailing,
    NumberSeries,
    Receipt,
)
from invoices.services import EvenSchedule, Interval
from ledger.services import Leg, Posting, post_one, reverse_transaction
from tests import gateways, invoicing, making
from tests.gateways import Sandbox
from tests.invoicing import draft, issued, pay, pay_offline
from tests.test_payment_rules import FRESH as FRESH_PAYMENTS
from tests.test_payment_rules import (
    NEW,
    Changes,
    Copies,
    Scene,
    models_of,
    named_rules,
    refused,
    rule_against_emptying,
)

TOKEN = f"replace({NEW}::text, '-', '')"
# What a copy of a row needs to be another row that every rule allows.
FRESH: Mapping[type[Model], Mapping[str, str]] = {
    **FRESH_PAYMENTS,
    InvoiceSettings: {"id": NEW, "tenant_id": "'{other_tenant}'"},
    NumberSeries: {"id": "1000000", "year": "1999"},
    Invoice: {"id": NEW, "token": TOKEN, "external_id": "NULL"},
    LineItem: {"id": "1000000", "position": "99"},
    Installment: {"id": NEW, "number": "99", "token": TOKEN},
    # Of which the invoice had nothing: then no sum is another.
    Receipt: {
        "id": NEW,
        "transaction_id": "'{spare_payment}'",
        "idempotency_key": f"{NEW}::text",
        "applied_amount": "0",
        "refunded_amount": "0",
        "split": "'[]'",
    },
    Credit: {"id": NEW, "transaction_id": "'{spare_credit}'", "used_amount": "0"},
    CreditUse: {
        "id": NEW,
        "transaction_id": "'{spare_use}'",
        "idempotency_key": f"{NEW}::text",
    },
    CreditNote: {
        "id": NEW,
        "number": "''",
        "transaction_id": "'{spare_note}'",
        "idempotency_key": f"{NEW}::text",
    },
    CreditNoteRefund: {"id": NEW, "refund_id": "NULL"},
    Checkout: {
        "id": NEW,
        "attempt": "99",
        "payment_id": "'{spare_asked}'",
        "is_active": "false",
    },
    Mailing: {"id": NEW, "unique_key": f"{NEW}::text"},
    DailyFigures: {"id": "1000000", "day": "'2001-01-01'"},
}
OVER = 50_000


class InvoiceScene(Scene):
    """A tenant with a row in every table of invoices, to be attacked."""

    fresh = FRESH

    def __init__(self, tenant: Tenant, other_tenant: Tenant, sandbox: Sandbox) -> None:
        gateways.add_sandbox(tenant)
        now = timezone.now()
        settings = InvoiceSettings.objects.create(tenant=tenant, updated_at=now)
        halves = EvenSchedule(2, Interval.MONTHLY)
        # Paid by card and by hand, 50,000 too much; of which 10,000 paid another invoice and 20,000
        # went back; and 575,000 back with a credit note, 10,000 of it through the gateway.
        paid = issued(tenant, schedule=halves)
        by_card = pay(paid, installment=1).payment
        pay_offline(paid, invoice_half(paid) + OVER)
        InvoiceSettings.objects.filter(pk=settings.pk).update(uses_credit=False)
        part_paid = issued(tenant)
        services.apply_credit(
            tenant_id=tenant.pk,
            invoice_id=part_paid.pk,
            amount=10_000,
            idempotency_key=making.fresh_key(),
            now=now,
        )
        for refund, amount in (
            (services.refund_credit, 20_000),
            (services.refund_invoice, invoice_half(paid) + 10_000),
        ):
            refund(
                tenant_id=tenant.pk,
                invoice_id=paid.pk,
                amount=amount,
                reason="x",
                idempotency_key=making.fresh_key(),
                now=now,
            )
        unpaid, whole = issued(tenant, schedule=halves), issued(tenant)
        by_page = invoicing.open_page(unpaid, installment=1).payment
        whole_page = invoicing.open_page(whole).payment
        unfinished = draft(tenant, external_id="mine")
        reversed_one = issued(tenant)
        gateways.add_sandbox(other_tenant)
        foreign = issued(other_tenant)
        dollars = issued(tenant, currency="USD")
        mail = Mailing.objects.filter(invoice=paid).earliest("pk")
        sent = Mailing.objects.filter(invoice=paid).latest("pk")
        Mailing.objects.filter(pk=sent.pk).update(status="sent", sent_at=now)

        receipts = Receipt.objects.filter(invoice=paid)
        self.rows: dict[str, tuple[type[Model], str]] = {}
        for name, row in {
            "settings": settings,
            "series": NumberSeries.objects.get(tenant=tenant, kind="INV"),
            "draft": unfinished,
            "unpaid": unpaid,
            "part_paid": part_paid,
            "paid": paid,
            "reversed": reversed_one,
            "line": unfinished.line_items.get(),
            "kept_line": unpaid.line_items.get(),
            "part": unfinished.installments.get(),
            "unpaid_part": unpaid.installments.get(number=1),
            "paid_part": paid.installments.get(number=1),
            "receipt": receipts.get(kind="offline"),
            "card_receipt": receipts.get(kind="gateway"),
            "credit": Credit.objects.get(),
            "use": CreditUse.objects.get(kind="refunded"),
            "applied": CreditUse.objects.get(kind="applied"),
            "note": CreditNote.objects.get(),
            "way": CreditNoteRefund.objects.get(refund_id__isnull=False),
            "ended_way": CreditNoteRefund.objects.get(refund_id=None),
            "checkout": Checkout.objects.get(payment_id=by_page.pk),
            "whole_checkout": Checkout.objects.get(payment_id=whole_page.pk),
            "ended_checkout": Checkout.objects.get(payment_id=by_card.pk),
            "mail": mail,
            "sent_mail": sent,
            "figures": DailyFigures.objects.filter(tenant=tenant).earliest("pk"),
            # Of payments: to be copied.
            "asked": by_page,
            "all_asked": whole_page,
        }.items():
            self.rows[name] = (type(row), str(row.pk))

        roles = ("receivable", "cash", "customer_credit", "revenue")
        account = internal_accounts(
            tenant_id=tenant.pk, roles=roles, currency="IDR", now=timezone.now()
        )

        def post(type_: str, amount: int, role: str = "receivable", other: str = "cash") -> UUID:
            posting = Posting(
                type=type_,
                currency="IDR",
                legs=(Leg(account[role], amount), Leg(account[other], -amount)),
                idempotency_key=making.fresh_key(),
                request_fingerprint=b"",
            )
            return post_one(tenant_id=tenant.pk, posting=posting).id

        note = CreditNote.objects.get()
        self.names = {
            "tenant": tenant.pk,
            "other_tenant": other_tenant.pk,
            "foreign": foreign.pk,
            "dollars": dollars.pk,
            "other_receipt": Receipt.objects.get(invoice=part_paid).pk,
            "card_payment": by_card.pk,
            "paid_claim": paid.transaction_id,
            "unpaid_claim": unpaid.transaction_id,
            # Postings that nothing refers to yet.
            "spare_payment": post("invoice_payment", invoice_half(paid) + OVER),
            "spare_credit": post("invoice_allocation", OVER, "customer_credit", "receivable"),
            "spare_use": post("credit_use", 20_000, "cash", "customer_credit"),
            "spare_note": post("credit_note", note.amount, "receivable", "revenue"),
            "larger_claim": post("invoice", unfinished.total_amount + 1, "revenue", "receivable"),
            **{name: pk for name, (_, pk) in self.rows.items()},
        }
        for name, of in {"spare_asked": "asked", "all_spare_asked": "all_asked"}.items():
            with connection.cursor() as cursor:
                cursor.execute(f"{self.copy(of, {})} RETURNING id")
                self.names[name] = cursor.fetchone()[0]
        topup = {"purpose": "'topup'"}
        with connection.cursor() as cursor:
            cursor.execute(f"{self.copy('asked', topup)} RETURNING id")
            self.names["for_topup"] = cursor.fetchone()[0]
            # What waits for the end of the database transaction is right so far.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        assert reversed_one.transaction_id is not None
        reverse_transaction(
            tenant_id=tenant.pk,
            transaction_id=reversed_one.transaction_id,
            reason="x",
            idempotency_key=making.fresh_key(),
            is_owner=True,
        )

    def refusal(self, statement: str) -> str | None:
        """As for payments, with what is looked at when a transaction ends."""
        return super().refusal(f"{statement}; SET CONSTRAINTS ALL IMMEDIATE")


def invoice_half(invoice: Invoice) -> int:
    return invoice.total_amount // 2


@pytest.fixture
def scene(tenant: Tenant, other_tenant: Tenant, sandbox: Sandbox) -> InvoiceScene:
    return InvoiceScene(tenant, other_tenant, sandbox)


# --- Attacks: rule, row, what is changed ----------------------------------------------------------

FINALIZED = f"status = 'pending', finalized_at = now(), transaction_id = {NEW}"
ONE_MORE = "subtotal_amount = subtotal_amount + 1, total_amount = total_amount + 1"
COPIES: Copies = [
    ("invoices_invoicesettings_tenant_id_key", "settings", {"tenant_id": "tenant_id"}),
    (
        "invoices_invoicesettings_payment_terms_days_check",
        "settings",
        {"payment_terms_days": "-1"},
    ),
    ("series_counted_by_triggers", "series", {}),
    *(
        ("invoice_begins_as_draft", "draft", values)
        for values in (
            {"status": "'pending'"},
            {"number": "'INV-2026-000009'"},
            {"paid_amount": "1"},
            {"credited_amount": "1"},
            {"refunded_amount": "1"},
            {"overpaid_amount": "1"},
        )
    ),
    # Of another tenant, in another currency, and without a number.
    *(
        ("invoice_supplements_its_own", "draft", {"parent_id": parent})
        for parent in ("'{foreign}'", "'{dollars}'", "'{draft}'")
    ),
    ("invoice_amounts_positive", "draft", {"subtotal_amount": "-1"}),
    ("invoice_amounts_positive", "draft", {"total_tax_amount": "-1"}),
    ("invoice_amounts_positive", "draft", {"total_service_fee_amount": "-1"}),
    ("invoice_amounts_positive", "draft", {"total_amount": "0"}),
    ("invoice_total_is_sum", "draft", {"total_amount": "total_amount + 1"}),
    ("invoice_numbered_iff_finalized", "draft", {"finalized_at": "now()"}),
    ("invoice_numbered_iff_finalized", "draft", {"transaction_id": NEW}),
    ("invoice_external_id_unique", "draft", {"external_id": "external_id"}),
    ("invoice_token_unique", "draft", {"token": "token"}),
    *(
        (f"invoices_invoice_{name}_check", "draft", {name: "-1"})
        for name in ("attempts", "failed_attempts", "revision")
    ),
    *(
        ("line_amounts_positive", "line", {name: value})
        for name, value in (
            ("quantity", "0"),
            ("quantity", "-1"),
            ("unit_amount", "-1"),
            ("tax_rate", "-1"),
            ("subtotal_amount", "-1"),
            ("tax_amount", "-1"),
        )
    ),
    ("line_tax_rate_limit", "line", {"tax_rate": "100.0001"}),
    ("line_position_unique", "line", {"position": "position"}),
    ("invoices_lineitem_position_check", "line", {"position": "-1"}),
    ("lines_stay_once_numbered", "kept_line", {}),
    ("lines_stay_once_numbered", "line", {"invoice_id": "'{unpaid}'"}),
    ("lines_stay_once_numbered", "line", {"tenant_id": "'{other_tenant}'"}),
    ("installment_is_sum", "part", {"amount": "amount + 1"}),
    ("installment_is_sum", "part", {"net_amount": "amount + 1", "tax_amount": "-1"}),
    (
        "installment_never_owes_less_than_nothing",
        "part",
        dict.fromkeys(("amount", "net_amount", "tax_amount", "service_fee_amount"), "0"),
    ),
    ("installment_begins_unpaid", "part", {"paid_amount": "1"}),
    ("installment_begins_unpaid", "part", {"credited_amount": "1"}),
    ("installment_number_unique", "part", {"number": "number"}),
    ("installment_token_unique", "part", {"token": "token"}),
    ("invoices_installment_number_check", "part", {"number": "-1"}),
    ("lines_stay_once_numbered", "unpaid_part", {}),
    ("lines_stay_once_numbered", "part", {"tenant_id": "'{other_tenant}'"}),
    # No posting; one of another kind, of another amount, of another tenant, of credit.
    ("receipt_was_posted", "receipt", {"transaction_id": NEW}),
    ("receipt_was_posted", "receipt", {"transaction_id": "'{spare_use}'"}),
    ("receipt_was_posted", "receipt", {"amount": "amount + 1"}),
    ("receipt_was_posted", "receipt", {"tenant_id": "'{other_tenant}'"}),
    ("receipt_was_posted", "receipt", {"invoice_id": "'{foreign}'"}),
    ("receipt_was_posted", "receipt", {"invoice_id": "'{dollars}'"}),
    ("receipt_was_posted", "receipt", {"kind": "'credit'"}),
    ("receipt_amounts_add_up", "receipt", {"applied_amount": "amount + 1"}),
    ("receipt_amounts_add_up", "receipt", {"applied_amount": "-1"}),
    ("receipt_amounts_add_up", "receipt", {"reversed_amount": "1"}),
    ("receipt_amounts_add_up", "receipt", {"reversed_amount": "-1"}),
    ("receipt_amounts_add_up", "receipt", {"refunded_amount": "1"}),
    ("receipt_of_gateway_has_payment", "receipt", {"kind": "'gateway'"}),
    ("receipt_of_gateway_has_payment", "receipt", {"payment_id": NEW}),
    (
        "receipt_payment_unique",
        "receipt",
        {"kind": "'gateway'", "payment_id": "'{card_payment}'"},
    ),
    ("receipt_transaction_unique", "receipt", {"transaction_id": "transaction_id"}),
    ("installment_begins_unpaid", "part", {"paid_amount": "1"}),
    ("installment_begins_unpaid", "part", {"credited_amount": "1"}),
    ("receipt_idempotency_key_unique", "receipt", {"idempotency_key": "idempotency_key"}),
    ("invoice_paid_is_receipts", "receipt", {"applied_amount": "1"}),
    ("credit_was_posted", "credit", {"transaction_id": NEW}),
    ("credit_was_posted", "credit", {"transaction_id": "'{spare_payment}'"}),
    ("credit_was_posted", "credit", {"amount": "amount + 1"}),
    ("credit_was_posted", "credit", {"currency": "'USD'"}),
    ("credit_was_posted", "credit", {"tenant_id": "'{other_tenant}'"}),
    ("credit_was_posted", "credit", {"used_amount": "1"}),
    ("credit_was_posted", "credit", {"receipt_id": "'{other_receipt}'"}),
    ("credit_transaction_unique", "credit", {"transaction_id": "transaction_id"}),
    ("invoice_overpaid_is_credit", "credit", {}),
    ("credit_use_was_posted", "use", {"transaction_id": NEW}),
    ("credit_use_was_posted", "use", {"transaction_id": "'{spare_payment}'"}),
    ("credit_use_was_posted", "use", {"amount": "amount + 1"}),
    ("credit_use_was_posted", "use", {"tenant_id": "'{other_tenant}'"}),
    ("credit_use_was_posted", "use", {"is_undone": "true"}),
    ("credit_use_transaction_unique", "use", {"transaction_id": "transaction_id"}),
    ("credit_use_key_unique", "use", {"idempotency_key": "idempotency_key"}),
    ("credit_used_is_uses", "use", {}),
    ("credit_note_was_posted", "note", {"transaction_id": NEW}),
    ("credit_note_was_posted", "note", {"transaction_id": "'{spare_use}'"}),
    ("credit_note_was_posted", "note", {"amount": "amount + 1"}),
    ("credit_note_was_posted", "note", {"invoice_id": "'{foreign}'"}),
    ("credit_note_was_posted", "note", {"invoice_id": "'{draft}'"}),
    ("credit_note_was_posted", "note", {"currency": "'USD'"}),
    ("credit_note_was_posted", "note", {"tenant_id": "'{other_tenant}'"}),
    ("credit_note_number_by_series", "note", {"number": "'CN-2026-000009'"}),
    ("credit_note_adds_up", "note", {"net_amount": "net_amount + 1"}),
    ("credit_note_adds_up", "note", {"owed_amount": "owed_amount + 1"}),
    (
        "credit_note_adds_up",
        "note",
        {"owed_amount": "-1", "refund_amount": "refund_amount + 1"},
    ),
    ("credit_note_transaction_unique", "note", {"transaction_id": "transaction_id"}),
    ("credit_note_idempotency_key_unique", "note", {"idempotency_key": "idempotency_key"}),
    ("credit_note_is_refunded", "note", {}),
    ("invoice_credited_by_notes", "note", {"owed_amount": "amount", "refund_amount": "0"}),
    ("credit_note_refund_positive", "way", {"amount": "0"}),
    ("credit_note_refund_by_own_receipt", "way", {"receipt_id": "'{other_receipt}'"}),
    ("credit_note_refund_by_own_receipt", "way", {"tenant_id": "'{other_tenant}'"}),
    ("credit_note_refund_unique", "way", {"refund_id": "refund_id"}),
    ("credit_note_is_refunded", "way", {}),
    ("checkout_has_its_payment", "checkout", {"payment_id": NEW}),
    ("checkout_has_its_payment", "checkout", {"payment_id": "'{for_topup}'"}),
    ("checkout_has_its_payment", "checkout", {"amount": "amount + 1"}),
    ("checkout_has_its_payment", "checkout", {"tenant_id": "'{other_tenant}'"}),
    ("checkout_has_its_payment", "checkout", {"invoice_id": "'{foreign}'"}),
    ("checkout_has_its_payment", "checkout", {"invoice_id": "'{dollars}'"}),
    ("checkout_attempt_unique", "checkout", {"attempt": "attempt"}),
    ("invoices_checkout_attempt_check", "checkout", {"attempt": "-1"}),
    ("checkout_payment_unique", "checkout", {"payment_id": "payment_id"}),
    ("checkout_one_active_of_installment", "checkout", {"is_active": "true"}),
    (
        "checkout_one_active_of_invoice",
        "whole_checkout",
        {"is_active": "true", "payment_id": "'{all_spare_asked}'"},
    ),
    (
        "checkout_of_all_or_of_parts",
        "checkout",
        {"is_active": "true", "installment_id": "NULL"},
    ),
    ("mailing_written_once", "mail", {"unique_key": "unique_key"}),
    ("mailing_sent_iff_sent", "mail", {"status": "'sent'"}),
    ("mailing_sent_iff_sent", "mail", {"sent_at": "now()"}),
    ("invoices_mailing_attempts_check", "mail", {"attempts": "-1"}),
    ("figures_unique", "figures", {"day": "day"}),
]
_NEVER_REWRITTEN = {
    ("invoice_never_rewritten", "draft"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "currency = 'USD'",
        "token = 'x'",
        "parent_id = '{paid}'",
        "created_at = now()",
    ],
    ("invoice_never_rewritten", "unpaid"): [
        "tenant_id = '{other_tenant}'",
        "currency = 'USD'",
        "token = 'x'",
        "number = 'INV-2026-999999'",
        "number = NULL",
        "tax_rounding = 'x'",
        "fee_mode = 'gross_up'",
        "fee_percent = 4",
        "fee_fixed = 1",
        ONE_MORE,
        "total_tax_amount = total_tax_amount - 1, total_amount = total_amount - 1",
        "total_service_fee_amount = 0, total_amount = subtotal_amount + total_tax_amount",
        "customer_key = 'email mallory@example.com'",
        "customer_reference = 'x'",
        "customer_name = 'Mallory'",
        "customer_address = 'x'",
        f"settlement_account_id = {NEW}",
        "external_id = 'x'",
        "has_schedule = NOT has_schedule",
        "finalized_at = finalized_at - interval '1 year'",
    ],
    ("installment_stays_once_paid", "unpaid_part"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "invoice_id = '{paid}'",
        "number = 9",
        "token = 'x'",
    ],
    ("installment_stays_once_paid", "paid_part"): [
        "due_date = '2099-01-01'",
        "amount = amount + 1, net_amount = net_amount + 1",
        "net_amount = net_amount + 1, tax_amount = tax_amount - 1",
        "tax_amount = tax_amount + 1, service_fee_amount = service_fee_amount - 1",
    ],
    ("receipt_never_rewritten", "receipt"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "invoice_id = '{unpaid}'",
        "kind = 'credit'",
        "method = 'x'",
        f"payment_id = {NEW}",
        "amount = amount + 1",
        "applied_amount = applied_amount + 1",
        "split = '[]'",
        "reference = 'x'",
        "received_on = '2001-01-01'",
        "transaction_id = '{spare_payment}'",
        "idempotency_key = 'x'",
        "request_fingerprint = 'x'",
        "created_at = now()",
        "refunded_amount = refunded_amount - 1",
    ],
    ("credit_never_rewritten", "credit"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "invoice_id = '{unpaid}'",
        "receipt_id = '{card_receipt}'",
        "customer_key = 'email mallory@example.com'",
        "currency = 'USD'",
        "amount = amount + 1",
        "transaction_id = '{spare_credit}'",
        "created_at = now()",
    ],
    ("credit_use_never_rewritten", "use"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "kind = 'applied'",
        "amount = amount - 1",
        "receipt_id = '{receipt}'",
        f"refund_id = {NEW}",
        "transaction_id = '{spare_use}'",
        "idempotency_key = 'x'",
        "request_fingerprint = 'x'",
        "created_at = now()",
    ],
    ("credit_note_never_changed", "note"): ["reason = 'x'", "amount = amount"],
    ("credit_note_refund_ends_once", "way"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "receipt_id = '{receipt}'",
        "amount = amount - 1",
        "refund_id = NULL",
        "created_at = now()",
    ],
    ("checkout_only_ends", "checkout"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "invoice_id = '{paid}'",
        "installment_id = NULL",
        "attempt = attempt + 1",
        "amount = amount - 1",
        "payment_id = '{spare_asked}'",
        "created_at = now()",
    ],
    ("mailing_sent_once", "mail"): [
        f"id = {NEW}",
        "tenant_id = '{other_tenant}'",
        "invoice_id = '{unpaid}'",
        "kind = 'reminder'",
        f"subject_id = {NEW}",
        "\"to\" = 'mallory@example.com'",
        "unique_key = 'x'",
        "created_at = now()",
    ],
}
CHANGES: Changes = [
    *(
        (rule, row, [change])
        for (rule, row), changes in _NEVER_REWRITTEN.items()
        for change in changes
    ),
    ("series_counted_by_triggers", "series", ["last = last + 1"]),
    ("series_counted_by_triggers", "series", ["last = last - 1"]),
    ("series_counted_by_triggers", "series", ["year = year + 1"]),
    ("lines_never_changed", "line", ["unit_amount = unit_amount"]),
    ("invoice_moves_as_it_may", "unpaid", ["status = 'draft'"]),
    ("invoice_moves_as_it_may", "unpaid", ["status = 'nonsense'"]),
    ("invoice_moves_as_it_may", "paid", ["status = 'voided'"]),
    ("invoice_moves_as_it_may", "paid", ["status = 'expired'"]),
    ("invoice_status_tells_amounts", "unpaid", ["status = 'partially_paid'"]),
    ("invoice_status_tells_amounts", "unpaid", ["status = 'fully_paid'"]),
    ("invoice_status_tells_amounts", "part_paid", ["status = 'fully_paid'"]),
    ("invoice_status_tells_amounts", "part_paid", ["status = 'refunded'"]),
    ("invoice_status_tells_amounts", "part_paid", ["status = 'pending'"]),
    ("invoice_status_tells_amounts", "paid", ["status = 'partially_paid'"]),
    ("invoice_status_tells_amounts", "unpaid", ["paid_amount = 1"]),
    ("invoice_status_tells_amounts", "draft", ["paid_amount = 1"]),
    ("invoice_status_tells_amounts", "draft", ["credited_amount = 1"]),
    ("invoice_status_tells_amounts", "draft", ["overpaid_amount = 5"]),
    ("installment_of_a_draft_is_unpaid", "part", ["paid_amount = 1"]),
    ("installment_of_a_draft_is_unpaid", "part", ["credited_amount = 1"]),
    ("invoice_number_by_series", "draft", ["number = 'INV-2026-000009'"]),
    ("invoice_number_by_series", "draft", [f"number = 'INV-9', {FINALIZED}"]),
    ("invoice_is_sum_of_lines", "draft", [ONE_MORE, FINALIZED]),
    ("invoice_is_sum_of_lines", "draft", [f"{ONE_MORE}, {FINALIZED}"]),
    (
        "invoice_is_sum_of_lines",
        "draft",
        [
            "subtotal_amount = subtotal_amount + 1, total_tax_amount = total_tax_amount - 1,"
            f" {FINALIZED}"
        ],
    ),
    (
        "invoice_is_sum_of_installments",
        "draft",
        [
            "total_service_fee_amount = total_service_fee_amount + 1,"
            f" total_amount = total_amount + 1, {FINALIZED}"
        ],
    ),
    ("invoice_never_owes_less_than_nothing", "draft", ["refunded_amount = -1"]),
    ("invoice_refunded_with_credit_note", "draft", ["refunded_amount = 1"]),
    ("invoice_numbered_iff_finalized", "draft", ["status = 'pending', finalized_at = now()"]),
    # No posting, one of another kind, and one of another amount.
    ("invoice_was_posted", "draft", [FINALIZED]),
    ("invoice_was_posted", "unpaid", ["transaction_id = '{spare_payment}'"]),
    ("invoice_was_posted", "unpaid", ["transaction_id = '{larger_claim}'"]),
    ("invoice_was_unposted_iff_ended", "unpaid", ["status = 'voided'"]),
    ("invoice_was_unposted_iff_ended", "unpaid", ["status = 'expired'"]),
    ("invoice_was_unposted_iff_ended", "reversed", ["status = 'failed'"]),
    ("invoice_paid_is_receipts", "part_paid", ["paid_amount = paid_amount + 1"]),
    ("invoice_paid_is_receipts", "card_receipt", ["reversed_amount = 1"]),
    ("invoice_paid_is_receipts", "card_receipt", ["refunded_amount = refunded_amount + 1"]),
    ("invoice_overpaid_is_credit", "paid", ["overpaid_amount = overpaid_amount + 1"]),
    ("invoice_credited_by_notes", "part_paid", ["credited_amount = 1"]),
    (
        "invoice_is_its_installments",
        "unpaid_part",
        ["amount = amount + 1, net_amount = net_amount + 1"],
    ),
    (
        "invoice_is_its_installments",
        "unpaid_part",
        ["net_amount = net_amount + 1, tax_amount = tax_amount - 1"],
    ),
    ("invoice_is_its_installments", "unpaid_part", ["paid_amount = 1"]),
    ("invoice_is_its_installments", "unpaid_part", ["credited_amount = 1"]),
    ("invoice_is_its_installments", "paid_part", ["paid_amount = paid_amount - 1"]),
    ("installment_never_owes_less_than_nothing", "paid_part", ["paid_amount = amount + 1"]),
    ("receipt_amounts_add_up", "receipt", ["refunded_amount = applied_amount + 1"]),
    ("credit_used_within_amount", "credit", ["used_amount = amount + 1"]),
    ("credit_used_within_amount", "credit", ["used_amount = -1"]),
    ("credit_used_is_uses", "credit", ["used_amount = used_amount + 1"]),
    ("credit_used_is_uses", "credit", ["used_amount = 0"]),
    ("credit_used_is_uses", "use", ["is_undone = true"]),
    ("credit_use_never_rewritten", "use", ["is_undone = true", "is_undone = false"]),
    ("credit_use_undone_refund", "applied", ["is_undone = true"]),
    ("credit_note_refund_ends_once", "ended_way", ["status = 'pending'"]),
    ("credit_note_refund_ends_once", "ended_way", ["status = 'failed'"]),
    ("checkout_only_ends", "ended_checkout", ["is_active = true"]),
    ("mailing_sent_once", "sent_mail", ["attempts = 9"]),
    ("mailing_sent_once", "sent_mail", ["status = 'queued', sent_at = NULL"]),
]
# Where a trigger looks first, the rule below it is seen without.
BARE = "SET LOCAL session_replication_role = replica; "
BENEATH: Copies = [
    ("series_unique", "series", {"year": "year"}),
    ("invoices_numberseries_last_check", "series", {"last": "-1"}),
    ("invoices_numberseries_year_check", "series", {"year": "-1"}),
    ("invoice_status_known", "unpaid", {"status": "'nonsense'", "number": "'x'"}),
    ("invoice_number_unique", "unpaid", {}),
    ("invoice_never_owes_less_than_nothing", "unpaid", {"paid_amount": "total_amount + 1"}),
    ("invoice_never_owes_less_than_nothing", "unpaid", {"credited_amount": "total_amount + 1"}),
    ("invoice_never_owes_less_than_nothing", "unpaid", {"paid_amount": "-1"}),
    ("invoice_never_owes_less_than_nothing", "unpaid", {"overpaid_amount": "-1"}),
    ("installment_never_owes_less_than_nothing", "part", {"paid_amount": "-1"}),
    ("installment_never_owes_less_than_nothing", "part", {"paid_amount": "amount + 1"}),
    ("installment_never_owes_less_than_nothing", "part", {"credited_amount": "-1"}),
    (
        "installment_never_owes_less_than_nothing",
        "part",
        {"paid_amount": "amount", "credited_amount": "1"},
    ),
    ("receipt_amounts_add_up", "receipt", {"amount": "0"}),
    ("credit_used_within_amount", "credit", {"amount": "0"}),
    ("credit_use_positive", "use", {"amount": "0"}),
    ("credit_use_positive", "use", {"amount": "-1"}),
    ("credit_note_number_unique", "note", {"number": "number"}),
    ("credit_note_adds_up", "note", {"amount": "0", "owed_amount": "-refund_amount"}),
    ("checkout_amount_positive", "checkout", {"amount": "0"}),
]
# Somebody counts on from a trigger of their own.
_OWN_TRIGGER = (
    "CREATE TEMP TABLE somewhere (number int);"
    " CREATE FUNCTION pg_temp.skip() RETURNS trigger LANGUAGE plpgsql AS $$"
    " BEGIN UPDATE invoices_numberseries SET last = last + 2; RETURN NEW; END $$;"
    " CREATE TRIGGER skip BEFORE INSERT ON somewhere FOR EACH ROW EXECUTE FUNCTION pg_temp.skip();"
    " INSERT INTO somewhere VALUES (1)"
)
OTHERS = [
    ("series_counted_by_triggers", _OWN_TRIGGER),
    ("series_never_deleted", "DELETE FROM invoices_numberseries WHERE false"),
    ("invoice_never_deleted", "DELETE FROM invoices_invoice WHERE false"),
    ("lines_stay_once_numbered", "DELETE FROM invoices_lineitem WHERE id = '{kept_line}'"),
    ("lines_stay_once_numbered", "DELETE FROM invoices_installment WHERE invoice_id = '{unpaid}'"),
    (
        "invoice_is_sum_of_lines",
        "DELETE FROM invoices_lineitem WHERE invoice_id = '{draft}'; {finalized}",
    ),
    (
        "invoice_is_sum_of_installments",
        "DELETE FROM invoices_installment WHERE invoice_id = '{draft}'; {finalized}",
    ),
    ("receipt_never_deleted", "DELETE FROM invoices_receipt WHERE false"),
    ("credit_never_deleted", "DELETE FROM invoices_credit WHERE false"),
    ("credit_use_never_deleted", "DELETE FROM invoices_credituse WHERE false"),
    ("credit_note_never_changed", "DELETE FROM invoices_creditnote WHERE false"),
    ("credit_note_refund_never_deleted", "DELETE FROM invoices_creditnoterefund WHERE false"),
    ("checkout_never_deleted", "DELETE FROM invoices_checkout WHERE false"),
]
TRUNCATED = {
    "series_never_truncated": "numberseries",
    "invoice_never_truncated": "invoice",
    "lines_never_truncated": "lineitem",
    "installments_never_truncated": "installment",
    "receipt_never_truncated": "receipt",
    "credit_never_truncated": "credit",
    "credit_use_never_truncated": "credituse",
    "credit_note_never_truncated": "creditnote",
    "credit_note_refund_never_truncated": "creditnoterefund",
    "checkout_never_truncated": "checkout",
}


def rules_of_invoices() -> set[str]:
    """Return the rules in the catalog, with those in functions that triggers call."""
    with connection.cursor() as cursor:
        cursor.execute(r"SELECT prosrc FROM pg_proc WHERE proname LIKE 'invoices\_%'")
        sources = " ".join(row[0] for row in cursor.fetchall())
    return named_rules(models_of("invoices")) | set(
        re.findall(r"payments_break\(\s*'(\w+)'", sources)
    )


@pytest.mark.parametrize(
    "row",
    ["settings", "draft", "line", "part", "receipt", "checkout", "mail", "figures"],
)
def test_a_row_that_keeps_every_rule_is_taken(scene: InvoiceScene, row: str) -> None:
    """So it is the change that is refused below, and nothing else about the row."""
    assert scene.refusal(scene.copy(row, {})) is None


def test_what_belongs_together_is_taken_together(scene: InvoiceScene) -> None:
    """Rows that only their counterparts allow: credit and its use."""
    overpaid = scene.change("paid", f"overpaid_amount = overpaid_amount + {OVER}")
    used = scene.change("credit", "used_amount = used_amount + 20000")

    assert scene.refusal(f"{scene.copy('credit', {})}; {overpaid}") is None
    assert scene.refusal(f"{scene.copy('use', {})}; {used}") is None


def test_each_rule_refuses_in_its_name(scene: InvoiceScene) -> None:
    assert refused(scene, COPIES, CHANGES) == []


def test_each_rule_beneath_a_trigger_refuses_in_its_name(scene: InvoiceScene) -> None:
    answers = [
        (rule, scene.refusal(BARE + scene.copy(row, changes))) for rule, row, changes in BENEATH
    ]

    assert [answer for answer in answers if answer[0] != answer[1]] == []


def test_nothing_is_taken_away(scene: InvoiceScene) -> None:
    finalized = scene.change("draft", FINALIZED)
    answers = [
        (rule, scene.refusal(statement.format(**scene.names, finalized=finalized)))
        for rule, statement in OTHERS
    ]

    assert [answer for answer in answers if answer[0] != answer[1]] == []


def test_no_rule_is_left_without_an_attack(db: None) -> None:
    attacked = {rule for rule, *_ in [*COPIES, *CHANGES, *BENEATH, *OTHERS]} | set(TRUNCATED)

    assert rules_of_invoices() == attacked


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("rule", TRUNCATED)
def test_no_table_of_money_is_emptied(rule: str) -> None:
    assert rule_against_emptying("invoices", TRUNCATED, rule) == rule


# --- States ---------------------------------------------------------------------------------------

INVOICE_MOVES = {
    "draft": ["pending", "voided"],
    "pending": ["expired", "failed", "fully_paid", "partially_paid", "refunded", "voided"],
    "partially_paid": ["failed", "fully_paid", "pending", "refunded"],
    # Charged back, or paid back.
    "fully_paid": ["partially_paid", "pending", "refunded"],
    # Opened again by staff; paid late.
    "failed": ["expired", "fully_paid", "partially_paid", "pending", "refunded", "voided"],
    "expired": ["pending", "voided"],
    "voided": [],
    "refunded": [],
}


def test_a_state_is_only_left_for_the_next(scene: InvoiceScene) -> None:
    status: Any = Invoice._meta.get_field("status")
    assert set(INVOICE_MOVES) == {value for value, _ in status.flatchoices}

    taken: dict[str, list[str]] = {}
    for before in INVOICE_MOVES:
        there = f"status = '{before}'"
        if before == "draft":
            there += ", number = NULL, finalized_at = NULL, transaction_id = NULL"
        led_up = (
            f"{BARE}{scene.change('unpaid', there)}; SET LOCAL session_replication_role = origin"
        )
        moves = {then: scene.change("unpaid", f"status = '{then}'") for then in INVOICE_MOVES}
        taken[before] = sorted(
            then
            for then, move in moves.items()
            if then != before and scene.refusal(f"{led_up}; {move}") != "invoice_moves_as_it_may"
        )

    assert taken == INVOICE_MOVES
