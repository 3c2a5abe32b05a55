"""Two tenants to play with, and .local/demo.env with their keys. Run twice, it changes nothing."""

import os
import secrets
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts import services as accounts
from accounts.models import Account
from core.errors import DomainError
from core.money import Money
from identity import queries as identity_queries
from identity import services as identity
from identity.errors import RefusedKey
from identity.models import Tenant, User
from ledger import services as ledger
from payments import services as payments
from payments.gateways.registry import credentials_of, notify_url, webhook_secrets_of
from payments.models import GatewayConfiguration

ADMIN_EMAIL = "admin@demo.test"
_NAMES = ["Ayu Lestari", "Budi Santoso", "Citra Dewi", "Daniel Tan", "Nurul Huda"]


class Command(BaseCommand):
    help = "Make the demo tenants, keys, logins and accounts; write .local/demo.env."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--path", default=str(settings.BASE_DIR / ".local" / "demo.env"))

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.IS_PRODUCTION:
            raise CommandError("Demo tenants and logins do not belong into production.")
        path = Path(options["path"])
        known = _read(path)
        now = timezone.now()
        demo = identity.tenant_named(name="Demo Bank", now=now)
        other = identity.tenant_named(name="Other Bank", now=now)
        written = {
            "FLORIN_URL": os.environ.get("FLORIN_URL", "http://127.0.0.1:8000"),
            "FLORIN_API_KEY": _key(demo, known.get("FLORIN_API_KEY")),
            "FLORIN_OTHER_API_KEY": _key(other, known.get("FLORIN_OTHER_API_KEY")),
            "SANDBOX_URL": settings.GATEWAY_URLS["sandbox", "test"],
            "FLORIN_ADMIN_EMAIL": ADMIN_EMAIL,
            "FLORIN_ADMIN_PASSWORD": _admin(demo, known.get("FLORIN_ADMIN_PASSWORD")),
        }
        _write(path, written)
        _seed_accounts(demo.pk)
        _seed_gateways(demo.pk)
        self.stdout.write(f"Demo tenants are ready; keys and logins are in {path.name}.")


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return dict(line.split("=", 1) for line in lines)


def _write(path: Path, values: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: a reader never sees half of it. For the owner's eyes only.
    draft = path.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    draft.replace(path)


def _key(tenant: Tenant, known: str | None) -> str:
    if known:
        try:
            verified = identity_queries.principal_of_key(key=known, now=timezone.now())
        except (DomainError, RefusedKey):
            pass  # Revoked, or of a database that is gone: make another.
        else:
            if verified.principal.tenant_id == tenant.pk:
                return known
    issued = identity.create_api_key(
        tenant_id=tenant.pk, name="Demo", scopes=["read", "write", "admin"], now=timezone.now()
    )
    return issued.clear


def _admin(tenant: Tenant, known: str | None) -> str:
    user = User.objects.filter(email=ADMIN_EMAIL).first()
    if user is not None and known and user.check_password(known):
        return known
    password = secrets.token_urlsafe(12)
    if user is None:
        identity.create_user(
            tenant_id=tenant.pk,
            email=ADMIN_EMAIL,
            password=password,
            role=User.Role.ADMIN,
            full_name="Demo Admin",
            is_superuser=True,
            now=timezone.now(),
        )
    else:
        user.set_password(password)
        user.save(update_fields=["password"])
    return password


def _seed_accounts(tenant_id: UUID) -> None:
    """Five customers, some history, one hold, one frozen account. By fixed keys: once."""
    now = timezone.now()
    made = [_account(tenant_id, number, name) for number, name in enumerate(_NAMES, 1)]
    if made[-1].status == Account.Status.FROZEN:
        return
    for number, account in enumerate(made, 1):
        payments.make_deposit(
            tenant_id=tenant_id,
            deposit=payments.CashMovement(
                account.pk,
                Money(number * 150_000, "MYR"),
                f"demo:deposit:{number}",
                description="Opening deposit",
            ),
            now=now,
        )
    for number in range(1, 25):
        source, destination = made[number % 5], made[(number * 3 + 1) % 5]
        if source.pk != destination.pk:
            payments.make_transfer(
                tenant_id=tenant_id,
                transfer=payments.Transfer(
                    source.pk,
                    destination.pk,
                    Money(1_250 * number, "MYR"),
                    f"demo:transfer:{number}",
                    description=f"Invoice {1000 + number}",
                ),
            )
    ledger.place_hold(
        tenant_id=tenant_id,
        account_id=made[1].pk,
        amount=Money(20_000, "MYR"),
        idempotency_key="demo:hold:1",
        expires_at=None,
        description="Hotel, two nights",
        now=now,
    )
    accounts.freeze_account(
        tenant_id=tenant_id, account_id=made[-1].pk, reason="Documents are missing", now=now
    )


def _seed_gateways(tenant_id: UUID) -> None:
    """The sandbox, Xendit and Midtrans as the simulator plays them, and a bank by file. Once."""
    simulator = settings.GATEWAY_URLS["sandbox", "test"]
    if not simulator:
        return
    now = timezone.now()
    known = GatewayConfiguration.objects.filter(tenant_id=tenant_id)
    for new in _GATEWAYS:
        if not known.filter(gateway=new["gateway"]).exists():
            payments.add_gateway(
                tenant_id=tenant_id,
                new=payments.NewGateway(mode="test", **_with_secrets(new)),
                now=now,
            )
    xendit = known.filter(gateway="xendit", deleted_at=None).first()
    if xendit is None or not settings.GATEWAY_URLS["xendit", "test"].startswith(simulator):
        return
    # What one enters in Xendit's dashboard.
    [token] = webhook_secrets_of(xendit, now)[:1]
    account = {
        "gateway": "xendit",
        "key": credentials_of(xendit)["secret_key"],
        "webhook_url": notify_url(xendit),
        "webhook_token": token,
    }
    httpx.post(f"{simulator}/_sim/accounts", json=account, timeout=10).raise_for_status()


_GATEWAYS: list[dict[str, Any]] = [
    {
        "gateway": "sandbox",
        "name": "Sandbox",
        "currencies": ["MYR", "USD", "EUR", "IDR", "SGD"],
        "priority": 10,
        "credentials": {"secret_key": "sk_sandbox_{}"},
    },
    {
        "gateway": "xendit",
        "name": "Xendit, simulated",
        "currencies": ["IDR", "MYR", "USD"],
        "priority": 20,
        "credentials": {"secret_key": "xnd_development_{}"},
        "webhook_secret": "callback-{}",
    },
    {
        "gateway": "midtrans",
        "name": "Midtrans, simulated",
        "currencies": ["IDR"],
        "priority": 30,
        "credentials": {"server_key": "SB-Mid-server-{}"},
    },
    {
        "gateway": "bank_file",
        "name": "House bank, by file",
        "currencies": ["EUR"],
        "priority": 40,
        "credentials": {
            "debtor_name": "Demo Bank",
            "debtor_account": "DE75512108001245126199",
            "debtor_country": "DE",
            "debtor_bic": "SOGEDEFFXXX",
            "debtor_town": "Berlin",
        },
    },
]


def _with_secrets(new: dict[str, Any]) -> dict[str, Any]:
    """Return the gateway with secrets of its own where the braces are."""
    made = {**new, "credentials": {}}
    for name, value in new["credentials"].items():
        made["credentials"][name] = value.format(secrets.token_hex(16))
    if "webhook_secret" in new:
        made["webhook_secret"] = new["webhook_secret"].format(secrets.token_hex(16))
    return made


def _account(tenant_id: UUID, number: int, name: str) -> Account:
    external_id = f"demo:{number}"
    found = Account.objects.filter(tenant_id=tenant_id, external_id=external_id).first()
    return found or accounts.open_account(
        tenant_id=tenant_id,
        new=accounts.NewAccount(
            type="checking" if number % 2 else "saving",
            currency="MYR",
            name=name,
            external_id=external_id,
        ),
        now=timezone.now(),
    )
