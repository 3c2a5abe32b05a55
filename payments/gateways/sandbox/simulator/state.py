"""Everything the simulator knows, and the file it is kept in. One lock guards it all."""

import hashlib
import heapq
import json
import os
import secrets
import threading
import uuid
from collections import deque
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from payments.gateways.sandbox.simulator.clock import Clock
from payments.gateways.sandbox.simulator.exchange import Json, to_json
from payments.gateways.sandbox.simulator.faults import Fault

# States in which the payer has not yet done all.
OPEN: Final = frozenset({"created", "pending", "requires_action"})
# How many requests and webhook attempts are remembered for inspection.
INSPECTED_MAX = 2_000


@dataclass
class Account:
    """A merchant at one gateway, known by its key."""

    gateway: str
    key: str
    webhook_url: str = ""
    webhook_token: str = ""
    is_revoked: bool = False


@dataclass
class Payment:
    """
    Money that somebody is to pay, at any of the gateways.

    Each gateway has its own words for the same few states: created (a page nobody has chosen a
    method on), pending, requires_action, review, succeeded, failed, expired, canceled, reversed.
    """

    id: str
    gateway: str
    key: str
    # What the gateway calls it: payment, invoice, session, payment_request, snap, charge.
    kind: str
    reference: str
    # As the gateway writes amounts: minor units at the sandbox, major units elsewhere.
    amount: Decimal
    currency: str
    status: str
    created_at: float
    updated_at: float
    # Of its hosted page.
    token: str
    base_url: str
    expires_at: float | None = None
    paid_at: float | None = None
    failure_code: str | None = None
    refunded: Decimal = Decimal(0)
    card_last4: str | None = None
    notify_urls: list[str] = field(default_factory=list)
    # Where the payer goes after success, and after anything else.
    return_url: str = ""
    failure_return_url: str = ""
    # By effect: the number that goes with it.
    effects: dict[str, Any] = field(default_factory=dict)
    # What only its own gateway understands.
    extra: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.amount, self.refunded = Decimal(self.amount), Decimal(self.refunded)

    @property
    def page_url(self) -> str:
        """Its hosted page."""
        return f"{self.base_url}/checkout/{self.token}"

    @property
    def shown_amount(self) -> Decimal:
        """What answers and webhooks say, which a fault may have changed."""
        return self.amount + Decimal(self.effects.get("amount_delta", 0))

    @property
    def is_open(self) -> bool:
        """Whether it can still be paid. After a denial, a page of Snap lets the payer try again."""
        return self.status in OPEN or (self.kind == "snap" and self.status == "failed")


@dataclass
class Refund:
    """Money that goes back to the payer: pending, succeeded or failed."""

    id: str
    gateway: str
    key: str
    payment_id: str
    reference: str
    amount: Decimal
    currency: str
    status: str
    created_at: float
    updated_at: float
    failure_code: str | None = None
    extra: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.amount = Decimal(self.amount)


@dataclass
class Payout:
    """Money sent to a bank account: submitted, settled, returned or failed."""

    id: str
    gateway: str
    key: str
    reference: str
    amount: Decimal
    currency: str
    status: str
    created_at: float
    updated_at: float
    failure_code: str | None = None
    notify_urls: list[str] = field(default_factory=list)
    extra: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.amount = Decimal(self.amount)


@dataclass
class Delivery:
    """A webhook that has yet to be taken by its receiver."""

    sequence: int
    # The same at every attempt, and for a duplicate.
    event_id: str
    event: str
    gateway: str
    key: str
    url: str
    object_id: str
    # Webhooks of one payment or payout are sent one after the other, those of its refunds too.
    lane: str
    reference: str
    payload: Json
    created_at: float
    due_at: float
    attempts: int = 0
    is_forged: bool = False


@dataclass(order=True)
class Job:
    """Something that happens by itself when its time comes."""

    at: float
    sequence: int
    action: str = field(compare=False)
    # payment, refund or payout.
    kind: str = field(compare=False)
    object_id: str = field(compare=False)


@dataclass
class Settings:
    """What holds for every request and object until it is changed."""

    delay_ms: int = 0
    failure_rate: float = 0.0
    # When the late card succeeds.
    late_s: float = 3.0
    # When payouts, refunds and reversals come about.
    settle_s: float = 0.2
    # Before the first attempt, so that the answer usually comes first.
    webhook_delay_s: float = 0.05
    # 0: what each gateway documents, 30 s or 15 s.
    webhook_timeout_s: float = 0.0
    # Requests a minute and key at Xendit before it answers 429; 0: it only counts.
    rate_limit: int = 0


_RECORDS: dict[str, type[Any]] = {
    "accounts": Account,
    "payments": Payment,
    "refunds": Refund,
    "payouts": Payout,
    "deliveries": Delivery,
}


class State:
    """All objects by id, in the order in which they were made. Hold `lock` to read or write."""

    def __init__(
        self,
        *,
        seed: str | None = None,
        file: Path | None = None,
        settings: Json | None = None,
    ) -> None:
        self.lock = threading.RLock()
        # Told of every change: the background thread looks what is due.
        self.changed = threading.Condition(self.lock)
        self.clock = Clock()
        self._file = file
        self._saving = threading.Lock()
        self._version = self._saved_version = 0
        self._given_seed, self._given_settings = seed, settings or {}
        self.clear()
        if file is not None and file.exists():
            self._load(json.loads(file.read_bytes(), parse_float=Decimal))

    def clear(self) -> None:
        """Forget everything, as if just made."""
        self.seed = self._given_seed or secrets.token_hex(8)
        self.counter = 0
        self.settings = Settings(**self._given_settings)
        self.accounts: dict[str, Account] = {}
        self.payments: dict[str, Payment] = {}
        self.refunds: dict[str, Refund] = {}
        self.payouts: dict[str, Payout] = {}
        self.deliveries: dict[str, Delivery] = {}
        # All of the above by the merchant's reference.
        self._by_reference: dict[str, list[Payment | Refund | Payout]] = {}
        # Card tokens: the number is not kept, only what it does.
        self.tokens: dict[str, Json] = {}
        # By account, key and gateway's rules: the first answer.
        self.answers: dict[str, Json] = {}
        # By key, of gateways that count requests: when the minute began, and how many came in it.
        self.windows: dict[str, tuple[float, int]] = {}
        self.jobs: list[Job] = []
        self.faults: list[Fault] = []
        self.requests: deque[Json] = deque(maxlen=INSPECTED_MAX)
        self.attempts: deque[Json] = deque(maxlen=INSPECTED_MAX)
        self.clock.offset_s = 0.0

    # --- Making things -------------------------------------------------------------------------

    def next_number(self) -> int:
        """1, 2, 3, over restarts too."""
        self.counter += 1
        return self.counter

    def new_hex(self, length: int = 24) -> str:
        """Digits of a new id: the same ones for the same seed and history."""
        text = f"{self.seed}:{self.next_number()}"
        return hashlib.sha256(text.encode()).hexdigest()[:length]

    def new_uuid(self) -> str:
        """A new id that looks random."""
        return str(uuid.UUID(hex=self.new_hex(32), version=4))

    def draw(self) -> float:
        """A number in [0, 1), seeded as the ids are."""
        return int(self.new_hex(12), 16) / 16**12

    def add(self, item: Payment | Refund | Payout) -> None:
        """Take a new object in."""
        tables: dict[type[Any], dict[str, Any]] = {
            Payment: self.payments,
            Refund: self.refunds,
            Payout: self.payouts,
        }
        tables[type(item)][item.id] = item
        self._by_reference.setdefault(item.reference, []).append(item)

    def about(self, reference: str) -> list[Payment | Refund | Payout]:
        """Everything with that reference, anybody's, in the order in which it was made."""
        return self._by_reference.get(reference, [])

    def schedule(self, after_s: float, action: str, kind: str, object_id: str) -> None:
        """Let something happen that long from now."""
        at = self.clock.now() + after_s
        heapq.heappush(self.jobs, Job(at, self.next_number(), action, kind, object_id))

    def account_of(self, gateway: str, key: str) -> Account:
        """The merchant's account, made at first use."""
        return self.accounts.setdefault(f"{gateway}:{key}", Account(gateway, key))

    def commit(self) -> None:
        """Say that something has changed; call before the lock is given back."""
        self._version += 1
        self.changed.notify_all()

    # --- The file ------------------------------------------------------------------------------

    def save(self) -> None:
        """
        Return once the file has all that was committed before.

        Who comes while another writes finds its own change written by the next: a hundred requests
        at once cost two writes.
        """
        if self._file is None:
            return
        with self.lock:
            wanted = self._version
        with self._saving:
            if self._saved_version >= wanted:
                return
            with self.lock:
                version, content = self._version, to_json(self._kept())
            beside = self._file.with_name(self._file.name + ".new")
            beside.write_bytes(content)
            os.replace(beside, self._file)
            self._saved_version = version

    def _kept(self) -> Json:
        kept: Json = {name: list(getattr(self, name).values()) for name in _RECORDS}
        kept |= {name: getattr(self, name) for name in ("seed", "counter", "tokens", "answers")}
        kept |= {"settings": self.settings, "jobs": self.jobs, "faults": self.faults}
        return kept | {"offset_s": self.clock.offset_s}

    def _load(self, kept: Json) -> None:
        for name, record in _RECORDS.items():
            for values in kept[name]:
                item = record(**_floats(record, values))
                if isinstance(item, Account | Delivery):
                    getattr(self, name)[_key_of(item)] = item
                else:
                    self.add(item)
        self.seed, self.counter = kept["seed"], kept["counter"]
        self.tokens, self.answers = kept["tokens"], kept["answers"]
        self.settings = Settings(
            **_floats(Settings, kept["settings"]) | self._given_settings,
        )
        self.jobs = [Job(**_floats(Job, values)) for values in kept["jobs"]]
        self.faults = [Fault(**values) for values in kept["faults"]]
        self.clock.offset_s = float(kept["offset_s"])


def _key_of(item: Account | Delivery) -> str:
    return f"{item.gateway}:{item.key}" if isinstance(item, Account) else str(item.sequence)


def _floats(record: type[Any], values: Json) -> Json:
    """Times and rates were written as numbers, and numbers with a point are read as Decimal."""
    names = {item.name for item in fields(record) if item.type in (float, float | None)}
    return {
        name: float(value) if name in names and value is not None else value
        for name, value in values.items()
    }
