"""Shapes of reports on the wire. Units and limits, no rules."""

from typing import Any

from rest_framework import serializers

from invoices.services.reports import GATEWAYS, GroupBy


def _figure(source: str, help_text: str = "Minor units.") -> serializers.IntegerField:
    return serializers.IntegerField(source=f"figures.{source}", help_text=help_text)


class InvoicedFigures(serializers.Serializer[Any]):
    count = _figure("invoices", "Finalised, less voided and expired.")
    revenue = _figure("invoiced_net")
    tax = _figure("invoiced_tax")
    service_fees = _figure("invoiced_fees")
    total = _figure("invoiced")


class FigureFields(serializers.Serializer[Any]):
    """Of services.reports.ReportRow."""

    revenue = _figure("received_net", "Of what was collected. Minor units.")
    tax = _figure("received_tax", "Of what was collected. Minor units.")
    service_fees = _figure("received_fees", "Of what was collected. Minor units.")
    collected = _figure(
        "collected", "Received for invoices, less what was charged back. Minor units."
    )
    overpaid = _figure("overpaid", "Received beyond what was due, and kept as credit. Minor units.")
    refunds = _figure("refunded", "Gone back with credit notes, or on its way. Minor units.")
    refunded_revenue = _figure("refunded_net")
    refunded_tax = _figure("refunded_tax")
    refunded_service_fees = _figure("refunded_fees")
    net = _figure("kept", "`collected` less `refunds`. Minor units.")
    invoiced = InvoicedFigures(source="*")
    credited = _figure("credited", "By credit notes. Minor units.")
    payments = _figure("payments", "How many.")
    refund_count = _figure("refunds", "How many.")


class FinancialRow(FigureFields):
    currency = serializers.CharField()
    gateway = serializers.ChoiceField(
        choices=list(GATEWAYS),
        allow_null=True,
        help_text="Null: not grouped by it; or what has none, invoices and credit notes.",
    )
    period = serializers.DateField(
        allow_null=True, help_text="Its first day; null: not grouped by time."
    )


class FinancialTotal(FigureFields):
    currency = serializers.CharField()


class OutstandingAmount(serializers.Serializer[Any]):
    currency = serializers.CharField()
    amount = serializers.IntegerField(
        help_text="Owed at the end of the last day, of all gateways. Minor units."
    )


class FinancialReportResponse(serializers.Serializer[Any]):
    time_zone = serializers.CharField(help_text="Whose days they are.")
    currency = serializers.CharField(allow_null=True, help_text="The one asked for.")
    gateway = serializers.ChoiceField(
        choices=list(GATEWAYS), allow_null=True, help_text="The one asked for."
    )
    group_by = serializers.ListField(child=serializers.ChoiceField(choices=list(GroupBy)))
    rows = FinancialRow(many=True)
    totals = FinancialTotal(many=True)
    outstanding = OutstandingAmount(many=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # `from` is a word of Python's.
        return {
            "from": serializers.DateField(source="first_day"),
            "to": serializers.DateField(source="last_day", help_text="Including that day."),
            **super().get_fields(),
        }


class AgedAmounts(serializers.Serializer[Any]):
    not_due = serializers.IntegerField(help_text="Minor units.")
    days_1_to_30 = serializers.IntegerField(help_text="Overdue so long. Minor units.")
    days_31_to_60 = serializers.IntegerField()
    days_61_to_90 = serializers.IntegerField()
    days_over_90 = serializers.IntegerField()
    total = serializers.IntegerField()


class Debtor(serializers.Serializer[Any]):
    name = serializers.CharField()
    key = serializers.CharField(
        help_text="By what they are known on invoices; empty: by their name alone."
    )
    invoices = serializers.IntegerField(help_text="How many of theirs are open.")
    owed = AgedAmounts(source="aged")


class OtherDebtors(serializers.Serializer[Any]):
    customers = serializers.IntegerField(source="other_debtors", help_text="How many.")
    owed = AgedAmounts(source="others")


class CurrencyReceivables(serializers.Serializer[Any]):
    currency = serializers.CharField()
    invoices = serializers.IntegerField(help_text="How many are open.")
    owed = AgedAmounts(source="total")
    customers = Debtor(source="debtors", many=True, help_text="Who owes most, at most 100.")
    others = OtherDebtors(source="*")


class AgedReceivablesResponse(serializers.Serializer[Any]):
    as_of = serializers.DateField(help_text="Today, by the tenant's time zone.")
    time_zone = serializers.CharField()
    currencies = CurrencyReceivables(many=True)
