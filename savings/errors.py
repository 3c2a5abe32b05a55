"""Why savings plans refuse."""

import datetime as dt

from ledger.errors import AccountLocked


class SavingsPlanLocked(AccountLocked):
    """Its money stays until the date. The `unlock_date` goes with the answer."""

    code = "savings_plan_locked"
    title = "The savings plan is locked until its date"
    http_status = 422

    def __init__(self, unlock_date: dt.date) -> None:
        super().__init__(f"The savings plan is locked until {unlock_date.isoformat()}.")
        self.members = {"unlock_date": unlock_date.isoformat()}
