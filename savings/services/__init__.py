"""Every change of savings plans: made, put into, taken from, unlocked, closed; their interest."""

from savings.services.interest import interest_accounts, keep_books
from savings.services.keeping import follow_test_clock, keep_plans
from savings.services.moving import close_plan, deposit, withdraw
from savings.services.opening import (
    MONTHS_MAX,
    NewPlan,
    change_plan,
    create_plan,
    pause_plan,
    renew_plan,
    resume_plan,
)
from savings.services.projecting import Projection, project
from savings.services.releases import (
    REASON_MAX,
    approve_release,
    reject_release,
    request_release,
)

__all__ = [
    "MONTHS_MAX",
    "REASON_MAX",
    "NewPlan",
    "Projection",
    "approve_release",
    "change_plan",
    "close_plan",
    "create_plan",
    "deposit",
    "follow_test_clock",
    "interest_accounts",
    "keep_books",
    "keep_plans",
    "pause_plan",
    "project",
    "reject_release",
    "renew_plan",
    "request_release",
    "resume_plan",
    "withdraw",
]
