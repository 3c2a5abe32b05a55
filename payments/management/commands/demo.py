"""`make demo`: a tour of the running server over HTTP; each step proves its balances."""

import json
import os
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.console import Console
from rich.table import Table

from core.money import format_money

CURRENCY = "MYR"
TIMEOUT_S = 15
_DEMO_FILE = settings.BASE_DIR / ".local" / "demo.env"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any


class Api:
    """The server, as a caller with a key sees it."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url.rstrip("/"), key

    def get(self, path: str) -> Answer:
        return self._call("GET", path, None, {})

    def post(self, path: str, body: dict[str, Any], *, key: str | None = None) -> Answer:
        key = key or f"demo-{secrets.token_hex(12)}"
        return self._call("POST", path, body, {"Idempotency-Key": key})

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]
    ) -> Answer:
        request = urllib.request.Request(  # noqa: S310 - the operator's own URL
            f"{self.url}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self.key}",
                "Content-Type": "application/json",
                **headers,
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
                return Answer(response.status, json.load(response))
        except urllib.error.HTTPError as error:
            try:
                return Answer(error.code, json.load(error))
            except ValueError:
                raise CommandError(f"{self.url} is not Florin: {error}.") from None
        except ValueError:
            raise CommandError(f"{self.url} is not Florin: it does not speak JSON.") from None
        except OSError as error:
            raise CommandError(f"{self.url} did not answer: {error}. Is `make run` up?") from None


class Tour:
    """The steps taken so far, and what the accounts must hold after each."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.ids: dict[str, str] = {}
        # Balance and held of each person, in minor units.
        self.expected: dict[str, tuple[int, int]] = {}
        self.table = Table(box=box.SIMPLE_HEAD)

    def open(self, name: str) -> None:
        body = {"type": "checking", "currency": CURRENCY, "name": f"{name} (demo)"}
        self.ids[name] = self.done("POST /accounts", self.api.post("/accounts", body))["id"]
        self.expected[name] = (0, 0)

    def done(self, call: str, answer: Answer) -> Any:
        if answer.status not in (200, 201):
            raise CommandError(f"{call} was answered {answer.status}: {answer.body}")
        return answer.body

    def refused(self, call: str, answer: Answer, status: int, code: str) -> None:
        if (answer.status, answer.body.get("code")) != (status, code):
            raise CommandError(f"{call} was answered {answer.status}: {answer.body}")

    def step(self, number: int, what: str, call: str, **changes: tuple[int, int]) -> None:
        """Show the step, and compare every account with what it must hold now."""
        for name, (balance, held) in changes.items():
            before = self.expected[name]
            self.expected[name] = (before[0] + balance, before[1] + held)
        cells = []
        for name, expected in self.expected.items():
            account = self.done("GET /accounts", self.api.get(f"/accounts/{self.ids[name]}"))
            found = (account["balance"], account["held"])
            if found != expected:
                raise CommandError(f"After step {number}, {name} has {found}, not {expected}.")
            reserved = f"\n({_shown(found[1])} held)" if found[1] else ""
            cells.append(_shown(found[0]) + reserved)
        self.table.add_row(str(number), f"{what}\n[dim]{call}[/dim]", *cells)


class Command(BaseCommand):
    help = "Open accounts, deposit, transfer, hold, capture, reverse; check every balance."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", help="default: FLORIN_URL of .local/demo.env")

    def handle(self, *args: Any, **options: Any) -> None:
        known = _variables()
        url = options["url"] or known["FLORIN_URL"]
        tour = Tour(Api(url, known["FLORIN_API_KEY"]))
        _play(tour, Api(url, known["FLORIN_OTHER_API_KEY"]))
        console = Console(width=110)
        console.print(tour.table)
        console.print(
            f"Every balance was read back from {url} and is what the steps before it make."
        )


def _play(tour: Tour, stranger: Api) -> None:
    api = tour.api
    for heading in ("", "Step"):
        tour.table.add_column(heading, justify="right" if not heading else "left")
    for name in ("Ada", "Ben", "Shop"):
        tour.table.add_column(name, justify="right")
        tour.open(name)
    ids = tour.ids
    tour.step(1, "Three accounts are opened", "POST /accounts")

    deposit = {"account_id": ids["Ada"], "amount": 50_000, "currency": CURRENCY}
    tour.done("POST /deposits", api.post("/deposits", deposit))
    tour.step(2, "Ada deposits 500.00", "POST /deposits", Ada=(50_000, 0))

    lunch = _order(ids["Ada"], ids["Ben"], 12_550, "Lunch")
    key = f"demo-{secrets.token_hex(12)}"
    made = tour.done("POST /transfers", api.post("/transfers", lunch, key=key))
    tour.step(3, "Ada pays Ben 125.50", "POST /transfers", Ada=(-12_550, 0), Ben=(12_550, 0))

    again = tour.done("POST /transfers", api.post("/transfers", lunch, key=key))
    if again != made:
        raise CommandError("The same key gave another transfer.")
    tour.step(4, "The same request arrives again: nothing moves", "POST /transfers, same key")

    too_much = _order(ids["Ben"], ids["Ada"], 12_551, "More than he has")
    answer = api.post("/transfers", too_much)
    tour.refused("POST /transfers", answer, 422, "insufficient_funds")
    tour.step(5, "Ben cannot pay 125.51: insufficient_funds", "POST /transfers -> 422")

    reserve = {"account_id": ids["Ada"], "amount": 8_000, "currency": CURRENCY}
    hold = tour.done("POST /holds", api.post("/holds", reserve))
    tour.step(6, "The shop reserves 80.00 of Ada's", "POST /holds", Ada=(0, 8_000))

    capture = {"destination_account_id": ids["Shop"], "amount": 7_500}
    path = f"/holds/{hold['id']}/capture"
    tour.done("POST /holds/{id}/capture", api.post(path, capture))
    tour.step(
        7,
        "It captures 75.00; 5.00 go back",
        "POST /holds/{id}/capture",
        Ada=(-7_500, -8_000),
        Shop=(7_500, 0),
    )

    path = f"/transactions/{made['id']}/reverse"
    tour.done("POST /transactions/{id}/reverse", api.post(path, {"reason": "Lunch was free"}))
    tour.step(
        8,
        "The lunch is reversed",
        "POST /transactions/{id}/reverse",
        Ada=(12_550, 0),
        Ben=(-12_550, 0),
    )

    batch = [
        _order(ids["Ada"], ids["Ben"], 1_000, "One"),
        _order(ids["Ben"], ids["Shop"], 1_001, "More than he has"),
        _order(ids["Ben"], ids["Shop"], 1_000, "What just came in"),
    ]
    body = {"mode": "independent", "transfers": batch}
    answer = api.post("/transfers/batch", body)
    counts = {name: answer.body.get(name) for name in ("posted", "refused")}
    if counts != {"posted": 2, "refused": 1}:
        raise CommandError(f"The batch was answered {answer.body}.")
    tour.step(
        9,
        "Of a batch of three, two are posted and one is refused",
        "POST /transfers/batch",
        Ada=(-1_000, 0),
        Shop=(1_000, 0),
    )

    answer = stranger.get(f"/accounts/{ids['Ada']}")
    tour.refused("GET /accounts/{id}", answer, 404, "not_found")
    tour.step(10, "Another tenant does not see Ada: not_found", "GET /accounts/{id} -> 404")

    books = tour.done("GET /ledger/trial-balance", api.get("/ledger/trial-balance"))
    if books["difference"] != 0:
        raise CommandError(f"The trial balance differs by {books['difference']}.")
    tour.step(11, "The tenant's debits equal its credits", "GET /ledger/trial-balance")


def _order(source: str, destination: str, amount: int, description: str) -> dict[str, Any]:
    return {
        "source_account_id": source,
        "destination_account_id": destination,
        "amount": amount,
        "currency": CURRENCY,
        "description": description,
    }


def _shown(minor_units: int) -> str:
    return format_money(minor_units, CURRENCY)


def _variables() -> dict[str, str]:
    """Return the demo's variables: of the environment, else of the file that `make run` wrote."""
    written = {}
    if _DEMO_FILE.exists():
        lines = _DEMO_FILE.read_text(encoding="utf-8").splitlines()
        written = dict(line.split("=", 1) for line in lines if "=" in line)
    names = ("FLORIN_URL", "FLORIN_API_KEY", "FLORIN_OTHER_API_KEY")
    found = {name: os.environ.get(name) or written.get(name, "") for name in names}
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise CommandError(f"{missing[0]} is not set: start the server with `make run` first.")
    return found
