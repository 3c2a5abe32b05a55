"""
What a person at the back office reads: why something waits, what happens next, what an act will do.
"""

import datetime as dt
import re

from django.conf import settings
from django.utils.text import capfirst
from django.utils.timesince import timesince

from core.admin import minute
from payments.models import Discrepancy, GatewayConfiguration, Payment, Payout, Refund

_K = Discrepancy.Kind
_ISO_REASON = re.compile("[a-z]{2}[0-9]{2}")
# Not an id, such as pay_9f3.
_CODE = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")

# What the difference is. The same words stand on the page of what it is about.
MEANINGS: dict[str, str] = {
    _K.NOT_DEPOSITED: (
        "The payer has paid, and the ledger refused to credit the account. The money is with the"
        " gateway, and in nobody's account."
    ),
    _K.AMOUNT_DIFFERS: (
        "The gateway speaks of another amount, currency or reference than we asked for. Nothing it"
        " said about it was taken."
    ),
    _K.STATUS_DIFFERS: (
        "The gateway and our books tell different stories of it. The ledger was left as it is."
    ),
    _K.REFUND_DIFFERS: (
        "The gateway and our books tell different stories of what went back to the payer: somebody"
        " may have refunded at the gateway itself, past our books."
    ),
    _K.UNKNOWN_OUTCOME: (
        "The gateway was asked again and again, and gave no answer that says what became of it."
    ),
    _K.NOT_AT_GATEWAY: (
        "We have a record of it, and the gateway says that it has none of this reference."
    ),
    _K.GATEWAY_REFUSES: (
        "The gateway refuses us. That says nothing of what it got before: it may have been done. If"
        " it is our credentials that it refuses, everything else through it is refused too."
    ),
    _K.NOT_OURS: (
        "The gateway took money under this tenant's credentials for something that is not in our"
        " books. Another system may use the same credentials."
    ),
    _K.PAID_TWICE: (
        "The gateway has several payments of one reference: the payer has paid more than once."
    ),
    _K.REVERSAL_OWED: (
        "The payer's bank took the money back, and the account had spent it. Our suspense account"
        " has paid instead, and the customer owes it."
    ),
    _K.RETURN_REFUSED: (
        "Money came back, and the account it belongs to takes none. It lies in our suspense"
        " account until somebody moves it."
    ),
}

_NO_FILE = (
    "No file can be made of the payouts that wait: look at what is set up of your own account. They"
    " go into a file once that is right."
)

# Of services.RESOLUTIONS.
_ASKED, _DEPOSITED, _REFUNDED, _ACCEPTED = "asked_again", "deposited", "refunded", "accepted"
_GIVEN_BACK = "given_back"
_ASKS_AND_SENDS = (
    "asks what became of it. If the gateway never got it, it gets it now under the same reference:"
    " it is paid at most once. Refused if the gateway says nothing new."
)
_EFFECTS = {
    (_ASKED, "payment"): (
        "asks what became of it; no money is asked for. If it was paid, the account is credited."
        " Refused if the gateway says nothing new."
    ),
    (_ASKED, "payout"): _ASKS_AND_SENDS,
    (_ASKED, "refund"): _ASKS_AND_SENDS,
    (_GIVEN_BACK, "payment"): (
        "asks the gateway once more; if it does not know of the payment, or has said nothing for a"
        " day, the payment is over. Should it have been paid all the same, that is taken when the"
        " gateway says so."
    ),
    (_GIVEN_BACK, "payout"): (
        "asks the gateway once more; if it does not know of the payout, the source has its money"
        " back. Refused if the gateway knows of it, or does not answer."
    ),
    (_GIVEN_BACK, "refund"): (
        "asks the gateway once more; if it does not know of the refund, the account has its money"
        " back. Refused if the gateway knows of it, or does not answer."
    ),
    (_DEPOSITED, "payment"): "credits the account now. Refused if the ledger still refuses.",
    (_REFUNDED, "payment"): (
        "has the gateway pay the whole amount back. The account gets nothing, and can no longer be"
        " credited."
    ),
}
_EFFECT_OF_ACCEPTING = (
    "moves no money and asks nobody. It takes the difference off this list, with your note: for"
    " what was put right elsewhere, or is to stay."
)
# Beside accepting, which always goes.
_HELPS: dict[str, tuple[str, ...]] = {
    _K.NOT_DEPOSITED: (_DEPOSITED, _REFUNDED),
    _K.AMOUNT_DIFFERS: (_ASKED,),
    _K.STATUS_DIFFERS: (_ASKED,),
    _K.UNKNOWN_OUTCOME: (_ASKED, _GIVEN_BACK),
    _K.NOT_AT_GATEWAY: (_ASKED, _GIVEN_BACK),
    _K.GATEWAY_REFUSES: (_ASKED, _GIVEN_BACK),
    _K.PAID_TWICE: (_ASKED,),
}


def meaning_of(found: Discrepancy) -> str:
    """Return what the difference is, in a sentence or two."""
    is_by_file = found.configuration.gateway == GatewayConfiguration.Gateway.BANK_FILE
    if is_by_file and found.kind == _K.GATEWAY_REFUSES:
        return _NO_FILE
    return MEANINGS[found.kind]


def effects_of(found: Discrepancy) -> dict[str, str]:
    """Return the resolutions that make sense for the difference, each with what it will do."""
    is_about = found.object_type if found.object_id is not None else ""
    line = found.configuration
    # A bank answers by file, and of a gateway that was deleted the credentials are forgotten.
    is_called = line.gateway != GatewayConfiguration.Gateway.BANK_FILE and line.deleted_at is None
    effects = {
        resolution: _EFFECTS[resolution, is_about]
        for resolution in _HELPS.get(found.kind, ())
        if (resolution, is_about) in _EFFECTS and (is_called or resolution == _DEPOSITED)
    }
    return {**effects, _ACCEPTED: _EFFECT_OF_ACCEPTING}


def in_words(code: str) -> str:
    """Return a code such as `deposit_pending` as a person would write it."""
    return capfirst(code.replace("_", " "))


def age(since: dt.datetime, now: dt.datetime) -> str:
    """Return for how long, in its largest unit."""
    return timesince(since, now, depth=1)


def failure_words(code: str) -> str:
    """Return why it failed as a person would write it; reason codes of ISO 20022 as they are."""
    return code.upper() if _ISO_REASON.fullmatch(code) else in_words(code)


def said(text: str) -> str:
    """Return what one side of a difference says, the codes in it as a person would write them."""
    return _CODE.sub(lambda code: code[0].replace("_", " "), text) or "nothing"


def attention_words(reason: str) -> str:
    """Return why a person should look, in a few words; a list has no room for more."""
    return capfirst(_K(reason).label) if reason in _K.values else in_words(reason)


def attention_sentence(row: Payment | Refund | Payout) -> str:
    """Return why a person should look at it; empty: nobody need."""
    if not row.attention:
        return ""
    return MEANINGS.get(row.attention, in_words(row.attention))


def next_of_payment(payment: Payment) -> str:
    """Return what the payment waits for and what happens next; empty: nothing."""
    again = _again(payment, "The gateway is asked again")
    status = Payment.Status(payment.status)
    if status is Payment.Status.CREATED:
        return f"It is being sent to the gateway, or whoever sent it has died. {again}"
    if status is Payment.Status.PENDING:
        return f"The payer has yet to pay, or to confirm. {again} A notification makes it sooner."
    if status is Payment.Status.UNKNOWN:
        return (
            "The gateway's answer was lost, so nobody knows whether the payer has paid. No money is"
            f" asked for a second time. {again}"
        )
    if status in (Payment.Status.PAID, Payment.Status.DEPOSIT_PENDING):
        return _next_of_paid(payment)
    if status is Payment.Status.REFUNDING:
        return "It was never credited, and is on its way back to the payer: see the refund."
    return ""


def next_of_refund(refund: Refund) -> str:
    """Return what the refund waits for and what happens next; empty: nothing."""
    again = _again(refund, "The gateway is asked again")
    status = Refund.Status(refund.status)
    if status is Refund.Status.CREATED:
        return f"The gateway has yet to get it. {again} What it never got, it gets then."
    if status is Refund.Status.PENDING:
        return f"The gateway has it, and has yet to pay. {again}"
    if status is Refund.Status.UNKNOWN:
        return (
            f"The gateway's answer was lost. {again} Asked for twice, it is the same refund: it is"
            " paid at most once."
        )
    return ""


def next_of_payout(payout: Payout) -> str:
    """Return what the payout waits for and what happens next; empty: nothing."""
    status = Payout.Status(payout.status)
    is_by_file = payout.configuration.gateway == GatewayConfiguration.Gateway.BANK_FILE
    if is_by_file and status is Payout.Status.PENDING:
        return "It goes into the next payout file."
    if is_by_file and status is Payout.Status.SUBMITTED:
        return "It is in a payout file. The bank's report says what became of it."
    again = _again(payout, "The gateway is asked again")
    if status is Payout.Status.PENDING:
        return f"It is about to be sent to the gateway. {_again(payout, 'That is tried')}"
    if status is Payout.Status.SUBMITTED:
        return f"The gateway has it. {again} A notification makes it sooner."
    if status is Payout.Status.UNKNOWN:
        return (
            f"The gateway's answer was lost. {again} Sent twice, it is the same payout: it is paid"
            " at most once."
        )
    return ""


def _next_of_paid(payment: Payment) -> str:
    again = _again(payment, "The deposit is tried again")
    if payment.status == Payment.Status.PAID:
        return f"It is paid, and about to be credited. {again}"
    days = settings.TOPUP_REFUND_AFTER_DAYS
    if not days or payment.paid_at is None:
        back = "It is not paid back by itself."
    else:
        back = f"If that fails until {minute(payment.paid_at + dt.timedelta(days=days))}, it is"
        back += " paid back."
    refusal = in_words(payment.deposit_refusal).lower()
    return f"It is paid, and the ledger refuses the deposit: {refusal}. {again} {back}"


def _again(row: Payment | Refund | Payout, what: str) -> str:
    if row.next_step_at is None:
        return "Nothing more happens by itself."
    return f"{what} at {minute(row.next_step_at)} UTC."
