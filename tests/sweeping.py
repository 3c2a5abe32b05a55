"""
Every operation of the API with a request that its owner gets through with: what the sweeps of
tests/test_tenancy_sweep.py send in other people's names.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from core.permissions import Permission, Role
from identity.models import Tenant
from tests import gateways, making
from tests.contract import ContractClient

Route = tuple[str, str]


@dataclass(frozen=True, slots=True)
class World:
    """A tenant with one of everything. Ids in the words of paths and bodies."""

    ids: dict[str, str]
    # What a person has in hand: good once.
    refresh: str

    def __getitem__(self, name: str) -> str:
        return self.ids[name]


@dataclass(frozen=True, slots=True)
class Case:
    """
    One operation. `ids` names what fills the path, in order; `names_another` is whether path,
    query or body holds an id of the world's: then it does not exist for strangers.
    """

    ids: tuple[str, ...] = ()
    query: str = ""
    body: Callable[[World], Any] = lambda _: None
    names_another: bool = True
    # Of many items, each answered by itself: a stranger's are refused one by one.
    is_batch: bool = False
    # Takes no credentials of ours.
    is_public: bool = False
    # Takes a signature instead.
    is_signed: bool = False
    # Keys are refused, whatever their scopes.
    is_for_people: bool = False

    def url(self, route: Route, world: World) -> str:
        ids = iter(self.ids)
        path = re.sub(r"<uuid:\w+>", lambda _: world[next(ids)], route[1])
        path = path.replace("<str:gateway>", "sandbox")
        return path + self.query.format(**world.ids)


def _of(**fields: Any) -> Callable[[World], dict[str, Any]]:
    """A body; values such as "{account}" are filled from the world."""
    return lambda world: {
        name: value.format(**world.ids) if isinstance(value, str) else value
        for name, value in fields.items()
    }


_REASON = _of(reason="x")
_MONEY = {"amount": 1, "currency": "USD"}
_ACCOUNT = ("account",)
_CARD = gateways.card()
_INVOICE = ("invoice",)
_RECURRING = ("recurring_payment",)
_PLAN = ("savings_plan",)
_LINES = [{"description": "x", "quantity": 1, "unit_amount": 1_000}]
_BENEFICIARY = {"name": "Budi", "country": "DE", "iban": "DE89370400440532013000"}

CASES: dict[Route, Case] = {
    ("post", "/auth/token"): Case(
        is_public=True, body=_of(email="{email}", password="{password}"), names_another=False
    ),
    ("post", "/auth/token/refresh"): Case(
        is_public=True, body=lambda w: {"refresh": w.refresh}, names_another=False
    ),
    ("post", "/auth/token/revoke"): Case(
        is_public=True, body=lambda w: {"refresh": w.refresh}, names_another=False
    ),
    ("get", "/me"): Case(names_another=False),
    ("get", "/users"): Case(names_another=False),
    ("post", "/users"): Case(
        body=_of(email="new@bank.test", password="a-long-password-1", role="auditor"),
        names_another=False,
    ),
    ("get", "/users/<uuid:pk>"): Case(("user",)),
    ("patch", "/users/<uuid:pk>"): Case(("user",), body=_of(full_name="Ada L.")),
    ("get", "/api-keys"): Case(names_another=False),
    ("post", "/api-keys"): Case(body=_of(name="k", scopes=["read"]), names_another=False),
    ("get", "/api-keys/audit"): Case(names_another=False),
    ("get", "/api-keys/<uuid:pk>"): Case(("api_key",)),
    ("delete", "/api-keys/<uuid:pk>"): Case(("api_key",)),
    ("put", "/api-keys/<uuid:pk>/rotate"): Case(("api_key",), body=_of()),
    ("get", "/audit-records"): Case(names_another=False),
    ("get", "/accounts"): Case(names_another=False),
    ("post", "/accounts"): Case(body=_of(type="checking", currency="USD"), names_another=False),
    ("post", "/accounts/batch"): Case(
        body=_of(accounts=[{"type": "checking", "currency": "USD"}]), names_another=False
    ),
    ("get", "/accounts/<uuid:pk>"): Case(_ACCOUNT),
    ("patch", "/accounts/<uuid:pk>"): Case(_ACCOUNT, body=_of(name="mine")),
    ("post", "/accounts/<uuid:pk>/freeze"): Case(_ACCOUNT, body=_REASON),
    ("post", "/accounts/<uuid:pk>/unfreeze"): Case(("frozen",), body=_REASON),
    ("post", "/accounts/<uuid:pk>/close"): Case(("empty",), body=_REASON),
    ("get", "/accounts/<uuid:account_id>/balance"): Case(_ACCOUNT),
    ("get", "/accounts/<uuid:account_id>/entries"): Case(_ACCOUNT),
    ("get", "/accounts/<uuid:account_id>/holds"): Case(_ACCOUNT),
    ("get", "/accounts/<uuid:account_id>/operations"): Case(_ACCOUNT),
    ("get", "/accounts/<uuid:account_id>/statement"): Case(
        _ACCOUNT, query="?from=2020-01-01&to=2020-02-01"
    ),
    ("post", "/accounts/<uuid:account_id>/transfers"): Case(
        _ACCOUNT, body=_of(destination_account_id="{other}", **_MONEY)
    ),
    ("post", "/deposits"): Case(body=_of(account_id="{account}", **_MONEY)),
    ("post", "/withdrawals"): Case(body=_of(account_id="{account}", **_MONEY)),
    ("post", "/transfers"): Case(
        body=_of(source_account_id="{account}", destination_account_id="{other}", **_MONEY)
    ),
    ("post", "/transfers/batch"): Case(
        body=lambda w: {
            "transfers": [
                {
                    "source_account_id": w["account"],
                    "destination_account_id": w["other"],
                    **_MONEY,
                }
            ]
        },
        is_batch=True,
    ),
    ("get", "/transfers/<uuid:pk>"): Case(("transfer",)),
    ("get", "/transactions"): Case(query="?account_id={account}"),
    ("get", "/transactions/<uuid:pk>"): Case(("transfer",)),
    ("post", "/transactions"): Case(
        body=lambda w: {
            "currency": "USD",
            "entries": [
                {"account_id": w["account"], "amount": -1},
                {"account_id": w["other"], "amount": 1},
            ],
        }
    ),
    ("post", "/transactions/<uuid:pk>/reverse"): Case(("transfer",), body=_REASON),
    ("post", "/holds"): Case(body=_of(account_id="{account}", **_MONEY)),
    ("get", "/holds/<uuid:pk>"): Case(("hold",)),
    ("post", "/holds/<uuid:pk>/capture"): Case(
        ("hold",), body=_of(destination_account_id="{other}")
    ),
    ("post", "/holds/<uuid:pk>/release"): Case(("hold",), body=_of()),
    ("get", "/ledger/trial-balance"): Case(names_another=False),
    ("post", "/accounts/<uuid:account_id>/topup"): Case(
        _ACCOUNT, body=_of(payment_method=_CARD, **_MONEY)
    ),
    ("get", "/topups"): Case(names_another=False),
    ("get", "/topups/<uuid:pk>"): Case(("topup",)),
    ("get", "/topups/<uuid:topup_id>/refunds"): Case(("topup",)),
    ("post", "/topups/<uuid:topup_id>/refunds"): Case(("topup",), body=_of(amount=1, reason="x")),
    ("get", "/payouts"): Case(names_another=False),
    ("post", "/payouts"): Case(
        body=_of(source_account_id="{account}", beneficiary=_BENEFICIARY, **_MONEY)
    ),
    ("get", "/payouts/<uuid:pk>"): Case(("payout",)),
    ("get", "/recurring-payments"): Case(names_another=False),
    ("post", "/recurring-payments"): Case(
        body=_of(
            source_account_id="{account}",
            destination_account_id="{other}",
            frequency="monthly",
            **_MONEY,
        )
    ),
    ("get", "/recurring-payments/<uuid:pk>"): Case(_RECURRING),
    ("patch", "/recurring-payments/<uuid:pk>"): Case(_RECURRING, body=_of(amount=2)),
    ("post", "/recurring-payments/<uuid:pk>/pause"): Case(_RECURRING, body=_REASON),
    ("post", "/recurring-payments/<uuid:pk>/resume"): Case(
        ("paused_recurring_payment",), body=_REASON
    ),
    ("post", "/recurring-payments/<uuid:pk>/cancel"): Case(
        ("spare_recurring_payment",), body=_REASON
    ),
    ("get", "/recurring-payments/<uuid:pk>/preview"): Case(_RECURRING),
    ("get", "/recurring-payments/<uuid:payment_id>/runs"): Case(_RECURRING),
    ("get", "/savings-plans/<uuid:plan_id>/statement"): Case(
        ("locked_savings_plan",), query="?from=2020-01-01&to=2020-02-01"
    ),
    ("get", "/savings-plans/<uuid:plan_id>/certificate"): Case(("locked_savings_plan",)),
    ("get", "/calendar-days"): Case(names_another=False),
    ("post", "/calendar-days"): Case(body=_of(date="2030-01-01", name="x"), names_another=False),
    ("delete", "/calendar-days/<uuid:pk>"): Case(("calendar_day",)),
    ("get", "/savings-plans"): Case(names_another=False),
    ("post", "/savings-plans"): Case(
        body=_of(
            kind="auto_withdraw", account_id="{account}", name="x", target_amount=100, **_MONEY
        )
    ),
    ("get", "/savings-plans/<uuid:pk>"): Case(_PLAN),
    ("patch", "/savings-plans/<uuid:pk>"): Case(_PLAN, body=_of(amount=2)),
    ("post", "/savings-plans/<uuid:pk>/deposit"): Case(_PLAN, body=_of(amount=1)),
    ("post", "/savings-plans/<uuid:pk>/withdraw"): Case(_PLAN, body=_of(amount=1)),
    ("post", "/savings-plans/<uuid:pk>/close"): Case(("spare_savings_plan",), body=_REASON),
    ("post", "/savings-plans/<uuid:pk>/pause"): Case(_PLAN, body=_REASON),
    ("post", "/savings-plans/<uuid:pk>/resume"): Case(("paused_savings_plan",), body=_REASON),
    ("post", "/savings-plans/<uuid:pk>/renew"): Case(
        ("locked_savings_plan",), body=_of(unlock_date="2070-01-01", reason="x")
    ),
    ("get", "/savings-plans/<uuid:pk>/projection"): Case(_PLAN),
    ("get", "/savings-plans/<uuid:plan_id>/runs"): Case(_PLAN),
    ("get", "/savings-plans/<uuid:plan_id>/interest-postings"): Case(_PLAN),
    ("post", "/savings-plans/<uuid:plan_id>/early-releases"): Case(
        ("locked_savings_plan",), body=_REASON, is_for_people=True
    ),
    ("get", "/early-releases"): Case(names_another=False),
    ("get", "/early-releases/<uuid:pk>"): Case(("early_release",)),
    ("post", "/early-releases/<uuid:pk>/approve"): Case(
        ("early_release",), body=_REASON, is_for_people=True
    ),
    ("post", "/early-releases/<uuid:pk>/reject"): Case(
        ("early_release",), body=_REASON, is_for_people=True
    ),
    ("get", "/test-clock"): Case(),
    ("post", "/test-clock"): Case(names_another=False, body=_of()),
    ("post", "/test-clock/advance"): Case(body=_of(days=1)),
    ("get", "/gateways"): Case(names_another=False),
    ("post", "/gateways"): Case(
        body=_of(
            gateway="midtrans",
            mode="test",
            currencies=["IDR"],
            credentials={"server_key": "SB-Mid-server-0123456789"},
        ),
        names_another=False,
    ),
    ("get", "/gateways/<uuid:pk>"): Case(("gateway",)),
    ("patch", "/gateways/<uuid:pk>"): Case(("gateway",), body=_of(name="mine")),
    ("delete", "/gateways/<uuid:pk>"): Case(("spare_gateway",)),
    ("post", "/webhooks/gateways/<str:gateway>/<uuid:configuration_id>"): Case(
        ("gateway",), is_public=True, is_signed=True
    ),
    ("get", "/invoices"): Case(names_another=False),
    ("post", "/invoices"): Case(body=_of(currency="USD", line_items=_LINES), names_another=False),
    ("get", "/invoices/<uuid:pk>"): Case(_INVOICE),
    ("patch", "/invoices/<uuid:pk>"): Case(
        ("draft_invoice",), body=_of(currency="USD", line_items=_LINES)
    ),
    ("post", "/invoices/<uuid:pk>/finalize"): Case(("draft_invoice",), body=_of()),
    ("post", "/invoices/<uuid:pk>/void"): Case(_INVOICE, body=_REASON),
    ("post", "/invoices/<uuid:pk>/send"): Case(_INVOICE, body=_of()),
    ("post", "/invoices/<uuid:pk>/open-again"): Case(("failed_invoice",), body=_REASON),
    ("post", "/invoices/<uuid:pk>/supplementary"): Case(_INVOICE, body=_of(line_items=_LINES)),
    ("get", "/invoices/<uuid:invoice_id>/installments"): Case(_INVOICE),
    ("patch", "/invoices/<uuid:invoice_id>/installments"): Case(
        _INVOICE,
        body=_of(installments=[{"number": 1, "amount": 540}, {"number": 2, "amount": 560}]),
    ),
    ("get", "/invoices/<uuid:invoice_id>/payments"): Case(("overpaid_invoice",)),
    ("post", "/invoices/<uuid:invoice_id>/payments"): Case(
        _INVOICE, body=_of(amount=1, method="x")
    ),
    ("get", "/invoices/<uuid:invoice_id>/overpayment"): Case(("overpaid_invoice",)),
    ("post", "/invoices/<uuid:invoice_id>/overpayment/refunds"): Case(
        ("overpaid_invoice",), body=_of(amount=1, reason="x")
    ),
    ("post", "/invoices/<uuid:invoice_id>/apply-credit"): Case(_INVOICE, body=_of(amount=1)),
    ("post", "/invoices/<uuid:invoice_id>/refunds"): Case(
        ("overpaid_invoice",), body=_of(amount=1, reason="x")
    ),
    ("get", "/invoices/<uuid:invoice_id>/credit-notes"): Case(("overpaid_invoice",)),
    ("post", "/invoices/<uuid:invoice_id>/credit-notes"): Case(
        _INVOICE, body=_of(amount=1, reason="x")
    ),
    ("get", "/invoices/<uuid:invoice_id>/pdf"): Case(_INVOICE),
    ("get", "/invoices/<uuid:invoice_id>/payment-initiation"): Case(_INVOICE),
    ("get", "/invoice-settings"): Case(names_another=False),
    ("patch", "/invoice-settings"): Case(body=_of(legal_name="Kopi"), names_another=False),
    ("get", "/reports/financial"): Case(names_another=False),
    ("get", "/reports/aged-receivables"): Case(names_another=False),
    ("get", "/webhooks/failed"): Case(names_another=False),
    ("get", "/webhooks/failed/<uuid:pk>"): Case(("failed_webhook",)),
    ("post", "/webhooks/failed/<uuid:pk>/retry"): Case(("failed_webhook",), body=_of()),
}


def admin_of(tenant: Tenant, route: Route) -> ContractClient:
    """Return who may do anything in the tenant: a key, or where keys are refused, a person."""
    if CASES[route].is_for_people:
        return making.person_client(tenant, Role.ADMIN)
    return making.api_client(tenant)


def api_routes() -> Iterator[tuple[Route, Permission | None]]:
    """Every method and path below /api/v1 that answers, and what it asks of its caller."""
    for path, pattern in _patterns():
        if path.startswith("api/v1/"):
            for method, action in getattr(pattern.callback, "actions", {}).items():
                permission = pattern.callback.cls.permissions.get(action)
                # A HEAD is a GET without its body; DRF adds it when it first serves one.
                if method != "head":
                    yield (method, "/" + path.removeprefix("api/v1/")), permission


def other_routes() -> Iterator[str]:
    """Every path outside /api/v1."""
    return (path for path, _ in _patterns() if not path.startswith("api/v1/"))


def _patterns() -> Iterator[tuple[str, Any]]:
    def walk(patterns: Any, before: str) -> Iterator[tuple[str, Any]]:
        for each in patterns:
            path = before + str(each.pattern)
            if isinstance(each, URLResolver):
                yield from walk(each.url_patterns, path)
            elif isinstance(each, URLPattern):
                yield path, each

    return walk(get_resolver().url_patterns, "")
