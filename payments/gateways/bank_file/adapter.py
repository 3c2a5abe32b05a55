"""
The tenant's own bank, by file: payouts are gathered into pain.001 files, and the bank's answers
come back as files too. Nothing is called over the network; see payments.services.payout_files.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.iso20022.credit_transfers import (
    BankAccount,
    CreditTransfer,
    CreditTransferFile,
    Party,
    PaymentBlock,
    render,
)
from core.money import Money
from payments.gateways.port import Capabilities

CAPABILITIES = Capabilities(
    takes_payments=False,
    credentials=("debtor_name", "debtor_account", "debtor_country"),
    optional_credentials=("debtor_bic", "debtor_town"),
    hinted_credential="debtor_account",
)


@dataclass(frozen=True, slots=True)
class OwnAccount:
    """The account at the bank that payouts are made from, as files name it."""

    name: str
    # An IBAN, or the bank's own number.
    account: str
    country: str
    bic: str
    town: str


def sample_file(own: OwnAccount) -> bytes:
    """
    Return a file with one payout to nobody: what it cannot say, no file could.

    :raises InvalidMessage: a name, account or BIC that no bank reads
    """
    some_day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    nobody = CreditTransfer("SAMPLE", Money(1, "EUR"), Party("Nobody", None), bank_account(own))
    return payout_file(own, "SAMPLE", [nobody], some_day)


def payout_file(
    own: OwnAccount,
    message_id: str,
    transfers: Sequence[CreditTransfer],
    now: dt.datetime,
) -> bytes:
    """
    Return the pain.001 with these transfers, all of one currency.

    :raises InvalidMessage: what no bank reads
    """
    debtor = Party(own.name, own.country, own.town or None)
    block = PaymentBlock(
        id=block_id(message_id),
        debtor=debtor,
        account=bank_account(own),
        execution_date=now.date(),
        transfers=tuple(transfers),
    )
    return render(CreditTransferFile(message_id, now, debtor, (block,)))


def block_id(message_id: str) -> str:
    """Return the id of the one payment block in the file."""
    return f"{message_id}-1"


def bank_account(own: OwnAccount) -> BankAccount:
    has_iban = own.account[:2].isalpha()
    return BankAccount(
        iban=own.account if has_iban else None,
        number=None if has_iban else own.account,
        bic=own.bic or None,
    )


def own_account(credentials: Mapping[str, str]) -> OwnAccount:
    return OwnAccount(
        name=credentials["debtor_name"],
        account=credentials["debtor_account"],
        country=credentials["debtor_country"],
        bic=credentials.get("debtor_bic", ""),
        town=credentials.get("debtor_town", ""),
    )
