"""
Savings plans in the back office: looked at here, changed by services only.

A module for each screen; `acts` has what staff do with a plan, `words` the sentences.
"""

from savings.admin import books, panels, plans, releases, unlocks

__all__ = ["books", "panels", "plans", "releases", "unlocks"]
