"""Gateways, what was paid in and out through them, and where the two books differ."""

from payments.models.gateways import GatewayConfiguration
from payments.models.payments import Payment, Refund
from payments.models.payouts import Payout, PayoutBatch, PayoutReportFile
from payments.models.reconciliation import Discrepancy
from payments.models.recurring import (
    ENDED_UNNOTED,
    CalendarDay,
    RecurringPayment,
    RecurringRun,
)

__all__ = [
    "ENDED_UNNOTED",
    "CalendarDay",
    "Discrepancy",
    "GatewayConfiguration",
    "Payment",
    "Payout",
    "PayoutBatch",
    "PayoutReportFile",
    "RecurringPayment",
    "RecurringRun",
    "Refund",
]
