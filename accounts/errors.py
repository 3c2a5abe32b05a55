"""Why an account is not opened or changed."""

from core.errors import DomainError


class AccountAlreadyExists(DomainError):
    code = "already_exists"
    title = "An account with this external id exists"
    http_status = 409


class OverdraftInUse(DomainError):
    code = "overdraft_in_use"
    title = "The account already uses more than this limit"
    http_status = 422
