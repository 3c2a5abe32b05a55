"""Every code of the error table, by a request that earns it; a new code fails until it has one."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import Account
from core.api.catalogue import ErrorCode, error_codes
from core.money import BALANCE_MAX
from core.permissions import Role
from identity.models import Tenant
from identity.services import begin_enrolment, create_api_key, revoke_api_key
from invoices.errors import PaymentInProgress
from invoices.services import Choice, open_checkout
from tests import gateways, making, saving
from tests.contract import ContractClient
from tests.serving import database_url

pytestmark = pytest.mark.django_db(transaction=True)

PASSWORD = "a-long-password-of-hers"
OPENING = {"type": "checking", "currency": "USD"}


class Scene:
    """A tenant with a key and two accounts; what is asked of it is in `ask_…`."""

    def __init__(
        self, tenant: Tenant, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.tenant, self.settings, self.monkeypatch = tenant, settings, monkeypatch
        self.api = making.api_client(tenant)
        self.ada = making.open_account(tenant, balance=1_000)
        self.ben = making.open_account(tenant)

    def transfer(self, key: str | None = None, **changes: Any) -> Any:
        order = {
            "source_account_id": str(self.ada.pk),
            "destination_account_id": str(self.ben.pk),
            "amount": 10,
            "currency": "USD",
            **changes,
        }
        return self.api.post_once("/transfers", order, key=key)

    def ask_idempotency_key_required(self) -> Any:
        return self.api.post("/api/v1/deposits", {})

    def ask_invalid_request(self) -> Any:
        return self.transfer(amount=-1)

    def ask_invalid_credentials(self) -> Any:
        body = {"email": "nobody@bank.test", "password": PASSWORD}
        return ContractClient().post("/api/v1/auth/token", body)

    def ask_invalid_token(self) -> Any:
        return making.client_of("eyJ.eyJ.x").get("/api/v1/me")

    def ask_key_expired(self) -> Any:
        return self._ask_with_key(expires_at=timezone.now() - dt.timedelta(hours=1))

    def ask_key_revoked(self) -> Any:
        return self._ask_with_key(is_revoked=True)

    def ask_not_authenticated(self) -> Any:
        return ContractClient().get("/api/v1/me")

    def ask_otp_required(self) -> Any:
        user = making.person(self.tenant, Role.OPERATOR, password=PASSWORD)
        begin_enrolment(user=user)
        TOTPDevice.objects.update(confirmed=True)
        return self._sign_in(user.email)

    def ask_second_factor_required(self) -> Any:
        self.settings.STAFF_SECOND_FACTOR_REQUIRED = True
        return self._sign_in(making.person(self.tenant, Role.OPERATOR, password=PASSWORD).email)

    def ask_permission_denied(self) -> Any:
        return making.api_client(self.tenant, "read").post_once("/accounts", OPENING)

    def ask_not_found(self) -> Any:
        return self.api.get(f"/api/v1/accounts/{self.tenant.pk}")

    def ask_method_not_allowed(self) -> Any:
        return self.api.delete(f"/api/v1/accounts/{self.ada.pk}")

    def ask_not_acceptable(self) -> Any:
        return self.api.get("/api/v1/me", headers={"Accept": "text/csv"})

    def ask_already_exists(self) -> Any:
        self.api.post_once("/accounts", {**OPENING, "external_id": "one"})
        return self.api.post_once("/accounts", {**OPENING, "external_id": "one"})

    def ask_already_reversed(self) -> Any:
        path = f"/transactions/{self.transfer().json()['id']}/reverse"
        self.api.post_once(path, {"reason": "x"})
        return self.api.post_once(path, {"reason": "x"})

    def ask_invalid_state(self) -> Any:
        return self.api.post_once(f"/accounts/{self.ada.pk}/close", {"reason": "x"})

    def ask_locked(self) -> Any:
        with self._another() as other:
            other.execute("SELECT 1 FROM accounts_account WHERE id = %s FOR UPDATE", [self.ada.pk])
            return self.transfer()

    def ask_request_in_progress(self) -> Any:
        with self._another() as other:
            other.execute(
                "INSERT INTO core_idempotencyrecord (tenant_id, key, fingerprint, created_at)"
                " VALUES (%s, 'k', '', now())",
                [self.tenant.pk],
            )
            answer = self.api.post_once("/accounts", OPENING, key="k")
            other.rollback()
            return answer

    def ask_precondition_failed(self) -> Any:
        return self.api.patch(
            f"/api/v1/accounts/{self.ada.pk}", {"name": "x"}, headers={"If-Match": '"stale"'}
        )

    def ask_payload_too_large(self) -> Any:
        return self.api.post_once("/transfers/batch", {"transfers": [{}] * 10_001})

    def ask_unsupported_media_type(self) -> Any:
        headers = {"Idempotency-Key": "k"}
        return self.api.post("/api/v1/transfers", "a,b", content_type="text/csv", headers=headers)

    def ask_account_closed(self) -> Any:
        self.api.post_once(f"/accounts/{self.ben.pk}/close", {"reason": "x"})
        return self.transfer()

    def ask_account_frozen(self) -> Any:
        self.api.post_once(f"/accounts/{self.ben.pk}/freeze", {"reason": "x"})
        return self.transfer()

    def ask_account_locked(self) -> Any:
        later = timezone.now() + dt.timedelta(days=1)
        Account.objects.filter(pk=self.ada.pk).update(debit_locked_until=later)
        return self.transfer()

    def ask_savings_plan_locked(self) -> Any:
        later = timezone.now() + dt.timedelta(days=2)
        plan = saving.locked_plan(self.ada, later.date(), now=timezone.now())
        return self.api.post_once(f"/savings-plans/{plan.pk}/withdraw", {"amount": 1})

    def ask_balance_out_of_range(self) -> Any:
        for _ in range(BALANCE_MAX // 9_000_000_000_000_000):
            last = self._deposit(9_000_000_000_000_000)
            if last.status_code != 201:
                break
        return last

    def ask_capture_exceeds_hold(self) -> Any:
        return self._capture(6)

    def ask_currency_mismatch(self) -> Any:
        return self.transfer(currency="EUR")

    def ask_idempotency_conflict(self) -> Any:
        self.transfer(key="k")
        return self.transfer(key="k", amount=11)

    def ask_insufficient_funds(self) -> Any:
        return self.transfer(amount=1_001)

    def ask_overdraft_in_use(self) -> Any:
        path = f"/api/v1/accounts/{self.ada.pk}"
        self.api.patch(path, {"overdraft_limit": 500})
        self.transfer(amount=1_400)
        return self.api.patch(path, {"overdraft_limit": 100})

    def ask_unbalanced(self) -> Any:
        legs = [
            {"account_id": str(self.ada.pk), "amount": -1},
            {"account_id": str(self.ben.pk), "amount": 2},
        ]
        return self.api.post_once("/transactions", {"currency": "USD", "entries": legs})

    def ask_rate_limited(self) -> Any:
        self.settings.RATE_LIMIT = 1
        self.api.get("/api/v1/me")
        return self.api.get("/api/v1/me")

    def ask_internal_error(self) -> Any:
        self._break("identity.api.views.who_is", RuntimeError("broken"))
        key = create_api_key(
            tenant_id=self.tenant.pk, name="k", scopes=["read"], now=timezone.now()
        )
        headers = {"Authorization": f"Bearer {key.clear}"}
        return Client(raise_request_exception=False).get("/api/v1/me", headers=headers)

    def ask_no_gateway(self) -> Any:
        return self._top_up()

    def ask_currency_not_supported_by_gateway(self) -> Any:
        gateways.add_midtrans(self.tenant)
        return self._top_up(gateway="midtrans")

    def ask_card_data_refused(self) -> Any:
        gateways.add_xendit(self.tenant)
        return self._top_up()

    def ask_gateway_error(self) -> Any:
        # A key of no shape that the sandbox knows.
        gateways.add_sandbox(self.tenant, credentials={"secret_key": "wrong"})
        return self._top_up()

    def ask_refund_exceeds_payment(self) -> Any:
        gateways.add_sandbox(self.tenant)
        topup = self._top_up().json()["id"]
        return self.api.post_once(f"/topups/{topup}/refunds", {"amount": 11, "reason": "x"})

    def ask_schedule_mismatch(self) -> Any:
        today = timezone.now().date().isoformat()
        return self._invoice(installments=[{"due_date": today, "amount": 9}])

    def ask_invoice_not_payable(self) -> Any:
        draft = self._invoice(finalize=False).json()["id"]
        return self.api.post_once(f"/invoices/{draft}/apply-credit", {})

    def ask_not_enough_credit(self) -> Any:
        return self.api.post_once(f"/invoices/{self._invoice().json()['id']}/apply-credit", {})

    def ask_credit_exceeds_invoice(self) -> Any:
        path = f"/invoices/{self._invoice().json()['id']}/credit-notes"
        return self.api.post_once(path, {"amount": 11, "reason": "x"})

    def ask_payment_in_progress(self) -> Any:
        gateways.add_sandbox(self.tenant)
        made = self._invoice().json()
        token = made["payment_url"].rpartition("/")[2]
        with self._another() as other:
            other.execute("SELECT 1 FROM invoices_invoice WHERE id = %s FOR UPDATE", [made["id"]])
            with pytest.raises(PaymentInProgress) as refusal:
                open_checkout(token=token, choice=Choice(), now=timezone.now())
        # Payers pay on a page; the API would say it so.
        self._break("invoices.services.apply_credit", refusal.value)
        return self.api.post_once(f"/invoices/{made['id']}/apply-credit", {})

    def _invoice(self, **more: Any) -> Any:
        line = {"description": "Coffee", "quantity": 1, "unit_amount": 10}
        body = {"currency": "USD", "line_items": [line], "finalize": True, **more}
        return self.api.post_once("/invoices", body)

    def ask_invalid_signature(self) -> Any:
        gateway = gateways.add_sandbox(self.tenant)
        return ContractClient().post(f"/api/v1/webhooks/gateways/sandbox/{gateway.pk}", {})

    def _top_up(self, **more: Any) -> Any:
        body = {"amount": 10, "currency": "USD", "payment_method": gateways.card(), **more}
        return self.api.post_once(f"/accounts/{self.ada.pk}/topup", body)

    def ask_unavailable(self) -> Any:
        from django.db import OperationalError

        self._break("identity.api.views.who_is", OperationalError("gone"))
        return self.api.get("/api/v1/me")

    def _ask_with_key(self, *, is_revoked: bool = False, **more: Any) -> Any:
        now = timezone.now()
        issued = create_api_key(
            tenant_id=self.tenant.pk,
            name="k",
            scopes=["read"],
            now=now - dt.timedelta(days=1),
            **more,
        )
        if is_revoked:
            revoke_api_key(tenant_id=self.tenant.pk, api_key_id=issued.api_key.pk, now=now)
        return making.client_of(issued.clear).get("/api/v1/me")

    def _sign_in(self, email: str) -> Any:
        body = {"email": email, "password": PASSWORD}
        return ContractClient().post("/api/v1/auth/token", body)

    def _deposit(self, amount: int) -> Any:
        body = {"account_id": str(self.ada.pk), "amount": amount, "currency": "USD"}
        return self.api.post_once("/deposits", body)

    def _capture(self, amount: int) -> Any:
        body = {"account_id": str(self.ada.pk), "amount": 5, "currency": "USD"}
        hold = self.api.post_once("/holds", body).json()["id"]
        return self.api.post_once(
            f"/holds/{hold}/capture",
            {"destination_account_id": str(self.ben.pk), "amount": amount},
        )

    def _break(self, part: str, fault: Exception) -> None:
        def broken(**_: Any) -> None:
            raise fault

        self.monkeypatch.setattr(part, broken)

    def _another(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(database_url())


@pytest.mark.parametrize("expected", error_codes(), ids=lambda each: each.code)
def test_a_code_is_what_it_says(
    tenant: Tenant,
    sandbox: gateways.Sandbox,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
    expected: ErrorCode,
) -> None:
    scene = Scene(tenant, settings, monkeypatch)
    ask: Callable[[], Any] = getattr(scene, f"ask_{expected.code}")

    answer = ask()

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (expected.http_status, expected.code)
    assert problem["title"] == expected.title
    assert problem["detail"]
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"/api/docs/errors#{expected.code}"
    assert problem["request_id"] == answer["X-Request-Id"]
    assert ("Retry-After" in answer) is (expected.http_status in (429, 503))
    assert ("WWW-Authenticate" in answer) is (expected.http_status == 401)
