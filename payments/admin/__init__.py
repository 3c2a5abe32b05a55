"""
Gateways and what goes through them in the back office: looked at here, changed by services only.

A module for each screen; `words` has the sentences, `columns` what lists have in common.
"""

from payments.admin import discrepancies, gateways, payments, payouts, recurring

__all__ = ["discrepancies", "gateways", "payments", "payouts", "recurring"]
