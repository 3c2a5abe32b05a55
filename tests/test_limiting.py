"""S13: the rate limit is exact, and nobody gets around it. Against a real Redis."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.conf import LazySettings
from django.http import HttpRequest
from django.test import RequestFactory
from django.utils import timezone

from core import limiting
from core.addresses import client_address
from core.ids import new_id
from core.limiting import SLOTS, WINDOW_S, count_request, spread_the_end_of
from core.metrics import rate_limit_skipped_total
from identity.models import Tenant
from identity.services import create_api_key
from tests import making
from tests.contract import ContractClient


def new_network() -> str:
    """An address in a network of its own: those of one /64 count together."""
    return f"2001:db8:{new_id().hex[-8:-4]}:{new_id().hex[-4:]}::1"


def somebody() -> str:
    return f"test:{new_id()}"


def test_it_works() -> None:
    who = somebody()

    first = count_request(who=who, limit=3)

    assert first is not None
    assert (first.is_allowed, first.limit, first.remaining, first.is_ended) == (True, 3, 2, False)
    assert WINDOW_S - 1 <= first.reset_s <= WINDOW_S + 1


def test_s13_the_limit_is_the_limit_however_many_ask_at_once() -> None:
    who = somebody()
    with ThreadPoolExecutor(50) as pool:
        standings = list(pool.map(lambda _: count_request(who=who, limit=100), range(400)))

    allowed = [each for each in standings if each is not None and each.is_allowed]
    assert len(allowed) == 100
    assert sorted(each.remaining for each in allowed) == list(range(100))
    refused = [each for each in standings if each is not None and not each.is_allowed]
    assert all(each.remaining == 0 and each.reset_s > 0 for each in refused)


def test_a_redis_that_was_restarted_is_asked_again(settings: LazySettings) -> None:
    """The link is dead and the script forgotten, and no request notices."""
    who = somebody()
    assert count_request(who=who, limit=3) is not None
    own = redis.Redis.from_url(settings.REDIS_URL)

    # Not those of the tests beside us.
    assert own.client_kill_filter(_id=str(limiting._link._ask("CLIENT", "ID"))) == 1
    own.script_flush()
    standing = count_request(who=who, limit=3)

    assert standing is not None
    assert standing.remaining == 1


def test_callers_do_not_count_for_each_other() -> None:
    one, other = somebody(), somebody()
    count_request(who=one, limit=1)

    standing = count_request(who=other, limit=1)

    assert standing is not None
    assert standing.is_allowed


class Clock:
    """The script with a clock of ours in the place of Redis's, at milliseconds from an hour on."""

    def __init__(self, client: "redis.Redis") -> None:
        text = limiting._script.replace("redis.call('TIME')", "{ARGV[4], ARGV[5]}")
        assert text != limiting._script
        self._script = client.register_script(text)
        self.who = f"florin:rate:{somebody()}"

    def ask(self, ms: int, limit: int) -> tuple[bool, int, int]:
        seconds, rest = divmod(3_600_000 + ms, 1000)
        allowed, remaining, reset_ms, _ = self._script(
            keys=[self.who, ""], args=[limit, WINDOW_S * 1000, SLOTS, seconds, rest * 1000]
        )
        return bool(allowed), int(remaining), int(reset_ms)


@pytest.fixture
def clock(settings: LazySettings) -> Clock:
    return Clock(redis.Redis.from_url(settings.REDIS_URL))


def test_s13_no_minute_anywhere_has_more_than_the_limit(clock: Clock) -> None:
    """Not the calendar's minutes: at their border twice the limit would get through."""
    slot_ms = WINDOW_S * 1000 // SLOTS
    allowed = [ms for ms in range(0, 300_000, 97) if clock.ask(ms, 50)[0]]

    for index, ms in enumerate(allowed):
        within = [other for other in allowed[index:] if other - ms < WINDOW_S * 1000]
        assert len(within) <= 50
    # And no less than was promised: a place is free again a slot after its minute at the latest.
    assert len(allowed) >= 50 * (300_000 // (WINDOW_S * 1000 + slot_ms))


def test_a_place_is_free_when_the_answer_said(clock: Clock) -> None:
    for ms in (0, 20_000):
        clock.ask(ms, 2)
    allowed, remaining, reset_ms = clock.ask(30_000, 2)
    assert (allowed, remaining) == (False, 0)

    assert clock.ask(30_000 + reset_ms - 1, 2)[0] is False
    assert clock.ask(30_000 + reset_ms, 2)[0] is True
    # The other one is still in its minute.
    assert clock.ask(30_000 + reset_ms + 1, 2)[0] is False


def test_refusals_do_not_count(clock: Clock) -> None:
    clock.ask(0, 1)
    for ms in range(1_000, 60_000, 1_000):
        assert not clock.ask(ms, 1)[0]

    assert clock.ask(61_000, 1)[0]


def test_a_clock_that_goes_back_lets_nobody_in(clock: Clock) -> None:
    clock.ask(50_000, 1)

    assert not clock.ask(1_000, 1)[0]
    assert clock.ask(111_000, 1)[0]


def test_old_counts_leave_redis(settings: LazySettings) -> None:
    who = somebody()
    count_request(who=who, limit=5)

    left_ms = redis.Redis.from_url(settings.REDIS_URL).pttl(f"florin:rate:{who}")

    assert 0 < left_ms <= (WINDOW_S + 2) * 1000


# --- Over HTTP -----------------------------------------------------------------------------------
def test_s13_the_request_after_the_last_is_refused(tenant: Tenant, settings: LazySettings) -> None:
    settings.RATE_LIMIT = 5
    api = making.api_client(tenant)

    for left in (4, 3, 2, 1, 0):
        answer = api.get("/api/v1/me")
        assert answer.status_code == 200
        assert (answer["RateLimit-Limit"], answer["RateLimit-Remaining"]) == ("5", str(left))
        assert 1 <= int(answer["RateLimit-Reset"]) <= WINDOW_S + 1
    refused = api.get("/api/v1/me")

    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused["RateLimit-Remaining"] == "0"
    assert refused["Retry-After"] == refused["RateLimit-Reset"]


def test_a_key_may_have_a_limit_of_its_own(tenant: Tenant, settings: LazySettings) -> None:
    settings.RATE_LIMIT = 100
    api = making.api_client(tenant)
    made = api.post_once("/api-keys", {"name": "k", "scopes": ["read"], "rate_limit": 2}).json()
    client = making.client_of(made["key"])

    statuses = [client.get("/api/v1/me").status_code for _ in range(3)]

    assert statuses == [200, 200, 429]


def test_s13_other_ways_to_write_an_address_count_too(
    tenant: Tenant, settings: LazySettings
) -> None:
    settings.RATE_LIMIT = 6
    api = making.api_client(tenant)
    for ask in (api.get, api.head, api.options, api.put):
        ask("/api/v1/me")
    api.get("/api/v1/me?x=1")
    api.get("/api/v1/accounts?limit=1")

    assert api.get("/api/v1/me").status_code == 429


def test_s13_a_rotated_key_goes_on_counting(tenant: Tenant, settings: LazySettings) -> None:
    settings.RATE_LIMIT = 3
    boss = making.api_client(tenant)
    made = boss.post_once("/api-keys", {"name": "k", "scopes": ["read"]}).json()
    client = making.client_of(made["key"])
    assert [client.get("/api/v1/me").status_code for _ in range(3)] == [200] * 3

    rotated = boss.put(f"/api/v1/api-keys/{made['id']}/rotate", {}).json()

    assert making.client_of(rotated["key"]).get("/api/v1/me").status_code == 429


def test_s13_wrong_credentials_count_for_their_address(
    tenant: Tenant, settings: LazySettings
) -> None:
    settings.RATE_LIMIT_ANONYMOUS = 3
    address = new_network()
    stranger = making.client_of("florin_test_0000000000000000_" + "0" * 64)

    statuses = [stranger.get("/api/v1/me", REMOTE_ADDR=address).status_code for _ in range(4)]

    assert statuses == [401, 401, 401, 429]
    # Those with good ones are not held up by them.
    assert making.api_client(tenant).get("/api/v1/me", REMOTE_ADDR=address).status_code == 200


def test_s13_signing_in_counts_too(db: None, settings: LazySettings) -> None:
    settings.RATE_LIMIT_ANONYMOUS = 2
    address = new_network()
    body = {"email": "x@bank.test", "password": "wrong-password-here"}

    statuses = [
        ContractClient().post("/api/v1/auth/token", body, REMOTE_ADDR=address).status_code
        for _ in range(3)
    ]

    assert statuses == [401, 401, 429]


def test_s13_a_forged_address_changes_nothing(db: None, settings: LazySettings) -> None:
    settings.RATE_LIMIT_ANONYMOUS = 3
    address = new_network()

    statuses = [
        ContractClient()
        .get(
            "/api/v1/me",
            REMOTE_ADDR=address,
            headers={"X-Forwarded-For": f"192.0.2.{number}", "X-Real-IP": "192.0.2.99"},
        )
        .status_code
        for number in range(4)
    ]

    assert statuses == [401, 401, 401, 429]


# --- Whose address it is -----------------------------------------------------------------------
def request_from(peer: str, forwarded: str | None) -> HttpRequest:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "seen"),
    [
        (0, None, "10.0.0.1"),
        (0, "192.0.2.7", "10.0.0.1"),
        (1, "192.0.2.7", "192.0.2.7"),
        (1, "6.6.6.6, 192.0.2.7", "192.0.2.7"),
        (2, "6.6.6.6, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
        # It came around a proxy, or that one is broken: the connection is all we know.
        (1, None, "10.0.0.1"),
        (2, "192.0.2.7", "10.0.0.1"),
        (1, "rubbish", "10.0.0.1"),
        (1, "192.0.2.7, ", "10.0.0.1"),
        (1, "::ffff:192.0.2.7", "192.0.2.7"),
        (1, "2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_proxies_are_counted_from_our_end(
    settings: LazySettings, proxies: int, forwarded: str | None, seen: str
) -> None:
    settings.TRUSTED_PROXIES = proxies

    assert client_address(request_from("10.0.0.1", forwarded)) == seen


# --- Redis down ------------------------------------------------------------------------------
def test_s13_without_redis_requests_go_on_and_somebody_hears_of_it(
    tenant: Tenant,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = making.api_client(tenant)
    monkeypatch.setattr(limiting, "_asks_again_at", 0.0)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    settings.RATE_LIMIT = 1
    before = rate_limit_skipped_total._value.get()

    answers = [api.get("/api/v1/me") for _ in range(3)]

    assert [each.status_code for each in answers] == [200] * 3
    assert all("RateLimit-Limit" not in each for each in answers)
    assert rate_limit_skipped_total._value.get() == before + 3
    # One asked; for a second, the others did not.
    assert caplog.text.count("rate limit not counted") == 1


def test_a_redis_that_hangs_costs_one_request_its_time_out(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:

    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        monkeypatch.setattr(limiting, "_asks_again_at", 0.0)
        began = time.monotonic()
        assert [count_request(who="x", limit=1) for _ in range(20)] == [None] * 20
        # Its time-out once, not twenty times.
        assert time.monotonic() - began < 10 * limiting.TIMEOUT_S


def test_a_dead_credential_is_told_without_redis_too(
    tenant: Tenant, settings: LazySettings
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    spread_the_end_of([b"x" * 32])

    # Nothing is raised: the database says it, within API_KEY_CACHE_S.


# --- Keys that end -------------------------------------------------------------------------------
def test_another_process_hears_at_once_that_a_key_has_ended(
    tenant: Tenant, settings: LazySettings
) -> None:
    """This process trusts a key for a minute here, and another has revoked it."""
    settings.API_KEY_CACHE_S = 60.0
    issued = create_api_key(tenant_id=tenant.pk, name="k", scopes=["read"], now=timezone.now())
    client = making.client_of(issued.clear)
    assert client.get("/api/v1/me").status_code == 200

    done = threading.Thread(target=spread_the_end_of, args=([bytes(issued.api_key.digest)],))
    done.start()
    done.join()

    answer = client.get("/api/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "key_revoked")


def test_threads_come_and_go_and_the_limit_stays() -> None:
    """More threads than a pool of Redis's client has connections, one after the other."""
    who = f"test:{new_id()}"
    counted = []
    for _ in range(150):
        thread = threading.Thread(
            target=lambda: counted.append(count_request(who=who, limit=1_000))
        )
        thread.start()
        thread.join()

    assert None not in counted
    assert len(counted) == 150
