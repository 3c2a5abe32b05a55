"""The embedded servers: PostgreSQL and Valkey, durable or throw-away, each in its own directory.

    with Postgres(directory) as postgres, Valkey(directory) as valkey:
        connect(postgres.url, valkey.url)

`start`, `kill` and `start` again is a crash and its recovery: same data, same port, same password.
Both listen on the loopback interface only.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from ops import processes
from ops.console import Failure
from ops.embedded import (
    postgres_programs,
    reachable,
    stand_in,
    unprivileged_account,
    valkey_program,
)
from ops.files import kept_secret, replace

_LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 60.0
# After a crash, PostgreSQL's old backends need a moment to let go of its shared memory.
_RELAUNCH_PAUSE_S = 0.2
_RAM_NEEDED_BYTES = 2 * 1024**3

_POSTGRES_SETTINGS = {
    "listen_addresses": _LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_prepared_transactions": "64",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "log_min_duration_statement": "1s",
}
_DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_THROW_AWAY = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
}


class ServerFailed(Failure):
    """A server did not come up; the message names its log."""


class Server:
    """A server process with its data directory. See `Postgres` and `Valkey`."""

    name: str
    process: subprocess.Popen[bytes] | None = None

    def __init__(self, home: Path, *, port: int, log: Path | None) -> None:
        self.home = home
        self.log = log or home / f"{self.name}.log"
        self._wanted_port = port
        self.port = port or free_port()

    @property
    def url(self) -> str:
        """What DATABASE_URL or REDIS_URL takes; it holds the password."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The server's process id; of PostgreSQL, the postmaster's."""
        if self.process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self.process.pid

    def has_ended(self) -> bool:
        """Whether the process is gone, by itself or by a kill."""
        return self.process is None or self.process.poll() is not None

    def start(self, *, timeout_s: float = _START_TIMEOUT_S) -> Self:
        """Start it and wait until it answers; also after `stop` or `kill`."""
        for _ in self.starting(timeout_s=timeout_s):
            time.sleep(0.01)
        return self

    def starting(self, *, timeout_s: float = _START_TIMEOUT_S) -> Iterator[None]:
        """Start it, and yield while it does not answer yet: the caller chooses how to wait."""
        deadline = time.monotonic() + timeout_s
        self._launch()
        while not self.is_ready():
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(
                    f"{self.name} did not start in {timeout_s:.0f} s: see {self.log}"
                )
            yield
            if self.has_ended():
                self._await_relaunch()
                self._launch()

    def is_ready(self) -> bool:
        """Whether the server answers queries."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it in order, with nothing lost. Harmless when it does not run."""
        raise NotImplementedError

    def kill(self) -> None:
        """kill -9, as a crash would: what the server promised to have kept, it must have."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()

    def remove(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        raise NotImplementedError

    def _await_relaunch(self) -> None:
        time.sleep(_RELAUNCH_PAUSE_S)
        if not self._wanted_port and not is_free(self.port):
            # Somebody took the port between our look and the server's.
            self.port = free_port()


class Postgres(Server):
    """A PostgreSQL cluster of its own, with the role and the database `florin`.

    `directory` holds the cluster; it is made if need be and used again if it is there. When root
    runs this, the server runs as the account postgres or nobody; if that account cannot enter
    `directory`, the cluster lies under /var/lib instead (`home` tells; `remove` deletes it).

    durable=False switches fsync off: for tests whose data may be lost.
    port=0 takes a free port and keeps it while this object lives.
    settings are further lines for postgresql.conf, or other values for the usual ones.
    """

    name = "postgres"

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = True,
        port: int = 0,
        log: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._account = unprivileged_account()
        super().__init__(reachable(directory, self._account) / self.name, port=port, log=log)
        self.home.mkdir(exist_ok=True)
        self.home.chmod(0o711)  # The account passes through; what lies here has modes of its own.
        self.data = self.home / "data"
        self._programs = postgres_programs(self._account)
        self._settings = {
            **_POSTGRES_SETTINGS,
            **(_DURABLE if durable else _THROW_AWAY),
            # Parallel queries share memory through /dev/shm, unless that is too small for it.
            "dynamic_shared_memory_type": "posix" if _memory() else "mmap",
            **(settings or {}),
        }
        self._is_durable = durable

    @property
    def url(self) -> str:
        return self.url_of("florin")

    def url_of(self, database: str) -> str:
        """The URL of another database of this cluster."""
        password = kept_secret(self._password)
        return f"postgres://florin:{password}@{_LOOPBACK}:{self.port}/{database}"

    @property
    def account_name(self) -> str:
        """Whom the server runs as, if not as ourselves."""
        return self._account.pw_name if self._account else ""

    def is_ready(self) -> bool:
        if self.has_ended():
            return False
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return int(lines[0]) == self.pid and lines[7].strip() == "ready"
        except (OSError, ValueError, IndexError):
            return False

    def stop(self) -> None:
        if self.process is not None:
            # SIGINT is a fast shutdown: connections are cut, everything committed is kept.
            processes.end(self.process, wanted=signal.SIGINT)

    @property
    def _password(self) -> Path:
        return self.home / "password"

    def _launch(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster()
        self._refuse_other_version()
        configuration = self.home / "postgresql.conf"
        replace(configuration, self._configuration(), mode=0o644)
        end_postgres_in(self.data)
        self.process = self._spawn(
            "postgres", "-D", str(self.data.resolve()), "-c", f"config_file={configuration}"
        )

    def _configuration(self) -> str:
        settings = {**self._settings, "port": str(self.port)}
        lines = ["# Written at every start, by ops/servers.py."]
        lines += [f"{name} = '{value}'" for name, value in settings.items()]
        return "\n".join(lines) + "\n"

    def _make_cluster(self) -> None:
        """initdb under another name, then rename: a half-made cluster never looks finished."""
        unfinished = self.home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password = self.home / "password.initdb"
        replace(password, kept_secret(self._password), mode=0o600)
        if self._account:
            for path in (unfinished, password):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        self._run_to_end(
            "initdb",
            *("--pgdata", str(unfinished), "--username", "florin", "--pwfile", str(password)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"),
            *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            *([] if self._is_durable else ["--no-sync"]),
        )
        self._run_to_end(
            *("postgres", "--single", "-D", str(unfinished), "postgres"),
            feed=b"CREATE DATABASE florin;\n",
        )
        password.unlink()
        unfinished.rename(self.data)

    def _refuse_other_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        told = subprocess.run(
            [self._programs / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        installed = told.stdout.split()[2].partition(".")[0]
        if made_by != installed:
            raise ServerFailed(
                f"{self.data} was made by PostgreSQL {made_by}; installed is {installed}."
            )

    def _run_to_end(self, program: str, *arguments: str, feed: bytes = b"") -> None:
        process = self._spawn(program, *arguments, stdin=subprocess.PIPE)
        process.communicate(feed)
        if process.returncode:
            raise ServerFailed(f"{program} failed: see {self.log}")

    def _spawn(
        self, program: str, *arguments: str, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        # PGHOST, PGDATA and their like are meant for another server.
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return processes.spawn(
            [self._programs / program, *arguments],
            log=self.log,
            env={**env, "LC_ALL": "C"},
            account=self._account,
            death_signal=signal.SIGINT,
            stdin=stdin,
        )


class Valkey(Server):
    """A Valkey server: what Celery and the caches call Redis.

    `directory` holds its append-only file; durable=False keeps nothing on disk.
    port=0 takes a free port and keeps it while this object lives.
    """

    name = "valkey"

    def __init__(
        self, directory: Path, *, durable: bool = True, port: int = 0, log: Path | None = None
    ) -> None:
        super().__init__(directory / self.name, port=port, log=log)
        self.home.mkdir(parents=True, exist_ok=True)
        self._is_durable = durable

    @property
    def url(self) -> str:
        return f"redis://:{kept_secret(self._password)}@{_LOOPBACK}:{self.port}/0"

    def is_ready(self) -> bool:
        if self.has_ended():
            return False
        question = f"AUTH {kept_secret(self._password)}\r\nPING\r\n".encode()
        answer = b""
        try:
            with socket.create_connection((_LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(question)
                while answer.count(b"\r\n") < 2 and (part := connection.recv(256)):
                    answer += part
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"

    def stop(self) -> None:
        if self.process is not None:
            processes.end(self.process, patience_s=10)

    @property
    def _password(self) -> Path:
        return self.home / "password"

    def _launch(self) -> None:
        configuration = self.home / "valkey.conf"
        replace(configuration, self._configuration(), mode=0o600)
        self.process = processes.spawn([valkey_program(), configuration], log=self.log)

    def _configuration(self) -> str:
        return "\n".join(
            [
                "# Written at every start, by ops/servers.py.",
                f"bind {_LOOPBACK}",
                f"port {self.port}",
                f"requirepass {kept_secret(self._password)}",
                f'dir "{self.home}"',
                # A broker that forgets under pressure loses work; refusing to take more does not.
                "maxmemory-policy noeviction",
                f"appendonly {'yes' if self._is_durable else 'no'}",
                # A kill -9 can cut the last command in half.
                "aof-load-truncated yes",
                'save ""',
                "",
            ]
        )


def clusters_of(directory: Path) -> list[Path]:
    """The data directories that `Postgres(directory)` may have made."""
    places = (directory, stand_in(directory))
    return [data for place in places if (data := place / Postgres.name / "data").exists()]


def end_postgres_in(data: Path, *, patience_s: float = 20.0) -> None:
    """End the PostgreSQL that an earlier start left behind in a cluster, and its stale lock file.

    A postmaster works in its data directory; so do its backends, which can outlive it. Only for
    a cluster that is ours alone: what runs there is ended, whoever started it.
    """
    lock_file = data / "postmaster.pid"
    if not lock_file.exists():
        return
    if left := processes.at_work_in(data.resolve()):
        with contextlib.suppress(OSError, ValueError):
            postmaster = int(lock_file.read_text().split()[0])
            if postmaster in left:
                os.kill(postmaster, signal.SIGINT)
        for pid in processes.wait_until_gone(left, timeout_s=patience_s):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    # PostgreSQL would take any living process, even a zombie, with that pid for a postmaster.
    if sys.platform.startswith("linux"):
        lock_file.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_directory(*, in_memory: bool = True) -> Iterator[Path]:
    """A directory for throw-away servers that their account can enter, removed at the end.

    In memory where there is room (/dev/shm); in_memory=False for tests of durability and speed.
    Directories that a killed run left behind are removed on the way.
    """
    parent = _memory() if in_memory else None
    place = Path(tempfile.mkdtemp(prefix="florin-scratch-", dir=parent))
    (place / "owner").write_text(f"{os.getpid()} {processes.start_time(os.getpid())}")
    place.chmod(0o711)
    _remove_abandoned(place.parent)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def free_port(*preferred: int) -> int:
    """The first of the preferred ports that is free on the loopback interface, or any other."""
    for port in preferred:
        if is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port = probe.getsockname()[1]
    return int(port)


def is_free(port: int, host: str = _LOOPBACK) -> bool:
    """Whether nobody listens there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # Without it, connections that have just ended would look like a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _memory() -> Path | None:
    """The file system in memory, where it is roomy; containers often give it 64 MB."""
    shared = Path("/dev") / "shm"
    if not os.access(shared, os.W_OK | os.X_OK):
        return None
    return shared if shutil.disk_usage(shared).free > _RAM_NEEDED_BYTES else None


def _remove_abandoned(parent: Path) -> None:
    for place in parent.glob("florin-scratch-*"):
        try:
            if place.stat().st_uid != os.geteuid():
                continue
            pid, started = (place / "owner").read_text().split()
        except (OSError, ValueError):
            continue
        if str(processes.start_time(int(pid))) != started:
            shutil.rmtree(place, ignore_errors=True)
