"""
Every change of money's way in, out and across: transfers and cash, top-ups, payments of invoices,
refunds, payouts, the gateways they go through, and what is done where the books differ.
"""

from payments.services.asking import gateways_for, refuse_real_cards
from payments.services.calling_off import call_off, call_off_after_commit
from payments.services.cash import (
    CashMovement,
    Transfer,
    make_deposit,
    make_transfer,
    make_transfers,
    make_withdrawal,
)
from payments.services.collecting import (
    REFERENCE_MAX,
    Collection,
    begin_collection,
    send_collection,
)
from payments.services.gateways import (
    NewGateway,
    add_gateway,
    change_gateway,
    delete_gateway,
    encrypt_all_anew,
    fitting_gateways,
)
from payments.services.listening import PaymentListener, listen
from payments.services.notices import NotYet, UnknownReference, take_notice
from payments.services.outcomes import STEPS_TASK
from payments.services.payout_files import (
    TakenReport,
    batch_of,
    export_payout_files,
    gather_payouts,
    note_export,
    take_report,
)
from payments.services.payouts import Beneficiary, MadePayout, PayoutRequest, make_payout
from payments.services.reconciliation import (
    RESOLUTIONS,
    Reconciled,
    reconcile,
    resolve_discrepancy,
)
from payments.services.recurring.clock import follow_test_clock
from payments.services.recurring.dates import Occurrence, sentence_of
from payments.services.recurring.days import add_calendar_day, remove_calendar_day
from payments.services.recurring.due import RUNS_TASK
from payments.services.recurring.plans import (
    PREVIEW_MAX,
    RETRIES_MAX,
    NewRecurringPayment,
    Salary,
    Terms,
    cancel_recurring_payment,
    change_recurring_payment,
    create_recurring_payment,
    note_end,
    pause_recurring_payment,
    preview,
    resume_recurring_payment,
)
from payments.services.recurring.running import run_due_payments
from payments.services.recurring.salary import look_for_salaries
from payments.services.refunds import (
    MadeRefund,
    begin_refund,
    refund_payment,
    refund_topup,
    send_refund,
)
from payments.services.steps import ask_about_payment, take_due_steps
from payments.services.topups import MadePayment, TopUpOrder, top_up
from payments.services.waiting import NoAnswer

__all__ = [
    "PREVIEW_MAX",
    "REFERENCE_MAX",
    "RESOLUTIONS",
    "RETRIES_MAX",
    "RUNS_TASK",
    "STEPS_TASK",
    "Beneficiary",
    "CashMovement",
    "Collection",
    "MadePayment",
    "MadePayout",
    "MadeRefund",
    "NewGateway",
    "NewRecurringPayment",
    "NoAnswer",
    "NotYet",
    "Occurrence",
    "PaymentListener",
    "PayoutRequest",
    "Reconciled",
    "Salary",
    "TakenReport",
    "Terms",
    "TopUpOrder",
    "Transfer",
    "UnknownReference",
    "add_calendar_day",
    "add_gateway",
    "ask_about_payment",
    "batch_of",
    "begin_collection",
    "begin_refund",
    "call_off",
    "call_off_after_commit",
    "cancel_recurring_payment",
    "change_gateway",
    "change_recurring_payment",
    "create_recurring_payment",
    "delete_gateway",
    "encrypt_all_anew",
    "export_payout_files",
    "fitting_gateways",
    "follow_test_clock",
    "gateways_for",
    "gather_payouts",
    "listen",
    "look_for_salaries",
    "make_deposit",
    "make_payout",
    "make_transfer",
    "make_transfers",
    "make_withdrawal",
    "note_end",
    "note_export",
    "pause_recurring_payment",
    "preview",
    "reconcile",
    "refund_payment",
    "refund_topup",
    "refuse_real_cards",
    "remove_calendar_day",
    "resolve_discrepancy",
    "resume_recurring_payment",
    "run_due_payments",
    "send_collection",
    "send_refund",
    "sentence_of",
    "take_due_steps",
    "take_notice",
    "take_report",
    "top_up",
]
