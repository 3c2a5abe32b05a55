"""Why an account takes no debits: whoever has it locked may say it in words of their own."""

from collections.abc import Callable
from uuid import UUID

from ledger.errors import AccountLocked

# Takes a tenant and an account of it; None: it is not theirs.
Explainer = Callable[[UUID, UUID], AccountLocked | None]

_explainers: list[Explainer] = []


def explain_locks(explainer: Explainer) -> None:
    """Have an app say why the accounts that it locks are locked; called from its `ready`."""
    _explainers.append(explainer)


def lock_refusal(tenant_id: UUID, account_id: UUID) -> AccountLocked:
    """Return why the account, which is locked for debits, is."""
    for explainer in _explainers:
        refusal = explainer(tenant_id, account_id)
        if refusal is not None:
            return refusal
    return AccountLocked(f"Account {account_id} takes no debits for now.")
