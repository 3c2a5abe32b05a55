"""Payments, whatever they are for, and their refunds in the back office."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin import (
    Act,
    AttentionFilter,
    BackOfficeAdmin,
    CurrencyFilter,
    Done,
    KeysetChangeList,
    ReasonForm,
    TenantFilter,
    link_to,
    metadata_lines,
    minute,
    money,
    page_url,
    panel_on,
)
from core.errors import InvalidState
from core.ids import new_id
from core.money import Money, exponent, format_money
from core.permissions import Permission
from identity.models import Tenant
from ledger.errors import InsufficientFunds
from payments import queries, services
from payments.admin import words
from payments.admin.columns import (
    AccountNamingList,
    account_link,
    gateway_link,
    referenced,
    standing,
    status_badge,
    transaction_link,
)
from payments.models import GatewayConfiguration, Payment, Refund
from payments.services.waiting import NoAnswer

REFUNDS_SHOWN_MAX = 20
_S = Payment.Status
_PAID_BY = {
    Payment.Method.TOKEN: "a card, by token",
    Payment.Method.CARD: "a test card",
    Payment.Method.HOSTED: "what the payer chose at the gateway",
}
_REFUNDABLE = (_S.PAID, _S.DEPOSIT_PENDING, _S.DEPOSITED)


# --- Acts --------------------------------------------------------------------------------------
class RefundForm(ReasonForm):
    # Made when the form is shown: however often it is sent, it pays back once.
    key = forms.UUIDField(widget=forms.HiddenInput)
    field_order = ["amount", "reason", "key"]

    def __init__(self, data: Any, *, payment: Payment) -> None:
        super().__init__(data, initial={"key": new_id()})
        self.payment = payment
        if payment.status == _S.DEPOSITED:
            left = _left_of(payment)
            currency = payment.currency
            self.fields["amount"] = forms.DecimalField(
                required=False,
                label=f"Amount in {currency}",
                min_value=Money(1, currency).decimal,
                max_value=Money(max(left, 1), currency).decimal,
                decimal_places=exponent(currency),
                help_text=f"Leave it empty for all that is left: {format_money(left, currency)}.",
            )
            self.order_fields(self.field_order)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        amount = cleaned.get("amount")
        if amount is not None:
            cleaned["amount"] = Money.from_decimal(amount, self.payment.currency).minor_units
        return cleaned


class RefundTopUp(Act[Payment]):
    """What was paid for an invoice goes back through the invoice, which is not kept here."""

    name, label, permission = "refund", "Refund", Permission.REFUND_TOPUPS
    warning = (
        "The account is debited at once, if it was credited, and the gateway is asked to pay the"
        " payer back. If the gateway refuses, the account has its money again."
    )
    # The debit commits before the gateway is asked.
    is_posting = is_dangerous = True

    def is_offered(self, obj: Payment) -> bool:
        is_possible = obj.status in _REFUNDABLE and obj.refunded_amount < obj.amount
        is_topup = obj.purpose == Payment.Purpose.TOPUP
        return is_topup and is_possible and obj.configuration.deleted_at is None

    def form(self, obj: Payment, data: Any) -> RefundForm:
        return RefundForm(data, payment=obj)

    def run(self, obj: Payment, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        try:
            made = services.refund_topup(
                tenant_id=obj.tenant_id,
                topup_id=obj.pk,
                amount=cleaned.get("amount"),
                reason=cleaned["reason"],
                # As with a reversal: it names who did it, and is nobody else's.
                idempotency_key=f"back-office:{request.user.pk}:{cleaned['key']}",
                now=timezone.now(),
                asked_by=f"user:{request.user.pk}",
            )
        except InsufficientFunds as refusal:
            raise InvalidState("The account has not enough available to be debited.") from refusal
        refund = made.refund
        return Done(_outcome(refund), page_url(Refund, refund.pk), is_replay=made.is_replay)


class AskGateway(Act[Payment]):
    name, label, permission = "ask", "Ask the gateway now", Permission.RESOLVE_DISCREPANCIES
    warning = (
        "Asks the gateway what became of this payment. No money is asked for. If it was paid, the"
        " account is credited."
    )
    # A gateway is called: nothing may be locked meanwhile.
    is_posting = True

    def is_offered(self, obj: Payment) -> bool:
        return obj.configuration.deleted_at is None

    def run(self, obj: Payment, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        before = obj.status
        try:
            after = services.ask_about_payment(obj, now=timezone.now())
        except NoAnswer as fault:
            raise InvalidState(f"There was no answer. The payment is {_named(before)}.") from fault
        if after.status == before:
            return Done(f"The gateway says nothing new. The payment is {_named(before)}.")
        return Done(f"The payment was {_named(before)}, and is {_named(after.status)} now.")


# --- Payments ----------------------------------------------------------------------------------
@admin.register(Payment)
class PaymentAdmin(BackOfficeAdmin[Payment]):
    view_permission = Permission.VIEW_PAYMENTS
    list_display = ("payment", "paid_for", "status_badge", "amount_money", "account", "gateway")
    list_filter = ("status", "purpose", AttentionFilter, CurrencyFilter, TenantFilter)
    list_select_related = ("configuration",)
    search_fields = ("pk",)
    search_help_text = "A whole id, reference, gateway's id, account's id or idempotency key."
    acts = (RefundTopUp(), AskGateway())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return AccountNamingList

    def search(
        self, queryset: QuerySet[Payment], text: str, found_id: UUID | None
    ) -> QuerySet[Payment]:
        # The tenants stand first in these indexes: naming them all is what makes them usable.
        in_index = queryset.filter(tenant_id__in=Tenant.objects.values("pk"))
        if found_id is not None and queryset.filter(pk=found_id).exists():
            return queryset.filter(pk=found_id)
        if found_id is not None and in_index.filter(account_id=found_id).exists():
            return in_index.filter(account_id=found_id)
        by_reference = in_index.filter(reference=text)
        if by_reference.exists():
            return by_reference
        configurations = GatewayConfiguration.objects.values("pk")
        by_gateway_id = queryset.filter(
            configuration_id__in=configurations, gateway_payment_id=text
        )
        return by_gateway_id if by_gateway_id.exists() else in_index.filter(idempotency_key=text)

    @admin.display(description="Payment")
    def payment(self, obj: Payment) -> SafeString:
        return referenced(obj)

    @admin.display(description="For")
    def paid_for(self, obj: Payment) -> str:
        return obj.get_purpose_display()

    @admin.display(description="Status")
    def status_badge(self, obj: Payment) -> SafeString:
        return standing(obj)

    @admin.display(description="Amount")
    def amount_money(self, obj: Payment) -> SafeString:
        return money(obj.amount, obj.currency)

    @admin.display(description="Account")
    def account(self, obj: Payment) -> SafeString:
        return account_link(obj)

    @admin.display(description="Gateway")
    def gateway(self, obj: Payment) -> str:
        return str(obj.configuration)

    def heading(self, obj: Payment) -> str:
        return f"Payment {obj.reference}"

    def status(self, obj: Payment) -> SafeString:
        return status_badge(obj.status)

    def figures(self, obj: Payment) -> list[tuple[str, str]]:
        return [
            ("Amount", money(obj.amount, obj.currency)),
            ("Refunded", money(obj.refunded_amount, obj.currency)),
        ]

    def facts(self, obj: Payment) -> list[tuple[str, Any]]:
        paid_by = _PAID_BY[Payment.Method(obj.method)]
        return [
            ("Next", words.next_of_payment(obj)),
            ("Needs a person", words.attention_sentence(obj)),
            ("For", obj.get_purpose_display()),
            ("Account", account_link(obj)),
            ("Gateway", gateway_link(obj.configuration)),
            ("Gateway's id", obj.gateway_payment_id),
            ("Gateway's word", obj.gateway_status),
            ("Failure", _failure(obj)),
            ("Paid by", f"{paid_by} ending {obj.card_last4}" if obj.card_last4 else paid_by),
            ("Paid", obj.paid_at),
            ("Settled", "yes, says the gateway" if obj.is_settled else ""),
            ("Deposit", transaction_link(obj.transaction_id)),
            ("Taken back by", transaction_link(obj.reversal_transaction_id)),
            ("Looked at", f"{obj.steps} times since it began to wait" if obj.steps else ""),
            ("Next step", obj.next_step_at),
            ("Payer has until", obj.expires_at if obj.status == _S.PENDING else ""),
            ("Id", obj.pk),
            ("Reference", obj.reference),
            ("Attempt", obj.attempt if obj.attempt > 1 else ""),
            ("Description", obj.description),
            ("Idempotency key", obj.idempotency_key),
            ("Tenant", obj.tenant),
            ("Created", obj.created_at),
            ("Last changed", obj.updated_at),
            ("Metadata", metadata_lines(obj.metadata)),
        ]


@panel_on(Payment)
def refunds_panel(request: HttpRequest, payment: Payment) -> str:
    """Return the refunds of the payment, the newest few; nothing where there are none."""
    refunds = queries.refunds_of(tenant_id=payment.tenant_id, payment_id=payment.pk)
    shown = list(refunds[: REFUNDS_SHOWN_MAX + 1])
    if not shown:
        return ""
    rows = [
        {
            "refund": link_to(Refund, refund.pk, refund.reference),
            "status": status_badge(refund.status),
            "amount": money(refund.amount, refund.currency),
            "reason": refund.reason,
            "created": refund.created_at,
        }
        for refund in shown[:REFUNDS_SHOWN_MAX]
    ]
    context = {"rows": rows, "is_cut": len(shown) > REFUNDS_SHOWN_MAX}
    return render_to_string("admin/refunds_panel.html", context)


# --- Refunds -----------------------------------------------------------------------------------
@admin.register(Refund)
class RefundAdmin(BackOfficeAdmin[Refund]):
    view_permission = Permission.VIEW_PAYMENTS
    list_display = ("refund", "status_badge", "amount_money", "of_payment", "gateway")
    list_filter = ("status", AttentionFilter, CurrencyFilter, TenantFilter)
    list_select_related = ("payment__configuration",)
    search_fields = ("pk",)
    search_help_text = "A whole id or reference, of the refund or its payment."

    def search(
        self, queryset: QuerySet[Refund], text: str, found_id: UUID | None
    ) -> QuerySet[Refund]:
        if found_id is not None:
            by_id = queryset.filter(pk=found_id)
            return by_id if by_id.exists() else queryset.filter(payment_id=found_id)
        by_reference = queryset.filter(reference=text)
        if by_reference.exists():
            return by_reference
        # As above: the tenants stand first in the index.
        of_tenants = Payment.objects.filter(tenant_id__in=Tenant.objects.values("pk"))
        return queryset.filter(payment__in=of_tenants.filter(reference=text))

    @admin.display(description="Refund")
    def refund(self, obj: Refund) -> SafeString:
        return referenced(obj)

    @admin.display(description="Status")
    def status_badge(self, obj: Refund) -> SafeString:
        return standing(obj)

    @admin.display(description="Amount")
    def amount_money(self, obj: Refund) -> SafeString:
        return money(obj.amount, obj.currency)

    @admin.display(description="Payment")
    def of_payment(self, obj: Refund) -> SafeString:
        # Its reference is too long to stand beside the refund's.
        return link_to(Payment, obj.payment_id, f"of {minute(obj.payment.created_at)}")

    @admin.display(description="Gateway")
    def gateway(self, obj: Refund) -> str:
        return str(obj.payment.configuration)

    def heading(self, obj: Refund) -> str:
        return f"Refund {obj.reference}"

    def status(self, obj: Refund) -> SafeString:
        return status_badge(obj.status)

    def figures(self, obj: Refund) -> list[tuple[str, str]]:
        return [
            ("Refund", money(obj.amount, obj.currency)),
            ("Of a payment of", money(obj.payment.amount, obj.currency)),
        ]

    def facts(self, obj: Refund) -> list[tuple[str, Any]]:
        return [
            ("Next", words.next_of_refund(obj)),
            ("Needs a person", words.attention_sentence(obj)),
            ("Payment", link_to(Payment, obj.payment_id, obj.payment.reference)),
            ("Account", account_link(obj.payment)),
            ("Gateway", gateway_link(obj.payment.configuration)),
            ("Gateway's id", obj.gateway_refund_id),
            ("Gateway's word", obj.gateway_status),
            ("Failure", words.failure_words(obj.failure_code)),
            ("Debit", transaction_link(obj.transaction_id)),
            ("Given back by", transaction_link(obj.return_transaction_id)),
            ("Reason", obj.reason),
            ("Next step", obj.next_step_at),
            ("Id", obj.pk),
            ("Reference", obj.reference),
            ("Idempotency key", obj.idempotency_key),
            ("Tenant", obj.tenant),
            ("Created", obj.created_at),
            ("Last changed", obj.updated_at),
        ]


def _left_of(payment: Payment) -> int:
    """Return how much may still be paid back, in minor units."""
    refunds = queries.refunds_of(tenant_id=payment.tenant_id, payment_id=payment.pk)
    under_way = refunds.exclude(status=Refund.Status.FAILED).values_list("amount", flat=True)
    return payment.amount - sum(under_way)


def _outcome(refund: Refund) -> str:
    amount = format_money(refund.amount, refund.currency)
    if refund.status == Refund.Status.SUCCEEDED:
        return f"{amount} went back to the payer."
    if refund.status == Refund.Status.FAILED:
        why = words.failure_words(refund.failure_code)
        return f"The gateway refused ({why}). {amount} is where it was before."
    if refund.status == Refund.Status.UNKNOWN:
        return f"The gateway's answer was lost. It is asked again; {amount} goes back at most once."
    return f"{amount} is on its way back to the payer."


def _named(status: str) -> str:
    return words.in_words(status).lower()


def _failure(payment: Payment) -> SafeString | str:
    if not payment.failure_code:
        return ""
    code = words.failure_words(payment.failure_code)
    return format_html("{}. {}", code, payment.failure_detail)
