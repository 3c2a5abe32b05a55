"""Makes .venv and installs the requirements into it, when they changed since the last time."""

import ast
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ops.console import Failure, say
from ops.layout import LOCAL, ROOT, VENV, VENV_PYTHON

RUN = "run"
DEVELOPMENT = "development"

# What is installed for each purpose, and which purposes that covers.
_REQUIREMENTS = {
    RUN: ("requirements.txt", "requirements-local.txt"),
    DEVELOPMENT: ("requirements-dev.txt",),
}
_COVERED = {RUN: (RUN,), DEVELOPMENT: (DEVELOPMENT, RUN)}
# There while .venv is being changed: found at the start, it tells of a change cut short.
_UNFINISHED = VENV / ".unfinished"
# uv installs in seconds what takes pip a minute.
_UV = "uv>=0.8,<1"
_ERROR_LINES = 12
# What pip is told by its configuration or its environment, in uv's words.
_PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
}


class CommandFailed(Failure):
    """A program ended with an error; the message holds its last words."""


def ensure_installed(purpose: str) -> None:
    """Make .venv fit for the purpose. Costs a few milliseconds when it already is."""
    if _is_current(purpose):
        return
    with _one_at_a_time():
        if _is_current(purpose):  # Whoever held the lock did the work.
            return
        if not _is_sound():
            _make_venv()
        _UNFINISHED.touch()
        say("installing " + " and ".join(_REQUIREMENTS[purpose]))
        _install(_REQUIREMENTS[purpose])
        for covered in _COVERED[purpose]:
            _stamp_file(covered).write_text(_stamp(covered))
        _UNFINISHED.unlink()
        say("requirements are installed")


def _is_current(purpose: str) -> bool:
    if not VENV_PYTHON.exists() or _UNFINISHED.exists():
        return False
    try:
        return _stamp_file(purpose).read_text() == _stamp(purpose)
    except FileNotFoundError:
        return False


def _stamp_file(purpose: str) -> Path:
    return VENV / f".installed-for-{purpose}"


def _stamp(purpose: str) -> str:
    content = b"".join((ROOT / name).read_bytes() for name in _REQUIREMENTS[purpose])
    return f"{_place()}\n{_version()}\n{hashlib.sha256(content).hexdigest()}\n"


def _place() -> str:
    """Where .venv was made: its scripts hold that path, so it cannot be moved or copied."""
    return str(ROOT)


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _is_sound() -> bool:
    """Whether .venv can be installed into: finished, made here, and of our Python version."""
    if _UNFINISHED.exists() or not VENV_PYTHON.exists():
        return False
    for stamp_file in map(_stamp_file, _REQUIREMENTS):
        if stamp_file.exists() and stamp_file.read_text().splitlines()[:1] != [_place()]:
            return False
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run(
        [VENV_PYTHON, "-c", question], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() == _version()


def _make_venv() -> None:
    """With pip where Python can provide it (Debian keeps that part in a package of its own)."""
    say("making .venv")
    for way in ([], ["--without-pip"]):
        shutil.rmtree(VENV, ignore_errors=True)
        VENV.mkdir()
        _UNFINISHED.touch()
        with contextlib.suppress(CommandFailed):
            _run([_python(), "-m", "venv", *way, VENV])
            return
    if not _got_from_apt():
        raise Failure(f"{_python()} cannot make a virtual environment. {_WHAT_TO_INSTALL}")
    _make_venv()


def _python() -> str:
    """The interpreter .venv is made from; not .venv's own, which may be about to go."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def _install(requirements: Sequence[str]) -> None:
    files = [part for name in requirements for part in ("-r", ROOT / name)]
    pip = _pip()
    if uv := _uv(pip):
        try:
            _run([*uv, "pip", "install", "--python", VENV_PYTHON, *files], _uv_environment(pip))
        except CommandFailed as error:
            if not pip:
                raise
            say(f"uv did not succeed, now with pip. It said: {error}")
        else:
            return
    if pip:
        _run([*pip, "install", "--disable-pip-version-check", "--quiet", *files])
    elif _got_from_apt():
        _make_venv()
        _install(requirements)
    else:
        raise Failure(f"Neither pip nor uv is here to install packages. {_WHAT_TO_INSTALL}")


_WHAT_TO_INSTALL = (
    f"On Debian or Ubuntu: apt-get install python{_version()}-venv; elsewhere: Python's pip, or uv."
)


def _pip() -> list[str | Path]:
    """A pip that installs into .venv: its own, or that of the Python it was made from."""
    ways: list[list[str | Path]] = [
        [VENV_PYTHON, "-m", "pip"],
        [_python(), "-m", "pip", "--python", VENV_PYTHON],
    ]
    for way in ways:
        if _works([*way, "--version"]):
            return way
    return []


def _uv(pip: Sequence[str | Path]) -> list[str | Path]:
    """uv from .venv or the PATH; else from the package index, by means of pip."""
    own = VENV / "bin" / "uv"
    for program in (own, shutil.which("uv")):
        if program and _works([program, "--version"]):
            return [program]
    if pip:
        with contextlib.suppress(CommandFailed):
            _run([*pip, "install", "--disable-pip-version-check", "--quiet", _UV])
            return [own]
    return []


def _uv_environment(pip: Sequence[str | Path]) -> dict[str, str]:
    """uv does not read pip's configuration: mirrors, certificates and proxies are handed on."""
    found: dict[str, str] = {"UV_SYSTEM_CERTS": "1"}
    for name, value in _pip_configuration(pip).items():
        if name in _PIP_TO_UV:
            separator = "," if name == "find-links" else " "
            found[_PIP_TO_UV[name]] = separator.join(value.split())
    if "UV_INDEX" in found:
        # As pip does: the best version from any index, not the first index that has the name.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {**found, **os.environ}


def _pip_configuration(pip: Sequence[str | Path]) -> Mapping[str, str]:
    """What `pip config list` tells: files first, then the environment, which wins."""
    if not pip:
        return _pip_variables()
    told = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for line in told.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in ("global", "install"):
            with contextlib.suppress(ValueError, SyntaxError):
                found[key] = str(ast.literal_eval(value))
    return {**found, **_pip_variables()}


def _pip_variables() -> dict[str, str]:
    return {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name.startswith("PIP_")
    }


def _got_from_apt() -> bool:
    """On Debian, root can have the missing part of Python installed. Tried once."""
    global _asked_apt
    if _asked_apt or os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    _asked_apt = True
    say(f"apt-get install python{_version()}-venv")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        _run(["apt-get", "-qq", "update"], env)
        _run(["apt-get", "-qq", "-y", "install", f"python{_version()}-venv"], env)
    except CommandFailed as error:
        say(str(error))
        return False
    return True


_asked_apt = False


def _works(command: Sequence[str | Path]) -> bool:
    """Whether it runs at all: a shim on the PATH may lead nowhere."""
    try:
        return not subprocess.run(command, capture_output=True, check=False).returncode
    except OSError:
        return False


def _run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        env=env,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last_words = "\n".join(done.stdout.strip().splitlines()[-_ERROR_LINES:])
        raise CommandFailed(f"{' '.join(map(str, command))} failed:\n{last_words}")


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
