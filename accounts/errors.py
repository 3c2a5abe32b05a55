"""Why an account is not opened or changed."""

from core.errors import AlreadyExists, DomainError


class AccountAlreadyExists(AlreadyExists):
    """The tenant has an account with this external id."""


class OverdraftInUse(DomainError):
    code = "overdraft_in_use"
    title = "The account already uses more than this limit"
    http_status = 422
