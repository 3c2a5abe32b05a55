"""Accounts in the back office: finding them, their pages, and what a button does or refuses."""

from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from accounts import services
from accounts.models import Account
from core.models import OutboxEvent
from identity.models import Tenant
from tests.back_office import (
    act,
    act_url,
    list_url,
    member_of_staff,
    no_counting,
    page_link,
    page_url,
    shown,
    signed_in,
)
from tests.making import open_account, transfer

LIST = "/admin/accounts/account/"


@pytest.fixture
def supervisor(tenant: Tenant) -> Client:
    return signed_in(tenant, "supervisor")


def status_of(account: Account) -> str:
    account.refresh_from_db()
    return account.status


def events_of(account: Account) -> list[str]:
    events = OutboxEvent.objects.filter(resource_id=account.pk).order_by("pk")
    return list(events.values_list("event_type", flat=True))


def test_it_works(tenant: Tenant, supervisor: Client) -> None:
    account = open_account(tenant, balance=123456, name="Ada", external_id="customer-42")

    page = shown(supervisor, page_url(account))

    assert "Ada" in page
    assert "USD\u00a01,234.56" in page
    assert "customer-42" in page
    assert "123456" not in page.replace(str(account.pk), "")


def test_freeze_unfreeze_and_close(tenant: Tenant, supervisor: Client) -> None:
    account = open_account(tenant)

    assert "The account is frozen." in act(supervisor, account, "freeze")
    assert status_of(account) == "frozen"
    assert "The account is active again." in act(supervisor, account, "unfreeze")
    assert status_of(account) == "active"
    assert "The account is closed." in act(supervisor, account, "close")
    assert status_of(account) == "closed"
    assert events_of(account) == [
        "account.opened",
        "account.frozen",
        "account.unfrozen",
        "account.closed",
    ]


def test_who_did_it_and_why_is_kept(tenant: Tenant) -> None:
    person = member_of_staff(tenant, "operator")
    client = Client()
    client.force_login(person)
    account = open_account(tenant)

    act(client, account, "freeze", reason="Card reported stolen")

    [line] = LogEntry.objects.filter(object_id=str(account.pk))
    assert line.user == person
    assert line.get_change_message() == "Freeze. Card reported stolen"
    history = shown(client, f"{LIST}{account.pk}/history/")
    assert "Card reported stolen" in history


def test_looking_at_the_form_changes_nothing(tenant: Tenant, supervisor: Client) -> None:
    account = open_account(tenant)

    assert "until it is unfrozen" in shown(supervisor, act_url(account, "freeze"))
    assert status_of(account) == "active"


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "a\x00b"])
def test_a_reason_is_needed(tenant: Tenant, supervisor: Client, reason: str) -> None:
    account = open_account(tenant)

    page = act(supervisor, account, "freeze", reason=reason)

    assert "errorlist" in page
    assert status_of(account) == "active"


def test_a_refusal_is_a_sentence_and_nothing_is_half_done(
    tenant: Tenant, supervisor: Client
) -> None:
    account = open_account(tenant, balance=1)

    page = act(supervisor, account, "close")

    assert "Balance and holds must be zero before an account is closed." in page
    assert status_of(account) == "active"
    assert events_of(account) == ["account.opened"]
    assert not LogEntry.objects.exists()


def test_a_double_click_freezes_once(tenant: Tenant, supervisor: Client) -> None:
    account = open_account(tenant)
    act(supervisor, account, "freeze")

    page = act(supervisor, account, "freeze")

    assert "The account is frozen, not active." in page
    assert events_of(account).count("account.frozen") == 1


def test_internal_accounts_have_no_such_buttons(tenant: Tenant, supervisor: Client) -> None:
    cash_id = services.internal_account(
        tenant_id=tenant.pk, role="cash", currency="USD", now=timezone.now()
    )
    cash = Account.objects.get(pk=cash_id)

    page = shown(supervisor, page_url(cash))
    refusal = act(supervisor, cash, "freeze")

    assert act_url(cash, "freeze") not in page
    assert "no limit" in page
    assert "An internal account is always active." in refusal


# --- Changing ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("currency", "typed", "minor_units"), [("USD", "12.50", 1250), ("IDR", "1250", 1250)]
)
def test_name_metadata_and_overdraft_change(
    tenant: Tenant, supervisor: Client, currency: str, typed: str, minor_units: int
) -> None:
    account = open_account(tenant, currency=currency)
    form = {"name": "Ada", "overdraft_limit": typed, "metadata": '{"segment": "retail"}'}

    page = act(supervisor, account, "edit", **form)

    account.refresh_from_db()
    assert "The account is changed." in page
    assert (account.name, account.overdraft_limit) == ("Ada", minor_units)
    assert account.metadata == {"segment": "retail"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"overdraft_limit": "-1"},
        {"overdraft_limit": "1.005"},
        {"overdraft_limit": "NaN"},
        {"overdraft_limit": "90000000000000001"},
        {"overdraft_limit": "1e30"},
        {"overdraft_limit": ""},
        {"name": "x" * 201},
        {"name": "a\x00b"},
        {"metadata": "no json"},
        {"metadata": "[1]"},
        {"metadata": '{"a": 1}'},
        {"metadata": '{"": "x"}'},
        {"metadata": '{"a": "\\u0000"}'},
        {"reason": ""},
        # Nothing is different.
        {},
    ],
)
def test_bad_input_changes_nothing(
    tenant: Tenant, supervisor: Client, wrong: dict[str, str]
) -> None:
    account = open_account(tenant, name="Ada", overdraft_limit=100)
    same = {"name": "Ada", "overdraft_limit": "1.00", "metadata": "{}"}

    page = act(supervisor, account, "edit", **{**same, **wrong})

    assert "error" in page
    account.refresh_from_db()
    assert (account.name, account.overdraft_limit, account.metadata) == ("Ada", 100, {})
    assert events_of(account) == ["account.opened"]


def test_an_overdraft_in_use_stays(tenant: Tenant, supervisor: Client) -> None:
    account = open_account(tenant, overdraft_limit=500)
    other = open_account(tenant)
    transfer(account, other, 400)

    page = act(supervisor, account, "edit", name="", overdraft_limit="1", metadata="{}")

    assert "further below zero" in page
    account.refresh_from_db()
    assert account.overdraft_limit == 500


# --- Who may -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("auditor", set()),
        ("operator", {"freeze"}),
        ("supervisor", {"freeze", "unfreeze", "close", "edit"}),
        ("admin", {"freeze", "unfreeze", "close", "edit"}),
    ],
)
def test_what_each_role_may_do(tenant: Tenant, role: str, allowed: set[str]) -> None:
    client = signed_in(tenant, role)
    for name in ("freeze", "unfreeze", "close", "edit"):
        account = open_account(tenant)
        if name == "unfreeze":
            services.freeze_account(
                tenant_id=tenant.pk, account_id=account.pk, reason="x", now=timezone.now()
            )
        url = act_url(account, name)
        form = {"reason": "x", "name": "New", "overdraft_limit": "0", "metadata": "{}"}

        page = shown(client, page_url(account))
        answer = client.post(url, form)

        assert (url in page) == (name in allowed)
        assert answer.status_code == (302 if name in allowed else 403)
        assert (len(events_of(account)) > (2 if name == "unfreeze" else 1)) == (name in allowed)


def test_customers_and_strangers_stay_outside(tenant: Tenant) -> None:
    account = open_account(tenant)
    for client in (Client(), signed_in(tenant, "customer")):
        for url in (LIST, page_url(account), act_url(account, "freeze")):
            for answer in (client.get(url), client.post(url, {"reason": "x"})):
                assert answer.status_code == 302
                assert "/admin/login/" in answer["Location"]
    assert status_of(account) == "active"


def test_a_form_from_elsewhere_is_refused(tenant: Tenant) -> None:
    account = open_account(tenant)
    client = Client(enforce_csrf_checks=True)
    client.force_login(member_of_staff(tenant))

    assert client.post(act_url(account, "freeze"), {"reason": "x"}).status_code == 403
    assert status_of(account) == "active"


def test_nobody_adds_deletes_or_edits_by_djangos_own_forms(tenant: Tenant) -> None:
    account = open_account(tenant)
    client = signed_in(tenant, "admin", is_superuser=True)

    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}add/", {"name": "x"}).status_code == 403
    assert client.post(f"{LIST}{account.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(page_url(account), {"balance": 5}).status_code == 405
    client.post(LIST, {"action": "delete_selected", "_selected_action": [str(account.pk)]})
    assert Account.objects.filter(pk=account.pk).exists()


# --- Tenants -----------------------------------------------------------------------------------
def test_another_tenants_account_does_not_exist(
    tenant: Tenant, other_tenant: Tenant, supervisor: Client
) -> None:
    theirs = open_account(other_tenant, name="Secret", external_id="theirs")
    never = f"{LIST}{uuid4()}/"

    assert "Secret" not in shown(supervisor, LIST)
    for found in (str(theirs.pk), "theirs"):
        assert "Secret" not in shown(supervisor, f"{LIST}?q={found}")
    assert "Secret" not in shown(supervisor, f"{LIST}?tenant={other_tenant.pk}")
    for url in (page_url(theirs), act_url(theirs, "freeze"), f"{LIST}{theirs.pk}/history/", never):
        answer = supervisor.get(url, follow=True)
        assert answer.redirect_chain
        assert "Secret" not in answer.content.decode()
    answer = supervisor.post(act_url(theirs, "freeze"), {"reason": "x"}, follow=True)
    assert "There is no such account." in answer.content.decode()
    assert status_of(theirs) == "active"


def test_a_superuser_sees_and_serves_every_tenant(tenant: Tenant, other_tenant: Tenant) -> None:
    root = signed_in(tenant, "admin", is_superuser=True)
    ours, theirs = open_account(tenant, name="Ours"), open_account(other_tenant, name="Theirs")

    page = shown(root, LIST)
    only_theirs = shown(root, f"{LIST}?tenant={other_tenant.pk}")
    act(root, theirs, "freeze")

    assert "Ours" in page
    assert "Theirs" in page
    assert "Ours" not in only_theirs
    assert (status_of(ours), status_of(theirs)) == ("active", "frozen")


# --- Lists -------------------------------------------------------------------------------------
def test_pages_go_there_and_back_without_counting(tenant: Tenant, supervisor: Client) -> None:
    new = [services.NewAccount("checking", "USD", name=f"No. {n:03}") for n in range(120)]
    services.open_accounts(tenant_id=tenant.pk, new=new, now=timezone.now())

    def names(html: str) -> list[str]:
        return [f"No. {n:03}" for n in range(119, -1, -1) if f"No. {n:03}" in html]

    with no_counting():
        first = shown(supervisor, LIST)
        second = shown(supervisor, f"{LIST}{page_link(first, 'next')}")
        third = shown(supervisor, f"{LIST}{page_link(second, 'next')}")
        back = shown(supervisor, f"{LIST}{page_link(third, 'prev')}")

    assert [len(names(page)) for page in (first, second, third)] == [50, 50, 20]
    assert names(first) + names(second) + names(third) == [
        f"No. {n:03}" for n in range(119, -1, -1)
    ]
    assert names(back) == names(second)
    assert page_link(first, "prev") is None
    assert page_link(third, "next") is None


def test_a_page_costs_the_same_for_many_rows(tenant: Tenant, supervisor: Client) -> None:
    open_account(tenant)
    with no_counting() as few:
        shown(supervisor, LIST)
    for _ in range(20):
        open_account(tenant)
    with no_counting() as many:
        shown(supervisor, LIST)

    assert len(few) == len(many) <= 6


def test_a_cursor_keeps_the_filter_and_a_filter_drops_the_cursor(
    tenant: Tenant, supervisor: Client
) -> None:
    new = [services.NewAccount("saving", "USD") for _ in range(60)]
    services.open_accounts(tenant_id=tenant.pk, new=new, now=timezone.now())

    first = shown(supervisor, f"{LIST}?type__exact=saving")
    link = page_link(first, "next")
    second = shown(supervisor, f"{LIST}{link}")

    assert link is not None
    assert "type__exact=saving" in link
    assert 'href="?status__exact=frozen&amp;type__exact=saving"' in second


@pytest.mark.parametrize("cursor", ["x", "", "WyJuZXh0IiwgMV0:abc"])
def test_a_made_up_cursor_leads_to_the_first_page(
    tenant: Tenant, supervisor: Client, cursor: str
) -> None:
    open_account(tenant, name="Ada")

    answer = supervisor.get(LIST, {"cursor": cursor}, follow=True)

    assert answer.status_code == 200
    assert "Ada" in answer.content.decode()


def test_search_finds_whole_identifiers(tenant: Tenant) -> None:
    owner = uuid4()
    ada = open_account(tenant, name="Ada", external_id="customer-42", owner_id=owner)
    open_account(tenant, name="Ben", external_id=str(uuid4()))
    for client in (signed_in(tenant), signed_in(tenant, "admin", is_superuser=True)):
        for text in (str(ada.pk), str(owner), "customer-42", f" {ada.pk} "):
            with no_counting():
                page = shown(client, f"{LIST}?q={text}")
            assert "Ada" in page
            assert "Ben" not in page
        for text in ("customer", "%", str(uuid4())):
            assert "Nothing here." in shown(client, f"{LIST}?q={text}")
        assert "Null characters are not allowed." in shown(client, f"{LIST}?q=a%00b")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status__exact=frozen", "Ben"),
        ("type__exact=saving", "Cid"),
        ("currency=idr", "Dan"),
        ("currency=USD&type__exact=checking&status__exact=active", "Ada"),
    ],
)
def test_filters(tenant: Tenant, supervisor: Client, query: str, found: str) -> None:
    open_account(tenant, name="Ada")
    ben = open_account(tenant, name="Ben")
    services.freeze_account(tenant_id=tenant.pk, account_id=ben.pk, reason="x", now=timezone.now())
    open_account(tenant, name="Cid", type="saving")
    open_account(tenant, name="Dan", currency="IDR", type="checking")

    page = shown(supervisor, f"{LIST}?{query}")

    assert [name for name in ("Ada", "Ben", "Cid", "Dan") if name in page] == [found]


@pytest.mark.parametrize(
    "lookup", ["name__icontains", "tenant__name", "metadata__x", "balance__gt"]
)
def test_lookups_that_nobody_offers_are_refused(
    tenant: Tenant, supervisor: Client, lookup: str
) -> None:
    assert supervisor.get(f"{list_url(Account)}?{lookup}=1").status_code == 400
