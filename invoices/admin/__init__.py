"""
Invoices in the back office: looked at here, changed by services only.

A module for each screen; `acts` has what staff do with an invoice, `words` the sentences.
"""

from invoices.admin import credit, invoices, mailings, panels, reports, settings

__all__ = ["credit", "invoices", "mailings", "panels", "reports", "settings"]
