"""What `make` does: sets up .venv, runs the servers and Florin on this machine, tests, checks.

Standard library only, because it runs before anything is installed. The application never
imports it. Crash tests and benchmarks use `ops.servers`.
"""
