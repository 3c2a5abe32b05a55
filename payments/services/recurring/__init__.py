"""Payments that come again: their dates, what falls due, and how it is paid."""
