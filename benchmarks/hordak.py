"""django-hordak's transfers, in a process of their own: its settings are not ours.

python -m benchmarks.hordak prepare
python -m benchmarks.hordak run SECONDS        # prints transfers a second
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.world import random_pairs, rate, set_up_django

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / ".local" / "bench-packages"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
ACCOUNTS = 1_000
CONNECTIONS = 16


def install() -> bool:
    """Put django-hordak where only this file finds it; False, with pip's words, if it cannot be."""
    if (PACKAGES / "hordak").is_dir():
        return True
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--target", str(PACKAGES), "-r", str(REQUIREMENTS)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"django-hordak could not be installed: {done.stderr.strip()}", flush=True)
    return not done.returncode


def rival(database_url: str) -> Callable[[], float]:
    """Migrate and fill a database for it; return what measures one round."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(PACKAGES)]),
        "DJANGO_SETTINGS_MODULE": "benchmarks.hordak_settings",
        "HORDAK_DATABASE_URL": database_url,
    }
    command = [sys.executable, "-m", "benchmarks.hordak"]
    subprocess.run([*command, "prepare"], env=env, check=True)

    def measure(seconds: float = 5.0) -> float:
        done = subprocess.run(
            [*command, "run", str(seconds)], env=env, check=True, stdout=subprocess.PIPE, text=True
        )
        return float(done.stdout.split()[-1])

    return measure


def transfers(account_ids: list[Any], seed: int, until: float) -> int:
    from hordak.models import Account
    from moneyed import Money

    accounts = {account.pk: account for account in Account.objects.filter(pk__in=account_ids)}
    amount = Money("0.05", "USD")
    done = 0
    for source, destination in random_pairs(account_ids, seed):
        if time.monotonic() >= until:
            return done
        accounts[source].transfer_to(accounts[destination], amount)
        done += 1
    return done


def _prepare() -> None:
    from django.core.management import call_command
    from hordak.models import Account, AccountType

    call_command("migrate", verbosity=0)
    for number in range(ACCOUNTS):
        Account.objects.create(
            name=f"Account {number}", type=AccountType.liability, currencies=["USD"]
        )


def main(arguments: list[str]) -> None:
    set_up_django()
    if arguments == ["prepare"]:
        _prepare()
        return
    from hordak.models import Account

    ids = list(Account.objects.values_list("pk", flat=True))
    print(rate(transfers, ids, connections=CONNECTIONS, seconds=float(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
