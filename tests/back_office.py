"""Somebody at the back office: what tests of its pages share."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from identity.models import Tenant, User
from identity.services import create_user
from tests.making import fresh_key


def member_of_staff(
    tenant: Tenant, role: str = "supervisor", *, is_superuser: bool = False
) -> User:
    """Return a new user without a password."""
    return create_user(
        tenant_id=tenant.pk,
        email=f"{fresh_key()}@bank.test",
        password=None,
        role=role,
        is_superuser=is_superuser,
        now=timezone.now(),
    )


def signed_in(tenant: Tenant, role: str = "supervisor", *, is_superuser: bool = False) -> Client:
    """Return a browser in which somebody of that role has signed in."""
    client = Client()
    client.force_login(member_of_staff(tenant, role, is_superuser=is_superuser))
    return client


def list_url(model: type[Model]) -> str:
    return reverse(f"admin:{_name(model)}_changelist")


def page_url(obj: Model) -> str:
    return reverse(f"admin:{_name(type(obj))}_change", args=[obj.pk])


def act_url(obj: Model, act: str) -> str:
    return reverse(f"admin:{_name(type(obj))}_{act}", args=[obj.pk])


def act(client: Client, obj: Model, name: str, /, **form: str) -> str:
    """Send an act's form, follow to where it leads, and return the page."""
    answer = client.post(act_url(obj, name), {"reason": "Because", **form}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def shown(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def page_link(html: str, which: str) -> str | None:
    """Return the query of the link to the `next` or `prev` page."""
    found = re.search(rf'rel="{which}" href="([^"#]+)', html)
    return found and found[1].replace("&amp;", "&")


@contextmanager
def no_counting() -> Iterator[CaptureQueriesContext]:
    """Refuse the statements whose cost grows with the table: COUNT, OFFSET, DISTINCT, LIKE."""
    with CaptureQueriesContext(connection) as captured:
        yield captured
    statements = [query["sql"] for query in captured.captured_queries]
    assert statements
    for statement in statements:
        assert not re.search(r"\b(COUNT|OFFSET|DISTINCT|I?LIKE)\b", statement, re.I), statement


def _name(model: type[Model]) -> str:
    return f"{model._meta.app_label}_{model._meta.model_name}"
