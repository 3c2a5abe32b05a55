"""Why payments through gateways are refused."""

from core.errors import DomainError


class GatewayError(DomainError):
    """The gateway refused us, not the payer: our credentials, or a request it cannot read."""

    code = "gateway_error"
    title = "The gateway refused the request"
    http_status = 502
    is_transient = True


class NoGateway(DomainError):
    code = "no_gateway"
    title = "No gateway is set up for this"
    http_status = 422


class CurrencyNotSupported(DomainError):
    code = "currency_not_supported_by_gateway"
    title = "The gateway does not take this currency"
    http_status = 422


class CardDataRefused(DomainError):
    """Card numbers are never taken, but for the sandbox's own test cards."""

    code = "card_data_refused"
    title = "Card numbers are not taken here"
    http_status = 422


class RefundExceedsPayment(DomainError):
    code = "refund_exceeds_payment"
    title = "More than is left of the payment"
    http_status = 422
