"""
When things fall due: dates of a rule, days on which banks work, local times. Knows no app, reads no
clock and no database.

`rules` counts a rule's dates from its anchor; `recurrence` reads the RRULE of RFC 5545;
`business_days` moves a date off weekends and holidays; `zones` makes an instant of a local time.
"""
