"""Calling off a payment that nobody has paid: unless somebody just has."""

from collections.abc import Callable

from payments.gateways.port import NoSuchObject, PaymentReport, Refused, State, Uncertain


def call_off(
    name: str, *, cancel: Callable[[str], PaymentReport], ask: Callable[[], PaymentReport]
) -> PaymentReport:
    """
    Cancel what the gateway knows by this name, and say where it stands then.

    Without a name, because the answer that told it was lost, it is asked for first. What was paid,
    or was called off before, is refused: then asking says how it is.

    :raises GatewayFault: as asking does; Uncertain too if it is still open, and may not stay so
    """
    if not name:
        found = ask()
        if found.state is not State.PENDING:
            return found
        name = found.gateway_id
    try:
        return cancel(name)
    except (Refused, NoSuchObject, Uncertain) as fault:
        if isinstance(fault, Refused) and fault.is_about_us:
            raise
        report = ask()
        if isinstance(fault, Uncertain) and report.state is State.PENDING:
            raise
        return report
