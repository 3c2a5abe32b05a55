"""
The tenant's own bank, by file: payouts are gathered into pain.001 files, and the bank's answers
come back as files too. Nothing is called over the network; see payments.services.payout_files.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from payments.gateways.port import Capabilities

CAPABILITIES = Capabilities(
    takes_payments=False,
    credentials=("debtor_name", "debtor_account", "debtor_country"),
    optional_credentials=("debtor_bic", "debtor_town"),
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


def own_account(credentials: Mapping[str, str]) -> OwnAccount:
    return OwnAccount(
        name=credentials["debtor_name"],
        account=credentials["debtor_account"],
        country=credentials["debtor_country"],
        bic=credentials.get("debtor_bic", ""),
        town=credentials.get("debtor_town", ""),
    )
