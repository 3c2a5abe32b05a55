"""Statements, transactions and holds in the back office; reversals and releases."""

import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from accounts.models import Account
from accounts.services import freeze_account
from core.money import Money
from identity.models import Tenant
from identity.services import create_tenant
from ledger import services
from ledger.models import Entry, Hold, Transaction
from tests.back_office import (
    act,
    act_url,
    list_url,
    no_counting,
    page_link,
    page_url,
    shown,
    signed_in,
)
from tests.making import at_once, balance_of, deposit, fresh_key, open_account, transfer

TRANSACTIONS = "/admin/ledger/transaction/"
HOLDS = "/admin/ledger/hold/"


@pytest.fixture
def supervisor(tenant: Tenant) -> Client:
    return signed_in(tenant, "supervisor")


def transaction_of(made: Any) -> Transaction:
    return Transaction.objects.get(pk=made.id)


def place_hold(account: Account, amount: int, **more: Any) -> Hold:
    return services.place_hold(
        tenant_id=account.tenant_id,
        account_id=account.pk,
        amount=Money(amount, account.currency),
        idempotency_key=fresh_key(),
        expires_at=None,
        now=timezone.now(),
        **more,
    ).hold


def reversal_form(
    client: Client, transaction: Transaction, reason: str = "Twice"
) -> dict[str, str]:
    """Open the form as a person does; return what the browser would send."""
    html = shown(client, act_url(transaction, "reverse"))
    key = re.search(r'name="key" value="([^"]+)"', html)
    assert key is not None
    return {"key": key[1], "reason": reason}


# --- The statement -----------------------------------------------------------------------------
def statement_rows(html: str) -> list[list[str]]:
    """Return the cells of the statement, as text."""
    table = html.split('<table class="statement">')[1].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1], re.S)
    return [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.S)]
        for row in rows
    ]


def test_the_statement_runs(tenant: Tenant, supervisor: Client) -> None:
    ada, ben = open_account(tenant, name="Ada"), open_account(tenant, name="Ben")
    deposit(ada, 100_000, description="Salary")
    transfer(ada, ben, 25_050, description="Rent")

    html = shown(supervisor, page_url(ada))
    rent, salary = statement_rows(html)

    assert rent[1:] == ["Transfer", "Rent", "Ben", "USD\u00a0250.50", "", "USD\u00a0749.50"]
    assert salary[1:] == ["Deposit", "Salary", "Cash", "", "USD\u00a01,000.00", "USD\u00a01,000.00"]
    assert f'href="{page_url(ben)}"' in html


def test_a_journal_has_several_counterparties(tenant: Tenant, supervisor: Client) -> None:
    three = [open_account(tenant, overdraft_limit=10) for _ in range(3)]
    services.post_journal(
        tenant_id=tenant.pk,
        currency="USD",
        legs=tuple(
            services.Leg(account.pk, amount)
            for account, amount in zip(three, (-3, 1, 2), strict=True)
        ),
        idempotency_key=fresh_key(),
    )

    [row] = statement_rows(shown(supervisor, page_url(three[0])))

    assert row[3] == "several accounts"


def test_the_statement_pages_by_sequence(tenant: Tenant, supervisor: Client) -> None:
    account = open_account(tenant)
    for amount in range(1, 121):
        deposit(account, amount)
    url = page_url(account)

    with no_counting():
        first = shown(supervisor, url)
        second = shown(supervisor, f"{url}{page_link(first, 'next')}")
        third = shown(supervisor, f"{url}{page_link(second, 'next')}")
        back = shown(supervisor, f"{url}{page_link(third, 'prev')}")

    pages = [statement_rows(page) for page in (first, second, third)]
    credits = [row[5] for page in pages for row in page]
    assert [len(page) for page in pages] == [50, 50, 20]
    assert credits == [f"USD\u00a0{amount / 100:.2f}" for amount in range(120, 0, -1)]
    assert statement_rows(back) == pages[1]
    assert page_link(first, "prev") is None
    assert page_link(third, "next") is None


def test_a_statement_costs_the_same_for_many_entries(tenant: Tenant, supervisor: Client) -> None:
    account = open_account(tenant, balance=100)
    with no_counting() as few:
        shown(supervisor, page_url(account))
    for _ in range(30):
        transfer(account, open_account(tenant), 1)
        place_hold(account, 1)
    with no_counting() as many:
        shown(supervisor, page_url(account))

    assert len(few) == len(many) <= 13


def test_a_cursor_of_another_statement_is_refused(tenant: Tenant, supervisor: Client) -> None:
    one, other = open_account(tenant), open_account(tenant)
    for _ in range(51):
        deposit(one, 1)
    deposit(other, 7)
    cursor = page_link(shown(supervisor, page_url(one)), "next")

    for forged in (cursor, "?cursor=x"):
        page = shown(supervisor, f"{page_url(other)}{forged}")
        assert "The cursor is not one of this list&#x27;s." in page
        assert len(statement_rows(page)) == 1


def test_an_account_page_shows_its_active_holds(tenant: Tenant, supervisor: Client) -> None:
    account = open_account(tenant, balance=10_000)
    hold = place_hold(account, 2_500, description="Hotel")
    gone = place_hold(account, 100, description="Taxi")
    services.release_hold(tenant_id=tenant.pk, hold_id=gone.pk, now=timezone.now())

    page = shown(supervisor, page_url(account))
    everything = shown(supervisor, f"{HOLDS}?account={account.pk}&tenant={tenant.pk}")

    assert f'href="{page_url(hold)}">Hotel</a>' in page
    assert "Taxi" not in page
    assert "Hotel" in everything
    assert "Taxi" in everything


# --- Transactions ------------------------------------------------------------------------------
def test_a_transaction_shows_its_entries(tenant: Tenant, supervisor: Client) -> None:
    ada, ben = open_account(tenant, balance=500, name="Ada"), open_account(tenant, name="Ben")
    made = transaction_of(transfer(ada, ben, 123, description="Rent", external_reference="R-1"))

    with no_counting() as captured:
        page = shown(supervisor, page_url(made))

    assert page.count("USD\u00a01.23") >= 3
    assert f'href="{page_url(ada)}">Ada</a>' in page
    assert f'href="{page_url(ben)}">Ben</a>' in page
    assert "R-1" in page
    assert len(captured) <= 13


def test_a_reversal_and_what_it_reverses_point_at_each_other(
    tenant: Tenant, supervisor: Client
) -> None:
    ada, ben = open_account(tenant, balance=500), open_account(tenant)
    made = transaction_of(transfer(ada, ben, 123))

    page = act(supervisor, made, "reverse", **reversal_form(supervisor, made))

    reversal = Transaction.objects.get(reverses=made)
    assert "The transaction is reversed." in page
    assert f'href="{page_url(made)}"' in page
    assert f'href="{page_url(reversal)}"' in shown(supervisor, page_url(made))
    assert act_url(made, "reverse") not in shown(supervisor, page_url(made))
    assert (balance_of(ada), balance_of(ben)) == (500, 0)
    assert reversal.description == "Twice"


def test_a_double_submit_posts_once(tenant: Tenant, supervisor: Client) -> None:
    ada, ben = open_account(tenant, balance=500), open_account(tenant, balance=500)
    made = transaction_of(transfer(ada, ben, 123))
    form = reversal_form(supervisor, made)

    pages = [act(supervisor, made, "reverse", **form) for _ in range(2)]

    assert all("The transaction is reversed." in page for page in pages)
    assert Transaction.objects.filter(type="reversal").count() == 1
    assert (balance_of(ada), balance_of(ben)) == (500, 500)
    assert LogEntry.objects.filter(object_id=str(made.pk)).count() == 1


def test_a_second_form_is_refused(tenant: Tenant, supervisor: Client) -> None:
    ada, ben = open_account(tenant, balance=500), open_account(tenant, balance=500)
    made = transaction_of(transfer(ada, ben, 123))
    one, other = (reversal_form(supervisor, made) for _ in range(2))
    act(supervisor, made, "reverse", **one)

    again = act(supervisor, made, "reverse", **other)
    changed = act(supervisor, made, "reverse", **{**one, "reason": "Another"})

    assert "The transaction was reversed before." in again
    assert "errornote" in changed
    assert Transaction.objects.filter(type="reversal").count() == 1


def test_one_persons_form_is_not_anothers(tenant: Tenant, supervisor: Client) -> None:
    ada, ben = open_account(tenant, balance=500), open_account(tenant, balance=500)
    made = transaction_of(transfer(ada, ben, 123))
    form = reversal_form(supervisor, made)
    act(supervisor, made, "reverse", **form)

    page = act(signed_in(tenant), made, "reverse", **form)

    assert "The transaction was reversed before." in page


def test_money_that_is_spent_is_not_taken_back(tenant: Tenant, supervisor: Client) -> None:
    ada, ben, cid = (open_account(tenant, balance=balance) for balance in (500, 0, 0))
    made = transaction_of(transfer(ada, ben, 123))
    transfer(ben, cid, 100)

    page = act(supervisor, made, "reverse", **reversal_form(supervisor, made))

    assert "An account that would give the money back has not enough available." in page
    assert (balance_of(ada), balance_of(ben)) == (377, 23)
    assert not LogEntry.objects.exists()


def test_a_frozen_account_stops_a_reversal(tenant: Tenant, supervisor: Client) -> None:
    ada, ben = open_account(tenant, balance=500), open_account(tenant)
    made = transaction_of(transfer(ada, ben, 123))
    freeze_account(tenant_id=tenant.pk, account_id=ada.pk, reason="x", now=timezone.now())

    page = act(supervisor, made, "reverse", **reversal_form(supervisor, made))

    assert f"Account {ada.pk} is frozen." in page
    assert balance_of(ben) == 123


@pytest.mark.parametrize(
    "wrong", [{"reason": ""}, {"reason": "x" * 501}, {"key": ""}, {"key": "made-up"}]
)
def test_a_bad_form_posts_nothing(
    tenant: Tenant, supervisor: Client, wrong: dict[str, str]
) -> None:
    ada, ben = open_account(tenant, balance=500), open_account(tenant)
    made = transaction_of(transfer(ada, ben, 123))

    page = act(supervisor, made, "reverse", **{**reversal_form(supervisor, made), **wrong})

    assert "errorlist" in page
    assert balance_of(ben) == 123


@pytest.mark.django_db(transaction=True)
def test_a_double_click_posts_once() -> None:
    tenant = create_tenant(name="Kopi Bank", now=timezone.now())
    ada, ben = open_account(tenant, balance=500), open_account(tenant, balance=500)
    made = transaction_of(transfer(ada, ben, 123))
    client = signed_in(tenant)
    form = reversal_form(client, made)

    def click() -> int:
        clicking = Client()
        clicking.cookies.update(client.cookies)
        return clicking.post(act_url(made, "reverse"), form).status_code

    clicks: list[Callable[[], int]] = [click] * 4
    assert at_once(clicks) == [302] * 4
    assert Transaction.objects.filter(type="reversal").count() == 1
    assert (balance_of(ada), balance_of(ben)) == (500, 500)


def test_transactions_page_without_counting(tenant: Tenant, supervisor: Client) -> None:
    account = open_account(tenant)
    for number in range(60):
        deposit(account, 1, description=f"No. {number:03}")

    with no_counting() as captured:
        first = shown(supervisor, TRANSACTIONS)
        second = shown(supervisor, f"{TRANSACTIONS}{page_link(first, 'next')}")

    assert [page.count("No. 0") for page in (first, second)] == [50, 10]
    assert "No. 059" in first
    assert "No. 000" in second
    assert len(captured) <= 12


def test_transactions_are_found_by_whole_identifiers(tenant: Tenant) -> None:
    account = open_account(tenant)
    made = deposit(account, 1, description="Found", external_reference="R-1", idempotency_key="k-1")
    deposit(account, 2, description="Hidden")
    for client in (signed_in(tenant), signed_in(tenant, "admin", is_superuser=True)):
        for text in (str(made.id), "R-1", "k-1"):
            with no_counting():
                page = shown(client, f"{TRANSACTIONS}?q={text}")
            assert "Found" in page
            assert "Hidden" not in page
        for text in (str(uuid4()), "R", "k-", "Found"):
            assert "Nothing here." in shown(client, f"{TRANSACTIONS}?q={text}")


# --- Holds -------------------------------------------------------------------------------------
def test_a_hold_is_released_once(tenant: Tenant, supervisor: Client) -> None:
    account = open_account(tenant, balance=1_000)
    hold = place_hold(account, 400)

    page = act(supervisor, hold, "release")
    again = act(supervisor, hold, "release")

    hold.refresh_from_db()
    account.refresh_from_db()
    assert "The hold is released." in page
    assert "The hold was released." in again
    assert (hold.status, account.held) == ("released", 0)
    assert LogEntry.objects.filter(object_id=str(hold.pk)).count() == 1


def test_holds_are_listed_without_counting(tenant: Tenant, supervisor: Client) -> None:
    place_hold(open_account(tenant, balance=1_000, name="Ada"), 400)
    with no_counting() as few:
        assert "USD\u00a04.00" in shown(supervisor, HOLDS)
    for _ in range(20):
        place_hold(open_account(tenant, balance=1_000), 400)
    with no_counting() as many:
        shown(supervisor, HOLDS)

    assert len(few) == len(many) <= 6


# --- Who may -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("role", "may"),
    [("auditor", False), ("operator", False), ("supervisor", True), ("admin", True)],
)
def test_who_may_reverse_and_release(tenant: Tenant, role: str, may: bool) -> None:
    ada, ben = open_account(tenant, balance=500), open_account(tenant)
    made = transaction_of(transfer(ada, ben, 123))
    hold = place_hold(ada, 100)
    client = signed_in(tenant, role)

    assert (act_url(made, "reverse") in shown(client, page_url(made))) == may
    assert (act_url(hold, "release") in shown(client, page_url(hold))) == may
    form = {"reason": "x", "key": str(uuid4())}
    codes = [
        client.get(act_url(made, "reverse")).status_code,
        client.post(act_url(made, "reverse"), form).status_code,
        client.post(act_url(hold, "release"), form).status_code,
    ]

    assert codes == ([200, 302, 302] if may else [403, 403, 403])
    hold.refresh_from_db()
    assert (balance_of(ben) == 0, hold.status == "released") == (may, may)


def test_another_tenants_rows_do_not_exist(
    tenant: Tenant, other_tenant: Tenant, supervisor: Client
) -> None:
    theirs, more = open_account(other_tenant, balance=500), open_account(other_tenant)
    made = transaction_of(transfer(theirs, more, 123, description="Secret"))
    hold = place_hold(theirs, 7, description="Secret")

    for url in (TRANSACTIONS, HOLDS, f"{TRANSACTIONS}?q={made.pk}", f"{HOLDS}?q={hold.pk}"):
        assert "Secret" not in shown(supervisor, url)
    assert "Secret" not in shown(supervisor, f"{HOLDS}?account={theirs.pk}")
    for url in (page_url(made), page_url(hold), act_url(made, "reverse"), act_url(hold, "release")):
        for answer in (
            supervisor.get(url, follow=True),
            supervisor.post(url, {"reason": "x", "key": str(uuid4())}, follow=True),
        ):
            assert answer.redirect_chain or answer.status_code == 405
            assert "Secret" not in answer.content.decode()
    hold.refresh_from_db()
    assert (balance_of(more), hold.status) == (123, "active")


def test_money_rows_have_no_forms_of_djangos(tenant: Tenant) -> None:
    root = signed_in(tenant, "admin", is_superuser=True)
    account = open_account(tenant, balance=500)
    hold = place_hold(account, 7)
    [made] = Transaction.objects.all()

    for obj in (made, hold):
        base = list_url(type(obj))
        assert root.get(f"{base}add/").status_code == 403
        assert root.post(f"{base}add/", {}).status_code == 403
        assert root.post(f"{base}{obj.pk}/delete/", {"post": "yes"}).status_code == 403
        assert root.post(page_url(obj), {"amount": 1}).status_code == 405
    assert root.get("/admin/ledger/entry/").status_code == 404
    assert Entry.objects.count() == 2
