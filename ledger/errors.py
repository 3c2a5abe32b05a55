"""Why the ledger refuses. The engine's codes and the API's are the same words."""

from typing import ClassVar

from core.errors import DomainError, IdempotencyConflict, NotFound
from core.idempotency import REUSED_KEY


class InsufficientFunds(DomainError):
    code = "insufficient_funds"
    title = "Insufficient funds"
    http_status = 422
    is_transient = True


class AccountFrozen(DomainError):
    code = "account_frozen"
    title = "The account is frozen"
    http_status = 422
    is_transient = True


class AccountClosed(DomainError):
    code = "account_closed"
    title = "The account is closed"
    http_status = 422


class AccountLocked(DomainError):
    code = "account_locked"
    title = "The account takes no debits for a time"
    http_status = 422
    is_transient = True


class CurrencyMismatch(DomainError):
    code = "currency_mismatch"
    title = "The currency is not the account's"
    http_status = 422


class BalanceOutOfRange(DomainError):
    code = "balance_out_of_range"
    title = "The balance would be larger than the ledger holds"
    http_status = 422


class Unbalanced(DomainError):
    code = "unbalanced"
    title = "The entries do not sum to zero"
    http_status = 422


class AlreadyReversed(DomainError):
    code = "already_reversed"
    title = "The transaction was reversed before"
    http_status = 409


class HoldNotActive(DomainError):
    code = "invalid_state"
    title = "The hold is no longer active"
    http_status = 409


class CaptureExceedsHold(DomainError):
    code = "capture_exceeds_hold"
    title = "More than the hold reserves"
    http_status = 422


class AccountNotFound(NotFound):
    code: ClassVar[str] = "not_found"


# The engine's refusals, in order of precedence, with the sentence a caller reads.
BY_REFUSAL: dict[str, tuple[type[DomainError], str]] = {
    "idempotency_conflict": (IdempotencyConflict, REUSED_KEY),
    "account_not_found": (AccountNotFound, "No such account: {account}."),
    "account_closed": (AccountClosed, "Account {account} is closed."),
    "account_frozen": (AccountFrozen, "Account {account} is frozen."),
    "currency_mismatch": (CurrencyMismatch, "Account {account} has another currency."),
    "account_locked": (AccountLocked, "Account {account} takes no debits for now."),
    "insufficient_funds": (InsufficientFunds, "Account {account} has {available} available."),
    "balance_out_of_range": (BalanceOutOfRange, "Account {account} cannot hold such a balance."),
}
