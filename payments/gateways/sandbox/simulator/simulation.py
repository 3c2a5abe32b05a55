"""From a request to its answer: routing, orders of faults, delays, and the state's lock."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from payments.gateways.sandbox.simulator import faults, pages
from payments.gateways.sandbox.simulator.clock import rfc3339
from payments.gateways.sandbox.simulator.control import Control
from payments.gateways.sandbox.simulator.exchange import (
    Answer,
    Json,
    Refusal,
    Request,
    Route,
    find_route,
)
from payments.gateways.sandbox.simulator.faults import Fault
from payments.gateways.sandbox.simulator.lifecycle import Gateway, Lifecycle
from payments.gateways.sandbox.simulator.midtrans import MidtransGateway
from payments.gateways.sandbox.simulator.native import NativeGateway
from payments.gateways.sandbox.simulator.state import State
from payments.gateways.sandbox.simulator.webhooks import Sender
from payments.gateways.sandbox.simulator.xendit import XenditGateway

# Where each gateway's URLs begin, and what its routes have instead.
_PREFIXES: Final = {
    "/sandbox": ("sandbox", ""),
    "/xendit": ("xendit", ""),
    "/midtrans-api": ("midtrans", "/api"),
    "/midtrans-app": ("midtrans", "/app"),
}
_BODY_LOGGED_MAX: Final = 64_000
# What `failure_rate` draws from.
_CHANCE_EFFECTS: Final = ("http_500", "http_500_after_commit", "http_503", "reset_after_commit")


@dataclass
class Outcome:
    """An answer, and what happens to it on its way."""

    answer: Answer
    effect: str | None = None


class Simulation:
    """The three gateways over one state. Knows nothing of sockets."""

    def __init__(
        self,
        *,
        seed: str | None = None,
        state_file: Path | None = None,
        hurries: bool = False,
        settings: Json | None = None,
    ) -> None:
        self.state = State(seed=seed, file=state_file, settings=settings)
        self.lifecycle = Lifecycle(self.state)
        gateways: Sequence[Gateway] = (
            NativeGateway(self.lifecycle),
            XenditGateway(self.lifecycle),
            MidtransGateway(self.lifecycle),
        )
        self.lifecycle.gateways = {gateway.name: gateway for gateway in gateways}
        self.sender = Sender(self.lifecycle, hurries=hurries)
        self._control = Control(self.lifecycle, self.sender)
        # Set when the server stops: nobody sleeps on.
        self.stopping = threading.Event()

    def answer(self, request: Request) -> Outcome:
        """What the request comes to. Sleeps if it was told to; saves what it changed."""
        prefix, _, rest = request.path[1:].partition("/")
        try:
            if prefix == "_sim":
                outcome = Outcome(self._control_answer(request, f"/{rest}"))
            elif prefix == "checkout":
                outcome = Outcome(self._page_answer(request, rest))
            elif f"/{prefix}" in _PREFIXES:
                outcome = self._gateway_answer(request, f"/{prefix}", f"/{rest}")
            else:
                # Also where a fault redirects to: who follows it can be seen in the requests.
                with self.state.lock:
                    self._note(request)
                outcome = Outcome(Answer(404, {"error": {"code": "not_found"}}))
        except Refusal as refusal:
            outcome = Outcome(refusal.answer)
        self.state.save()
        return outcome

    # --- Desk and pages ------------------------------------------------------------------------

    def _control_answer(self, request: Request, path: str) -> Answer:
        if (request.method, path) == ("POST", "/webhooks/flush"):
            return self._control.flush(request)
        found = find_route(self._control.routes, request.method, path)
        if found is None:
            return Answer(404, {"error": {"code": "not_found", "message": "No such endpoint."}})
        with self.state.lock:
            answer = found[0].run(request, *found[1])
            if request.method != "GET":
                self.state.commit()
            # Its objects may change as soon as the lock is given back.
            answer.body = answer.encoded()
        return answer

    def _page_answer(self, request: Request, rest: str) -> Answer:
        token, _, step = rest.partition("/")
        with self.state.lock:
            payment = pages.page_of(self.state, token)
            if request.method == "POST":
                answer = pages.press(self.lifecycle, payment, step)
                self.state.commit()
                return answer
            return pages.show_page(None if step else payment)

    # --- Gateways ------------------------------------------------------------------------------

    def _gateway_answer(self, request: Request, prefix: str, rest: str) -> Outcome:
        request.gateway, place = _PREFIXES[prefix]
        gateway = self.lifecycle.gateways[request.gateway]
        found = find_route(gateway.routes, request.method, place + rest)
        request.op = found[0].op if found else ""
        with self.state.lock:
            gateway.identify(request)
            self._note(request)
            fault = self._take_fault(request)
            delay_s = self.state.settings.delay_ms / 1000
        try:
            self.stopping.wait(delay_s + (fault.ms / 1000 if fault else 0))
            if fault is not None and not fault.is_committed:
                answer = gateway.fault_answer(500)
            else:
                answer = self._run(gateway, request, found)
        finally:
            with self.state.lock:
                gateway.leave(request)
        effect = fault.effect if fault else answer.effect
        return Outcome(_broken(gateway, request, answer, effect), effect)

    def _run(
        self, gateway: Gateway, request: Request, found: tuple[Route, list[str]] | None
    ) -> Answer:
        with self.state.lock:
            # What was due before this request has happened before it.
            self.lifecycle.run_due_jobs()
            try:
                if found is None:
                    return gateway.fault_answer(404)
                if (early := gateway.before(request)) is not None:
                    return early
                answer = found[0].run(request, *found[1])
                gateway.after(request, answer)
                answer.body = answer.encoded()
                return answer
            finally:
                # To look changes nothing that has to be saved.
                if request.method != "GET":
                    self.state.commit()

    def _take_fault(self, request: Request) -> Fault | None:
        about = {name: getattr(request, name) for name in ("gateway", "op", "key", "reference")}
        if taken := faults.take(self.state.faults, faults.ON_ANSWER, **about):
            return taken[0]
        rate = self.state.settings.failure_rate
        if not rate or self.state.draw() >= rate:
            return None
        effect = _CHANCE_EFFECTS[int(self.state.draw() * len(_CHANCE_EFFECTS))]
        return Fault(effect, is_committed=effect in faults.AFTER_COMMIT)

    def _note(self, request: Request) -> None:
        noted: Json = {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": request.headers,
            "body": request.body[:_BODY_LOGGED_MAX].decode(errors="replace"),
            "gateway": request.gateway,
            "op": request.op,
            "key": request.key,
            "reference": request.reference,
            "at": rfc3339(self.state.clock.now()),
        }
        self.state.requests.append(noted)


def _broken(gateway: Gateway, request: Request, answer: Answer, effect: str | None) -> Answer:
    """The answer as the effect leaves it; what only a socket can do comes later."""
    match effect:
        case "http_500" | "http_500_after_commit":
            return gateway.fault_answer(500)
        case "http_503" | "http_429":
            refused = gateway.fault_answer(int(effect[-3:]))
            refused.headers["Retry-After"] = "1"
            return refused
        case "html":
            page = "<!doctype html><title>Welcome</title><p>Please sign in to the network.</p>"
            return Answer(200, page, content_type="text/html; charset=utf-8")
        case "redirect":
            return Answer(302, "", {"Location": f"{request.base_url}/elsewhere"})
        case "garbage":
            body = answer.encoded()
            return Answer(200, body[: len(body) // 2], answer.headers)
        case _:
            return answer
