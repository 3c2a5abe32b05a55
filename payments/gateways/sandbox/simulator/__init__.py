"""
A payment gateway for the desk: Xendit, Midtrans and the sandbox's own, over real HTTP on loopback.

Knows neither Django nor the platform; `docs/simulator.md` is its manual.
"""

from payments.gateways.sandbox.simulator.server import RunningSimulator, running_simulator

__all__ = ["RunningSimulator", "running_simulator"]
