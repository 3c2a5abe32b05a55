"""`make run` and `make stop`, and commands that need the servers: what runs in this checkout."""

import contextlib
import os
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from ops.console import Failure, elapsed_s, say, show_box
from ops.environment import DEMO_FILE, ENV_FILE, is_given, write_env_file
from ops.files import read_variables, write_variables
from ops.launch import die_with_parent
from ops.layout import LOCAL
from ops.lock import holder, only_copy
from ops.processes import run_in_foreground, unwinding_when_told_to_end
from ops.roster import end_leftovers
from ops.servers import Postgres, Server, Valkey, free_port, is_free
from ops.supervisor import Service, Signals, StopRequested, Supervisor, last_words

_KINDS: dict[str, type[Valkey] | type[Postgres]] = {"REDIS_URL": Valkey, "DATABASE_URL": Postgres}

BACKGROUND = {
    "worker": [
        *("-A", "config", "worker", "--concurrency", "2", "--loglevel", "warning"),
        *("--without-gossip", "--without-mingle"),
    ],
    "beat": [
        *("-A", "config", "beat", "--loglevel", "warning", "--pidfile="),
    ],
}
_PREFERRED_PORTS = {"postgres": 54329, "valkey": 63799, "gateways": 8900}
_PORTS_FILE = LOCAL / "ports"
_READY_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 60.0
_LOG_MAX_BYTES = 10 * 1024 * 1024
# A proxy that the environment names is not for this machine's own addresses.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def refuse_hopeless_start() -> None:
    """What forbids `make run`, told before anything is installed or started."""
    with only_copy():
        end_leftovers()
        _web_address()


def run_florin() -> int:
    """Run everything until a signal comes; returns 0 after a wished end."""
    _die_with_make()
    signals = Signals()
    with only_copy():
        supervisor = Supervisor(signals)
        try:
            end_leftovers()
            _start_everything(supervisor)
            supervisor.watch()
        except StopRequested as request:
            say(f"{request}: stopping")
        finally:
            began = time.monotonic()
            supervisor.stop()
            say(f"everything has stopped, in {time.monotonic() - began:.1f} s")
    return 0


def stop_florin() -> int:
    """End the copy that runs in this checkout, and wait until it has gone."""
    pid = holder()
    if pid is None:
        say("nothing runs in this checkout")
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while holder() == pid:
        if time.monotonic() > deadline:
            raise Failure(f"Process {pid} did not stop within {_STOP_TIMEOUT_S:.0f} s.")
        time.sleep(0.05)
    say("stopped")
    return 0


def run_with_servers(command: Sequence[str]) -> int:
    """Run a command with DATABASE_URL and REDIS_URL set: of the running copy, or of its own."""
    if not command:
        raise Failure("Say which command: python -m ops exec -- COMMAND [ARGUMENT ...]")
    if holder() is not None:
        return run_in_foreground(command, _for_commands({**read_variables(ENV_FILE), **os.environ}))
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_copy())
        stack.enter_context(unwinding_when_told_to_end())
        end_leftovers()
        urls = {
            name: stack.enter_context(server).url for name, server in _embedded_servers().items()
        }
        return run_in_foreground(command, _for_commands(write_env_file(urls)))


def play_demo(arguments: Sequence[str]) -> int:
    """`manage.py demo` against the running copy."""
    url = read_variables(DEMO_FILE).get("FLORIN_URL")
    if not url or not answers(f"{url}/health/live"):
        raise Failure("Florin is not running here: start it with `make run` in another terminal.")
    return run_in_foreground([sys.executable, "manage.py", "demo", *arguments], os.environ)


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with _direct.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _start_everything(supervisor: Supervisor) -> None:
    host, port = _web_address()
    url = f"http://{_reached_at(host)}:{port}"
    for log in LOCAL.glob("*.log"):
        if log.stat().st_size > _LOG_MAX_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
    gateways = _gateway_urls(url)
    env = _start_servers(supervisor, gateways)
    env = {**env, **supervisor.mark, "FLORIN_URL": url, "PYTHONUNBUFFERED": "1"}
    _start_simulator(supervisor, gateways["SANDBOX_URL"], env)
    supervisor.run_to_end(
        "preparing the database",
        [sys.executable, "-m", "ops.prepare"],
        env={**env, "FLORIN_PROCESS": "prepare"},
        log=LOCAL / "prepare.log",
    )
    say("the database is up to date")
    # Where its processes put their figures together; old ones would count on.
    metrics = LOCAL / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir()
    web = _service(
        "web", web_command(host, port), {**env, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    )
    supervisor.start(web)
    _await_ready(supervisor, web, url)
    # Not earlier: on a small machine they would only slow the web's start down.
    for name, command in BACKGROUND.items():
        supervisor.start(_service(name, [sys.executable, "-m", "celery", *command], env))
    _welcome(url)


def _gateway_urls(url: str) -> dict[str, str]:
    """Where the simulated payment gateways are reached, and where they reach us."""
    last_ports = read_variables(_PORTS_FILE)
    preferred = _PREFERRED_PORTS["gateways"]
    port = int(os.environ.get("SANDBOX_PORT") or 0) or free_port(
        int(last_ports.get("gateways", preferred)), preferred
    )
    write_variables(_PORTS_FILE, {**last_ports, "gateways": str(port)})
    simulator = f"http://127.0.0.1:{port}"
    urls = {
        "PUBLIC_URL": url,
        "SANDBOX_URL": simulator,
        "XENDIT_TEST_URL": f"{simulator}/xendit",
        "MIDTRANS_TEST_URL": f"{simulator}/midtrans-api",
        "MIDTRANS_SNAP_TEST_URL": f"{simulator}/midtrans-app",
    }
    # Whoever has a real account there says so, and is believed; the sandbox is ours in any case.
    given = {name: os.environ[name] for name in urls if is_given(name) and name in os.environ}
    return {**urls, **given, "SANDBOX_URL": simulator}


def _start_simulator(supervisor: Supervisor, url: str, env: Mapping[str, str]) -> None:
    port = url.rpartition(":")[2]
    command = [
        *(sys.executable, "-m", "payments.gateways.sandbox.simulator"),
        *("--port", port, "--state", str(LOCAL / "gateways.json")),
    ]
    simulator = _service("gateways", command, env)
    supervisor.start(simulator)
    if not supervisor.watch_until(lambda: answers(f"{url}/_sim/health"), timeout_s=30):
        raise Failure(f"The gateways' simulator did not start:\n{last_words(simulator.log)}")
    say(f"simulated payment gateways run on 127.0.0.1:{port}")


def _start_servers(supervisor: Supervisor, others: Mapping[str, str]) -> dict[str, str]:
    """Start those that the environment does not replace; returns Florin's environment."""
    urls = {}
    for name, server in _embedded_servers().items():
        supervisor.start(server)
        urls[name] = server.url
        account = server.account_name if isinstance(server, Postgres) else ""
        say(f"{server.name} runs on 127.0.0.1:{server.port}" + (account and f" as {account}"))
    return {**write_env_file(urls, others), **others}


def _embedded_servers() -> dict[str, Server]:
    """By the variable that would replace each; on the ports of the last time, if they are free."""
    last_ports = read_variables(_PORTS_FILE)
    servers: dict[str, Server] = {}
    for variable, kind in _KINDS.items():
        if is_given(variable):
            say(f"{variable} is set: using that server")
            continue
        preferred = _PREFERRED_PORTS[kind.name]
        port = free_port(int(last_ports.get(kind.name, preferred)), preferred)
        servers[variable] = kind(LOCAL, port=port, log=LOCAL / f"{kind.name}.log")
    ports = {server.name: str(server.port) for server in servers.values()}
    write_variables(_PORTS_FILE, {**last_ports, **ports})
    return servers


def _service(name: str, command: Sequence[str], env: Mapping[str, str]) -> Service:
    return Service(name, command, env={**env, "FLORIN_PROCESS": name}, log=LOCAL / f"{name}.log")


def web_command(host: str, port: int) -> list[str]:
    """Granian, as Florin is served; the benchmarks serve what they compare in the same way."""
    return [
        *(sys.executable, "-m", "granian", "--interface", "wsgi"),
        *("--host", host, "--port", str(port), "--workers", "2", "--blocking-threads", "4"),
        # Requests beyond the threads wait their turn; none is refused for being one too many.
        *("--backlog", "2048", "--backpressure", "1024"),
        *("--respawn-failed-workers", "--respawn-interval", "0.2"),
        *("--workers-kill-timeout", "3", "--no-ws", "--no-access-log"),
        "config.wsgi:application",
    ]


def _web_address() -> tuple[str, int]:
    """HOST and PORT of the environment; a Failure if they cannot be had."""
    host = os.environ.get("HOST") or "127.0.0.1"
    text = os.environ.get("PORT") or "8000"
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Failure(f"PORT={text} is not a port: choose a number from 1 to 65535.")
    port = int(text)
    if port < 1024 and os.geteuid() != 0:
        raise Failure(f"Port {port} needs root: choose one from 1024 on, as in PORT=8000.")
    if not is_free(port, host):
        raise Failure(
            f"Port {port} of {host} is taken: end what listens there, "
            f"or choose another port, as in `make run PORT={free_port(8001)}`."
        )
    return host, port


def _reached_at(host: str) -> str:
    """Where this machine reaches what listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _await_ready(supervisor: Supervisor, web: Service, url: str) -> None:
    ready = f"{url}/health/ready"
    if not supervisor.watch_until(lambda: answers(ready), timeout_s=_READY_TIMEOUT_S):
        raise Failure(
            f"{ready} did not answer 200 within {_READY_TIMEOUT_S:.0f} s. "
            f"The end of {web.log}:\n{last_words(web.log)}"
        )


def _welcome(url: str) -> None:
    demo = read_variables(DEMO_FILE)
    key = demo.get("FLORIN_API_KEY", "")
    show_box(
        [
            f"Florin is running (ready in {elapsed_s():.1f} s)",
            "",
            f"API        {url}/api/v1/",
            f"API docs   {url}/api/docs/",
            f"Admin      {url}/admin/",
            f"  e-mail   {demo.get('FLORIN_ADMIN_EMAIL', '')}",
            f"  password {demo.get('FLORIN_ADMIN_PASSWORD', '')}",
            f"API key    {key}",
            f"Gateways   {demo.get('SANDBOX_URL', '')}/ (simulated; test cards: docs/simulator.md)",
            "",
            f"Logs are in {LOCAL.name}/*.log, data is kept in {LOCAL.name}/.",
            "Ctrl-C stops everything.",
        ]
    )
    print(f'Try: curl -H "Authorization: Bearer {key}" {url}/api/v1/accounts', flush=True)


def _for_commands(env: Mapping[str, str]) -> dict[str, str]:
    """With `python`, `celery` and the others of .venv found first."""
    programs = str(Path(sys.executable).parent)
    return {**env, "PATH": os.pathsep.join([programs, env.get("PATH", os.defpath)])}


def _die_with_make() -> None:
    """`make` passes signals on, but a kill -9 it cannot: then the kernel ends us, in order."""
    parent = os.getppid()
    with contextlib.suppress(OSError):
        if Path(f"/proc/{parent}/comm").read_text().strip() in ("make", "gmake"):
            die_with_parent(parent, signal.SIGTERM)
