"""Refusals: each with a stable code that means one thing, each known to the engine's caller."""

import re

from django.conf import settings

from core.api.catalogue import error_codes
from ledger.errors import BY_REFUSAL

# docs of the API: what each status may say.
ALLOWED = {400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 429, 500, 502, 503}


def test_a_code_has_one_status() -> None:
    by_code: dict[str, set[int]] = {}
    for each in error_codes():
        by_code.setdefault(each.code, set()).add(each.http_status)
        assert re.fullmatch(r"[a-z_]+", each.code)
        assert each.title

    assert all(len(statuses) == 1 for statuses in by_code.values())
    assert {status for statuses in by_code.values() for status in statuses} <= ALLOWED


def test_every_refusal_of_the_engine_is_explained() -> None:
    sql = (settings.BASE_DIR / "ledger" / "migrations" / "0003_posting.sql").read_text()
    words = set(
        re.findall(r"'((?:account|currency|insufficient|balance|idempotency)_[a-z_]+)'", sql)
    )

    assert words == set(BY_REFUSAL)
    for code, (refusal, sentence) in BY_REFUSAL.items():
        assert refusal.code in (code, "not_found")
        assert sentence.endswith(".")
