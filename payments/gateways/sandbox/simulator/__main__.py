"""`python -m payments.gateways.sandbox.simulator --port 8900`."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from payments.gateways.sandbox.simulator.server import RunningSimulator


def main() -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="simulator", description="A local payment gateway.")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a container")
    parser.add_argument("--port", type=int, default=8900, help="0: any that is free")
    parser.add_argument("--public-url", default="", help="where browsers reach it, if elsewhere")
    parser.add_argument("--state", type=Path, help="keep everything in this file")
    parser.add_argument("--seed", help="the same ids at every run")
    parser.add_argument("--delay-ms", type=int, help="wait so long before every answer")
    parser.add_argument("--failure-rate", type=float, help="how many requests fail: 0.0 to 1.0")
    parser.add_argument(
        "--auto-clock", action="store_true", help="nobody waits: time jumps to what is due next"
    )
    parser.add_argument("--verbose", action="store_true", help="a line for every request")
    options = parser.parse_args()
    if options.failure_rate is not None and not 0 <= options.failure_rate <= 1:
        parser.error("--failure-rate is 0.0 to 1.0")
    chosen = {"delay_ms": options.delay_ms, "failure_rate": options.failure_rate}
    simulator = RunningSimulator(
        host=options.host,
        port=options.port,
        public_url=options.public_url.rstrip("/"),
        state_file=options.state,
        seed=options.seed,
        hurries=options.auto_clock,
        is_verbose=options.verbose,
        settings={name: value for name, value in chosen.items() if value is not None},
    )
    told_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: told_to_stop.set())
    simulator.start()
    sys.stdout.write(f"The payment gateway simulator listens on {simulator.url}\n")
    sys.stdout.flush()
    told_to_stop.wait()
    simulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
