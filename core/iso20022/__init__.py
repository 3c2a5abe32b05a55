"""
ISO 20022 messages: payment orders to banks, and what banks answer. Knows no app and no database.

`credit_transfers` writes pain.001; `status_reports` reads pain.002 and camt.054; `status_codes`
says what a code means to us; `accounts` checks beneficiaries; `reading` opens XML of strangers.
"""
