"""
Who may do what: the one table. The API, the back office and docs/permissions.md all read it.

A person's role decides, a key's scope. Customers reach their own accounts only, wherever they are
let in at all. `manage.py show_permissions` prints the table.
"""

from dataclasses import dataclass
from enum import StrEnum

from django.db.models import TextChoices


class Role(TextChoices):
    # Own accounts only.
    CUSTOMER = "customer"
    # Works with accounts and money.
    OPERATOR = "operator"
    # Also undoes, and lets loose what was stopped.
    SUPERVISOR = "supervisor"
    # Also people, keys and settings.
    ADMIN = "admin"
    # Reads everything, changes nothing.
    AUDITOR = "auditor"


class Scope(TextChoices):
    READ = "read"
    WRITE = "write"
    # Implies the others.
    ADMIN = "admin"


class Permission(StrEnum):
    KNOW_ONESELF = "me.view"
    VIEW_ACCOUNTS = "accounts.view"
    OPEN_ACCOUNTS = "accounts.open"
    CHANGE_ACCOUNTS = "accounts.change"
    FREEZE_ACCOUNTS = "accounts.freeze"
    UNFREEZE_ACCOUNTS = "accounts.unfreeze"
    VIEW_TRANSACTIONS = "transactions.view"
    VIEW_HOLDS = "holds.view"
    VIEW_TRIAL_BALANCE = "trial_balance.view"
    MAKE_TRANSFERS = "transfers.make"
    MAKE_TRANSFER_BATCHES = "transfers.make_batches"
    MOVE_CASH = "cash.move"
    PLACE_HOLDS = "holds.place"
    RELEASE_HOLDS = "holds.release"
    REVERSE_TRANSACTIONS = "transactions.reverse"
    POST_JOURNALS = "journals.post"
    VIEW_PAYMENTS = "payments.view"
    MAKE_TOPUPS = "topups.make"
    REFUND_TOPUPS = "topups.refund"
    MAKE_PAYOUTS = "payouts.make"
    EXCHANGE_PAYOUT_FILES = "payouts.exchange_files"
    VIEW_DISCREPANCIES = "discrepancies.view"
    RESOLVE_DISCREPANCIES = "discrepancies.resolve"
    VIEW_INVOICES = "invoices.view"
    MAKE_INVOICES = "invoices.make"
    VOID_INVOICES = "invoices.void"
    REFUND_INVOICES = "invoices.refund"
    MANAGE_INVOICE_SETTINGS = "invoices.manage_settings"
    VIEW_REPORTS = "reports.view"
    VIEW_RECURRING_PAYMENTS = "recurring_payments.view"
    MANAGE_RECURRING_PAYMENTS = "recurring_payments.manage"
    VIEW_SAVINGS_PLANS = "savings_plans.view"
    MANAGE_SAVINGS_PLANS = "savings_plans.manage"
    SET_SAVINGS_RATES = "savings_plans.set_rates"
    REQUEST_EARLY_RELEASE = "savings_plans.request_release"
    DECIDE_EARLY_RELEASE = "savings_plans.decide_release"
    VIEW_CALENDAR = "calendar.view"
    MANAGE_CALENDAR = "calendar.manage"
    VIEW_GATEWAYS = "gateways.view"
    MANAGE_GATEWAYS = "gateways.manage"
    VIEW_WEBHOOKS = "webhooks.view"
    REPLAY_WEBHOOKS = "webhooks.replay"
    VIEW_USERS = "users.view"
    MANAGE_USERS = "users.manage"
    VIEW_API_KEYS = "api_keys.view"
    MANAGE_API_KEYS = "api_keys.manage"
    VIEW_AUDIT = "audit.view"
    VIEW_METRICS = "metrics.view"
    MOVE_TEST_CLOCK = "test_clock.move"
    VIEW_JOBS = "jobs.view"
    MANAGE_JOBS = "jobs.manage"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a permission is for, and who has it."""

    what: str
    scope: Scope
    roles: frozenset[Role]


_STAFF = frozenset({Role.OPERATOR, Role.SUPERVISOR, Role.ADMIN})
_SEEING_STAFF = _STAFF | {Role.AUDITOR}
_EVERYBODY = _SEEING_STAFF | {Role.CUSTOMER}
_SUPERVISORS = frozenset({Role.SUPERVISOR, Role.ADMIN})
_ADMINS = frozenset({Role.ADMIN})
_P = Permission

RULES: dict[Permission, Rule] = {
    _P.KNOW_ONESELF: Rule("ask who one is", Scope.READ, _EVERYBODY),
    _P.VIEW_ACCOUNTS: Rule("see accounts, balances, entries, statements", Scope.READ, _EVERYBODY),
    _P.OPEN_ACCOUNTS: Rule("open accounts", Scope.WRITE, _STAFF),
    _P.CHANGE_ACCOUNTS: Rule(
        "change an account's name, metadata, overdraft limit", Scope.WRITE, _SUPERVISORS
    ),
    _P.FREEZE_ACCOUNTS: Rule("freeze an account", Scope.WRITE, _STAFF),
    _P.UNFREEZE_ACCOUNTS: Rule("unfreeze or close an account", Scope.WRITE, _SUPERVISORS),
    _P.VIEW_TRANSACTIONS: Rule("see transactions and transfers", Scope.READ, _EVERYBODY),
    _P.VIEW_HOLDS: Rule("see holds", Scope.READ, _EVERYBODY),
    _P.VIEW_TRIAL_BALANCE: Rule("see the trial balance", Scope.READ, _SUPERVISORS | {Role.AUDITOR}),
    _P.MAKE_TRANSFERS: Rule("make transfers", Scope.WRITE, _STAFF | {Role.CUSTOMER}),
    _P.MAKE_TRANSFER_BATCHES: Rule("make transfers in batches", Scope.WRITE, _STAFF),
    _P.MOVE_CASH: Rule("book deposits and withdrawals", Scope.WRITE, _STAFF),
    _P.PLACE_HOLDS: Rule("place and capture holds", Scope.WRITE, _STAFF),
    _P.RELEASE_HOLDS: Rule("release holds", Scope.WRITE, _SUPERVISORS),
    _P.REVERSE_TRANSACTIONS: Rule("reverse transactions", Scope.WRITE, _SUPERVISORS),
    _P.POST_JOURNALS: Rule("post journals", Scope.ADMIN, _ADMINS),
    _P.VIEW_PAYMENTS: Rule("see top-ups, refunds, payouts", Scope.READ, _EVERYBODY),
    _P.MAKE_TOPUPS: Rule("top up accounts", Scope.WRITE, _STAFF | {Role.CUSTOMER}),
    _P.REFUND_TOPUPS: Rule("refund top-ups", Scope.WRITE, _SUPERVISORS),
    _P.MAKE_PAYOUTS: Rule("make payouts", Scope.WRITE, _STAFF | {Role.CUSTOMER}),
    _P.EXCHANGE_PAYOUT_FILES: Rule(
        "download payout files, upload a bank's reports", Scope.WRITE, _SUPERVISORS
    ),
    _P.VIEW_DISCREPANCIES: Rule("see where gateways and books differ", Scope.READ, _SEEING_STAFF),
    _P.RESOLVE_DISCREPANCIES: Rule("resolve such differences", Scope.WRITE, _SUPERVISORS),
    _P.VIEW_INVOICES: Rule("see invoices, and what was paid on them", Scope.READ, _SEEING_STAFF),
    _P.MAKE_INVOICES: Rule(
        "make, finalise and send invoices, note payments, use credit", Scope.WRITE, _STAFF
    ),
    _P.VOID_INVOICES: Rule("void invoices, open failed ones again", Scope.WRITE, _SUPERVISORS),
    _P.REFUND_INVOICES: Rule(
        "pay back, credit, return what was overpaid", Scope.WRITE, _SUPERVISORS
    ),
    _P.MANAGE_INVOICE_SETTINGS: Rule("change what invoices say of us", Scope.ADMIN, _ADMINS),
    _P.VIEW_REPORTS: Rule("see financial reports", Scope.READ, _SUPERVISORS | {Role.AUDITOR}),
    _P.VIEW_RECURRING_PAYMENTS: Rule(
        "see recurring payments and their runs", Scope.READ, _EVERYBODY
    ),
    _P.MANAGE_RECURRING_PAYMENTS: Rule(
        "make, change, pause and cancel recurring payments",
        Scope.WRITE,
        _STAFF | {Role.CUSTOMER},
    ),
    _P.VIEW_SAVINGS_PLANS: Rule("see savings plans and their interest", Scope.READ, _EVERYBODY),
    _P.MANAGE_SAVINGS_PLANS: Rule(
        "make, change, fill, empty, renew and close savings plans",
        Scope.WRITE,
        _STAFF | {Role.CUSTOMER},
    ),
    _P.SET_SAVINGS_RATES: Rule(
        "say what interest a savings plan bears, and what tax is withheld", Scope.WRITE, _STAFF
    ),
    _P.REQUEST_EARLY_RELEASE: Rule(
        "ask for the early release of a locked savings plan (people alone)", Scope.ADMIN, _STAFF
    ),
    _P.DECIDE_EARLY_RELEASE: Rule(
        "decide on it, if somebody else has asked (people alone)", Scope.ADMIN, _SUPERVISORS
    ),
    _P.VIEW_CALENDAR: Rule("see the bank's own holidays", Scope.READ, _SEEING_STAFF),
    _P.MANAGE_CALENDAR: Rule(
        "add and remove them, which moves payments", Scope.WRITE, _SUPERVISORS
    ),
    _P.VIEW_GATEWAYS: Rule("see gateways, without secrets", Scope.ADMIN, _ADMINS | {Role.AUDITOR}),
    _P.MANAGE_GATEWAYS: Rule("set up and change gateways", Scope.ADMIN, _ADMINS),
    _P.VIEW_WEBHOOKS: Rule(
        "see what gateways notified", Scope.ADMIN, _SUPERVISORS | {Role.AUDITOR}
    ),
    _P.REPLAY_WEBHOOKS: Rule("replay failed notifications", Scope.ADMIN, _SUPERVISORS),
    _P.VIEW_USERS: Rule("see users", Scope.ADMIN, _ADMINS | {Role.AUDITOR}),
    _P.MANAGE_USERS: Rule("add and change users, set passwords", Scope.ADMIN, _ADMINS),
    _P.VIEW_API_KEYS: Rule("see API keys and their audit", Scope.ADMIN, _ADMINS | {Role.AUDITOR}),
    _P.MANAGE_API_KEYS: Rule("make, rotate and revoke API keys", Scope.ADMIN, _ADMINS),
    _P.VIEW_AUDIT: Rule("see the audit trail", Scope.ADMIN, _ADMINS | {Role.AUDITOR}),
    _P.VIEW_METRICS: Rule("scrape the metrics", Scope.ADMIN, _ADMINS),
    # Keys alone: of tenants that have no live ones.
    _P.MOVE_TEST_CLOCK: Rule("start a test clock, and move it on", Scope.ADMIN, frozenset()),
    _P.VIEW_JOBS: Rule("see runs of jobs and dead letters", Scope.ADMIN, _ADMINS | {Role.AUDITOR}),
    _P.MANAGE_JOBS: Rule("replay and discard dead letters", Scope.ADMIN, _ADMINS),
}

# What `GET /me` says of a person, in the words of keys.
SCOPES_BY_ROLE: dict[str, frozenset[str]] = {
    Role.CUSTOMER: frozenset({Scope.READ, Scope.WRITE}),
    Role.OPERATOR: frozenset({Scope.READ, Scope.WRITE}),
    Role.SUPERVISOR: frozenset({Scope.READ, Scope.WRITE}),
    Role.ADMIN: frozenset(Scope),
    Role.AUDITOR: frozenset({Scope.READ}),
}


def scope_allows(scopes: frozenset[str], permission: Permission) -> bool:
    """Say whether a key with these scopes has the permission."""
    return RULES[permission].scope in scopes or Scope.ADMIN in scopes


def role_allows(role: str, permission: Permission) -> bool:
    """Say whether a person in this role has the permission; customers: for what is theirs."""
    return role in RULES[permission].roles


def table() -> str:
    """Return the table of docs/permissions.md, in Markdown."""
    head = ["permission", "for", "key's scope", *Role]
    lines = [head, ["---"] * len(head)]
    for permission, rule in RULES.items():
        marks = [_mark(role, rule) for role in Role]
        lines.append([f"`{permission}`", rule.what, f"`{rule.scope}`", *marks])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _mark(role: Role, rule: Rule) -> str:
    if role not in rule.roles:
        return ""
    return "own" if role is Role.CUSTOMER else "yes"
