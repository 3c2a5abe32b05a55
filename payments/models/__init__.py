"""Gateways, what was paid in and out through them, and where the two books differ."""

from payments.models.gateways import GatewayConfiguration
from payments.models.payments import Payment, Refund
from payments.models.payouts import Payout, PayoutBatch, PayoutReportFile
from payments.models.reconciliation import Discrepancy

__all__ = [
    "Discrepancy",
    "GatewayConfiguration",
    "Payment",
    "Payout",
    "PayoutBatch",
    "PayoutReportFile",
    "Refund",
]
