"""Who a tenant is on its invoices, where its customers' money goes, and how it reminds."""

import datetime as dt
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import transaction

from core.changes import changed, record_change
from core.errors import InvalidRequest
from core.iso20022.accounts import (
    InvalidAccount,
    checked_account_number,
    checked_bic,
    checked_iban,
)
from core.versions import refuse_unless_as_seen, version_of
from invoices.models import InvoiceSettings

LOCALES = ("en", "id", "ms")
PAYMENT_TERMS_DAYS_MAX = 365
REMINDERS_MAX = 10
# Days from the due date.
REMINDED_FROM, REMINDED_UNTIL = -90, 365
_CHANGEABLE = tuple(
    field.name
    for field in InvoiceSettings._meta.local_fields
    if field.name not in ("id", "tenant", "updated_at")
)
_COUNTRY = re.compile("[A-Z]{2}")


def settings_version(settings: InvoiceSettings) -> str:
    """Return what an editor has seen; see core.versions."""
    return version_of(_values(settings))


def change_invoice_settings(
    *,
    tenant_id: UUID,
    changes: dict[str, Any],
    now: dt.datetime,
    as_seen: str | None = None,
) -> InvoiceSettings:
    """
    Change some of the tenant's settings; `as_seen` is the settings_version it was decided on.

    :raises InvalidRequest: an account that cannot be, or a value out of its limits
    :raises PreconditionFailed: somebody else has changed them since `as_seen`
    """
    with transaction.atomic():
        InvoiceSettings.objects.bulk_create(
            [InvoiceSettings(tenant_id=tenant_id, updated_at=now)], ignore_conflicts=True
        )
        settings = InvoiceSettings.objects.select_for_update(no_key=True).get(tenant_id=tenant_id)
        refuse_unless_as_seen(settings_version(settings), as_seen)
        before = _values(settings)
        for name, value in changes.items():
            if name not in _CHANGEABLE:
                raise InvalidRequest("This cannot be changed.", field=name)
            setattr(settings, name, value)
        _refuse_out_of_limits(settings)
        _check_account(settings)
        after = _values(settings)
        if after == before:
            return settings
        settings.updated_at = now
        settings.save()
        difference = changed(before, after)
        record_change(
            tenant_id=tenant_id,
            action="invoice_settings.changed",
            object_id=settings.pk,
            now=now,
            before=difference["before"],
            after=difference["after"],
        )
    return settings


def _values(settings: InvoiceSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in _CHANGEABLE}


def _refuse_out_of_limits(settings: InvoiceSettings) -> None:
    if settings.country and not _COUNTRY.fullmatch(settings.country):
        raise InvalidRequest("A country is two capital letters, such as ID.", field="country")
    if settings.locale not in LOCALES:
        raise InvalidRequest(f"One of {', '.join(LOCALES)}.", field="locale")
    if not 0 <= settings.payment_terms_days <= PAYMENT_TERMS_DAYS_MAX:
        raise InvalidRequest(f"0 to {PAYMENT_TERMS_DAYS_MAX} days.", field="payment_terms_days")
    days = settings.reminder_days
    if len(days) > REMINDERS_MAX or not all(REMINDED_FROM <= day <= REMINDED_UNTIL for day in days):
        raise InvalidRequest(
            f"At most {REMINDERS_MAX}, each {REMINDED_FROM} to {REMINDED_UNTIL} days from the"
            " due date.",
            field="reminder_days",
        )
    settings.reminder_days = sorted(set(days))


def _check_account(settings: InvoiceSettings) -> None:
    """
    Write the account as banks do.

    The account may be in another country than the tenant, so that only an IBAN says where it is;
    a number without one is looked at by the country of its bank's BIC.
    """
    if settings.creditor_iban and settings.creditor_account_number:
        raise InvalidRequest(
            "An account has either an IBAN or a number.", field="creditor_account_number"
        )
    if settings.creditor_bic:
        settings.creditor_bic = _checked("creditor_bic", checked_bic, settings.creditor_bic)
    if settings.creditor_iban:
        settings.creditor_iban = _checked("creditor_iban", checked_iban, settings.creditor_iban)
    if settings.creditor_account_number:
        if not settings.creditor_bic:
            raise InvalidRequest("A number needs its bank's BIC.", field="creditor_bic")
        country = settings.creditor_bic[4:6]
        settings.creditor_account_number = _checked(
            "creditor_account_number",
            lambda number: checked_account_number(number, country),
            settings.creditor_account_number,
        )


def _checked(field: str, check: Callable[[str], str], given: str) -> str:
    try:
        return check(given)
    except InvalidAccount as fault:
        raise InvalidRequest(str(fault), field=field) from fault
