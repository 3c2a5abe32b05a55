"""What staff do with a savings plan: each act is a form, and one call of a service."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django import forms
from django.http import HttpRequest
from django.utils import timezone

from core.admin import Act, Done, page_url
from core.errors import InvalidState
from core.forms import WithReason, asked_by, idempotency_key
from core.money import format_money
from core.permissions import Permission
from ledger.errors import InsufficientFunds
from ledger.queries import transaction_by_key
from savings import services
from savings.admin.forms import ChangeForm, CloseForm, MoveForm, RatesForm, RenewForm
from savings.models import EarlyRelease, SavingsPlan
from savings.queries import state_of

_S = SavingsPlan.Status
_K = SavingsPlan.Kind


@contextmanager
def in_our_words(whose: str) -> Iterator[None]:
    """Say whose account has not enough; its id would tell a person nothing."""
    try:
        yield
    except InsufficientFunds as refusal:
        raise InvalidState(f"{whose} has not enough available.") from refusal


class _PlanAct(Act[SavingsPlan]):
    permission = Permission.MANAGE_SAVINGS_PLANS


class Change(_PlanAct):
    name, label = "edit", "Change"
    warning = "What was put aside stays as it is: the change is for what comes."

    def is_offered(self, obj: SavingsPlan) -> bool:
        return obj.status != _S.CLOSED

    def form(self, obj: SavingsPlan, data: Any) -> forms.Form:
        return ChangeForm(data, plan=obj)

    def run(self, obj: SavingsPlan, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.change_plan(
            tenant_id=obj.tenant_id,
            plan_id=obj.pk,
            changes=cleaned["changes"],
            as_seen=cleaned["seen"],
            now=timezone.now(),
        )
        return Done("The plan is changed.")


class SetRates(Change):
    name, label, permission = "rates", "Set rates", Permission.SET_SAVINGS_RATES
    warning = "Another rate holds from today on. What earlier days have earned stays."

    def form(self, obj: SavingsPlan, data: Any) -> forms.Form:
        return RatesForm(data, plan=obj)


class _Move(_PlanAct):
    """Money in or out by hand, once by the form's key."""

    is_posting = True
    is_out: ClassVar[bool]
    # Whose money it is that may not suffice, and what was done.
    whose: ClassVar[str]
    said: ClassVar[str]

    def form(self, obj: SavingsPlan, data: Any) -> MoveForm:
        return MoveForm(data, plan=obj, is_out=self.is_out)

    def run(self, obj: SavingsPlan, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        key = idempotency_key(request, cleaned)
        is_replay = transaction_by_key(tenant_id=obj.tenant_id, idempotency_key=key) is not None
        with in_our_words(self.whose):
            self.move(
                obj,
                cleaned,
                amount=cleaned["amount"],
                idempotency_key=key,
                now=timezone.now(),
                asked_by=asked_by(request),
            )
        amount = format_money(cleaned["amount"], obj.currency)
        return Done(f"{amount} is {self.said}.", is_replay=is_replay)

    @abstractmethod
    def move(self, obj: SavingsPlan, cleaned: dict[str, Any], **given: Any) -> None:
        """Call the service."""


class Deposit(_Move):
    name, label = "deposit", "Deposit"
    warning = "Moves money from the plan's source into the plan, at once."
    is_out, whose, said = False, "The source account", "in the plan"

    def is_offered(self, obj: SavingsPlan) -> bool:
        return obj.status in (_S.ACTIVE, _S.STOPPED)

    def move(self, obj: SavingsPlan, cleaned: dict[str, Any], **given: Any) -> None:
        services.deposit(tenant_id=obj.tenant_id, plan_id=obj.pk, **given)


class Withdraw(_Move):
    name, label = "withdraw", "Withdraw"
    warning = "Takes money out of the plan, at once; what is to be put aside is not changed."
    is_out, whose, said = True, "The plan", "withdrawn"

    def is_offered(self, obj: SavingsPlan) -> bool:
        return obj.status != _S.CLOSED and not obj.is_locked and obj.plan_account.balance > 0

    def move(self, obj: SavingsPlan, cleaned: dict[str, Any], **given: Any) -> None:
        services.withdraw(
            tenant_id=obj.tenant_id,
            plan_id=obj.pk,
            destination_account_id=cleaned["destination_account_id"],
            **given,
        )


class _WithReason(_PlanAct):
    def form(self, obj: SavingsPlan, data: Any) -> WithReason:
        return WithReason(data)


class Pause(_WithReason):
    name, label = "pause", "Pause"
    warning = "Nothing is put aside until it is resumed."

    def is_offered(self, obj: SavingsPlan) -> bool:
        return obj.recurring_payment is not None and state_of(obj) == "active"

    def run(self, obj: SavingsPlan, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.pause_plan(
            tenant_id=obj.tenant_id,
            plan_id=obj.pk,
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The plan is paused.")


class Resume(_WithReason):
    name, label = "resume", "Resume"
    warning = "It goes on with the next date from now. What the pause passed stays undone."

    def is_offered(self, obj: SavingsPlan) -> bool:
        return state_of(obj) == "paused"

    def run(self, obj: SavingsPlan, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.resume_plan(
            tenant_id=obj.tenant_id,
            plan_id=obj.pk,
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The plan is resumed.")


class Renew(_PlanAct):
    name, label = "renew", "Renew"
    warning = "Locks what is in the plan until another date. That cannot be taken back."

    def is_offered(self, obj: SavingsPlan) -> bool:
        return obj.kind == _K.DATE_LOCKED and obj.status != _S.CLOSED

    def form(self, obj: SavingsPlan, data: Any) -> RenewForm:
        return RenewForm(data)

    def run(self, obj: SavingsPlan, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.renew_plan(
            tenant_id=obj.tenant_id,
            plan_id=obj.pk,
            unlock_date=cleaned["unlock_date"],
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done(f"The plan is locked until {cleaned['unlock_date']}.")


class AskRelease(_WithReason):
    name, label = "ask-release", "Ask for early release"
    permission = Permission.REQUEST_EARLY_RELEASE
    warning = (
        "For a hardship. Nothing moves yet: somebody else than you decides. If they approve, all of"
        " the plan is paid out at once, and it is closed."
    )

    def is_offered(self, obj: SavingsPlan) -> bool:
        return obj.is_locked

    def run(self, obj: SavingsPlan, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        release = services.request_release(
            tenant_id=obj.tenant_id,
            plan_id=obj.pk,
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        said = "Sent for approval. Nothing has moved yet: somebody else decides."
        return Done(said, page_url(EarlyRelease, release.pk))


class Close(_PlanAct):
    name, label = "close", "Close"
    warning = (
        "Its interest is posted, all of it is paid out, and nothing is put aside any more. That is"
        " final: for another, make a new plan."
    )
    is_posting = is_dangerous = True

    def is_offered(self, obj: SavingsPlan) -> bool:
        return obj.status != _S.CLOSED and not obj.is_locked

    def form(self, obj: SavingsPlan, data: Any) -> CloseForm:
        return CloseForm(data)

    def run(self, obj: SavingsPlan, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.close_plan(
            tenant_id=obj.tenant_id,
            plan_id=obj.pk,
            destination_account_id=cleaned["destination_account_id"],
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The plan is paid out and closed.")


ACTS = (
    Deposit(),
    Withdraw(),
    Change(),
    SetRates(),
    Pause(),
    Resume(),
    Renew(),
    AskRelease(),
    Close(),
)
