"""
Processes that die at a chosen moment: at the n-th statement, commit or exchange with a gateway.

Run as a program it forks a child for each line of JSON on its standard input, has it do one thing
of Florin's, kills it there, and answers with a line: how many moments the child came to see, and
whether it reached the end. One start of Django serves all of them.
"""

import datetime as dt
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID


def main() -> None:
    """Serve orders until standard input ends."""
    import django

    django.setup()
    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _live_and_die(order, writer)
        os.close(writer)
        with os.fdopen(reader) as moments:
            seen = len(moments.read())
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{order} ended with {code}")
        print(json.dumps({"moments": seen, "is_done": code == 0}), flush=True)  # noqa: T201


def _live_and_die(order: dict[str, Any], writer: int) -> None:
    moments = 0

    def moment() -> None:
        nonlocal moments
        os.write(writer, b".")
        moments += 1
        if moments == order["dies_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        _watch(moment)
        FLOWS[order["flow"]](order)
    except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as its parent
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _watch(moment: Callable[[], None]) -> None:
    """Call `moment` after each statement and commit, and around each exchange with a gateway."""
    from django.db import connection
    from django.db.backends.base.base import BaseDatabaseWrapper

    from payments.gateways.calling import Caller

    # Django's stubs leave _commit out.
    wrapper, caller = cast(Any, BaseDatabaseWrapper), cast(Any, Caller)
    commit, exchange = wrapper._commit, caller._exchange

    def executed(execute: Any, *arguments: Any) -> Any:
        result = execute(*arguments)
        moment()
        return result

    def committed(self: Any) -> Any:
        result = commit(self)
        moment()
        return result

    def exchanged(self: Any, *arguments: Any) -> Any:
        moment()
        result = exchange(self, *arguments)
        moment()
        return result

    connection.execute_wrappers.append(executed)
    wrapper._commit = committed
    caller._exchange = exchanged


def _top_up(order: dict[str, Any]) -> None:
    from django.utils import timezone

    from core.money import Money
    from payments.gateways.port import CardData
    from payments.services import TopUpOrder, top_up

    top_up(
        tenant_id=UUID(order["tenant"]),
        order=TopUpOrder(
            account_id=UUID(order["account"]),
            amount=Money(order["amount"], "USD"),
            idempotency_key=order["key"],
            card=CardData("4242424242424242", 12, 2099, "123"),
        ),
        now=timezone.now(),
    )


def _refund(order: dict[str, Any]) -> None:
    from django.utils import timezone

    from payments.services import refund_payment, take_due_steps

    refund_payment(
        tenant_id=UUID(order["tenant"]),
        payment_id=UUID(order["payment"]),
        amount=None,
        reason="x",
        idempotency_key=order["key"],
        now=timezone.now(),
    )
    take_due_steps(now=timezone.now() + dt.timedelta(minutes=2), limit=10)


def _pay_out(order: dict[str, Any]) -> None:
    from django.utils import timezone

    from core.money import Money
    from payments.services import Beneficiary, PayoutRequest, make_payout, take_due_steps

    make_payout(
        tenant_id=UUID(order["tenant"]),
        request=PayoutRequest(
            source_account_id=UUID(order["account"]),
            amount=Money(order["amount"], "USD"),
            beneficiary=Beneficiary("Budi", "DE", iban="DE89370400440532013000"),
            idempotency_key=order["key"],
        ),
        now=timezone.now(),
    )
    for minutes in (0, 2):
        take_due_steps(now=timezone.now() + dt.timedelta(minutes=minutes), limit=10)


def _hear(order: dict[str, Any]) -> None:
    """Take a notification as the web does, and process it as a worker does."""
    from django.utils import timezone

    from webhooks.queries import receiver_of
    from webhooks.services import process_due_events, receive

    now = timezone.now()
    receive(
        receiver=receiver_of(
            gateway="sandbox", configuration_id=UUID(order["configuration"]), now=now
        ),
        headers=order["headers"],
        body=order["body"].encode(),
        now=now,
    )
    process_due_events(now=now, limit=10)


def _run_recurring(order: dict[str, Any]) -> None:
    """Look for what is due by the calendar, and have what is sent by that go out."""
    from django.utils import timezone

    from payments.services import run_due_payments, take_due_steps

    run_due_payments(now=dt.datetime.fromisoformat(order["now"]), limit=100)
    take_due_steps(now=timezone.now() + dt.timedelta(minutes=1), limit=10)


def _follow_salaries(order: dict[str, Any]) -> None:
    from django.utils import timezone

    from payments.services import look_for_salaries, run_due_payments

    look_for_salaries(now=timezone.now())
    run_due_payments(now=timezone.now(), limit=100)


def _advance_clock(order: dict[str, Any]) -> None:
    from django.utils import timezone

    from identity.services import advance_test_clock

    advance_test_clock(
        tenant_id=UUID(order["tenant"]),
        to=dt.datetime.fromisoformat(order["to"]),
        now=timezone.now(),
    )


def _keep_savings_plans(order: dict[str, Any]) -> None:
    from savings.services import keep_plans

    keep_plans(now=dt.datetime.fromisoformat(order["now"]), limit=100)


def _close_savings_plan(order: dict[str, Any]) -> None:
    from savings.services import close_plan

    close_plan(
        tenant_id=UUID(order["tenant"]),
        plan_id=UUID(order["plan"]),
        now=dt.datetime.fromisoformat(order["now"]),
    )


FLOWS: dict[str, Callable[[dict[str, Any]], None]] = {
    "topup": _top_up,
    "refund": _refund,
    "payout": _pay_out,
    "webhook": _hear,
    "recurring": _run_recurring,
    "salaries": _follow_salaries,
    "clock": _advance_clock,
    "savings": _keep_savings_plans,
    "savings_close": _close_savings_plan,
}

if __name__ == "__main__":
    main()
