"""Small files that must never be half-written, or readable by the wrong people."""

import os
import secrets
import tempfile
from pathlib import Path


def replace(path: Path, text: str, *, mode: int) -> None:
    """Replace a file as a whole, readable by no more than `mode` allows at any time."""
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.chmod(fresh, mode)
    os.replace(fresh, path)


def kept_secret(path: Path) -> str:
    """The random password in this file, made when first asked for."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        replace(path, secrets.token_urlsafe(24), mode=0o600)
        return path.read_text(encoding="utf-8")


def read_variables(path: Path) -> dict[str, str]:
    """The KEY=VALUE lines of a file; nothing if there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {name.strip(): value.strip() for name, found, value in pairs if found}


def write_variables(path: Path, variables: dict[str, str]) -> None:
    """Write KEY=VALUE lines that `read_variables` and the settings read; for its owner only."""
    lines = [f"{name}={value}" for name, value in variables.items()]
    replace(path, "\n".join(lines) + "\n", mode=0o600)
