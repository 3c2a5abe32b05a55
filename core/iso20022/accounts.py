"""Whether an account of a beneficiary can exist: IBAN, BIC, and numbers where there is no IBAN."""

import re
from typing import Final

from stdnum import bic, iban, numdb
from stdnum.exceptions import ValidationError
from stdnum.us import rtn

# ISO 20022: Max34Text.
ACCOUNT_NUMBER_LENGTH_MAX: Final = 34
_COUNTRY = re.compile("[A-Z]{2}")
_SEPARATORS = re.compile(r"[ .\-]")
# As banks of the country print them, without the bank's and the branch's number; from the
# payment systems' forms, wide where banks differ. (fewest, most) digits.
_DIGITS_BY_COUNTRY: Final = {
    "AU": (5, 9),
    "CA": (7, 12),
    "CN": (10, 32),
    "HK": (6, 12),
    "ID": (6, 20),
    "IN": (9, 18),
    "JP": (7, 7),
    "KR": (10, 14),
    "MY": (7, 17),
    "NZ": (15, 16),
    "PH": (6, 16),
    "SG": (7, 14),
    "TH": (10, 12),
    "US": (4, 17),
    "VN": (6, 19),
}
_ELSEWHERE = re.compile(r"(?=.*[0-9])[A-Z0-9]{4,34}")
# Federal Reserve districts, thrifts, electronic transactions, travellers' cheques. 00 is the
# government's own.
_ROUTING_NUMBER = re.compile(r"(?:0[1-9]|1[0-2]|2[1-9]|3[0-2]|6[1-9]|7[0-2]|80)[0-9]{7}")


class InvalidAccount(ValueError):
    """No such account can exist. The sentence is for people and never repeats the number."""


def checked_iban(text: str, country: str | None = None) -> str:
    """
    Return the IBAN in capitals without blanks.

    :param country: ISO 3166 code that the IBAN must begin with
    :raises InvalidAccount: wrong form, check digits or country
    """
    try:
        number = iban.validate(text)
    except ValidationError:
        raise InvalidAccount("This is not an IBAN: please look at its digits again.") from None
    if country is not None and not number.startswith(_checked_country(country)):
        raise InvalidAccount(f"The IBAN is of {number[:2]}, not of {country}.")
    return number


def checked_bic(text: str, country: str | None = None) -> str:
    """
    Return the BIC in capitals, 8 or 11 characters. Whether the bank exists is not known here.

    :raises InvalidAccount: wrong form or country
    """
    try:
        code = bic.validate(text)
    except ValidationError:
        raise InvalidAccount("This is not a BIC: it has 8 or 11 letters and digits.") from None
    if country is not None and code[4:6] != _checked_country(country):
        raise InvalidAccount(f"The BIC is of {code[4:6]}, not of {country}.")
    return code


def checked_account_number(text: str, country: str) -> str:
    """
    Return the account number without blanks, full stops and hyphens, letters as capitals.

    :raises InvalidAccount: wrong form for the country, or a country whose accounts have an IBAN
    """
    _checked_country(country)
    if has_iban(country):
        raise InvalidAccount(f"Accounts in {country} are named by their IBAN.")
    number = _SEPARATORS.sub("", text).upper()
    limits = _DIGITS_BY_COUNTRY.get(country)
    if limits is None:
        if not _ELSEWHERE.fullmatch(number):
            raise InvalidAccount("An account number has 4 to 34 letters and digits.")
        return number
    least, most = limits
    if not re.fullmatch("[0-9]+", number) or not least <= len(number) <= most:
        expected = str(least) if least == most else f"{least} to {most}"
        raise InvalidAccount(f"An account number in {country} has {expected} digits.")
    return number


def checked_routing_number(text: str) -> str:
    """
    Return the nine digits of a bank in the United States (ABA routing transit number).

    :raises InvalidAccount: wrong form, range or check digit
    """
    try:
        number = rtn.validate(_SEPARATORS.sub("", text))
    except ValidationError:
        number = ""
    if not _ROUTING_NUMBER.fullmatch(number):
        raise InvalidAccount("This is not a routing number: please look at its nine digits again.")
    return number


def has_iban(country: str) -> bool:
    """Return whether SWIFT's registry of IBANs has the country."""
    return bool(numdb.get("iban").info(country)[0][1])


def _checked_country(country: str) -> str:
    if not _COUNTRY.fullmatch(country):
        raise InvalidAccount("A country is two capital letters, such as ID.")
    return country
