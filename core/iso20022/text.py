"""
Text as banks take it: the characters of SWIFT's set X, without its line breaks.

Names and remittance information are rewritten; references are refused, for the bank's answer
must name them as we know them.
"""

import re
import unicodedata
from typing import Final

REFERENCE_LENGTH_MAX: Final = 35
# The schema allows 140, and most banks cut or refuse after 70.
NAME_LENGTH_MAX: Final = 70
REMITTANCE_LENGTH_MAX: Final = 140

_ALLOWED = re.compile(r"[A-Za-z0-9/\-?:().,'+ ]+")
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9/\-?:().,'+ ]+")
_BLANKS = re.compile(r"\s+")
_SLASHES = re.compile(r"/(?: ?/)+")

# What NFKD does not take apart: each word is a letter and what stands for it.
_LETTERS: Final = (
    "ßss ẞSS æae ÆAE œoe ŒOE þth ÞTh øo ØO łl ŁL đd ĐD ðd ÐD ħh ĦH ŧt ŦT ŋng ŊNg"
    " \u0131i ĸk əa ƏA ɓb ƁB ɗd ƊD ƙk ƘK €EUR £GBP ¥JPY ©(c) ®(r)"
)
# After EPC217-08, where a full stop stands for what has no better place; here quotes stay quotes.
# Escapes are characters that look like others.
_SIGNS: Final = {
    '"`\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2032\u2033\u2039\u203a«»': "'",
    "\u02b9\u02ba\u02bb\u02bc\u02bd\u02be\u02bf\u02c8": "'",
    "_~\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2022\u00b7": "-",
    "\\|\u2044\u2215": "/",
    "<[{": "(",
    ">]}": ")",
    "!#$%=^*": ".",
    "&": "+",
    ";": ",",
    "@": "(at)",
    "\u00d7": "x",
    "¿": "?",
}
_REPLACEMENTS: Final = str.maketrans(
    {word[0]: word[1:] for word in _LETTERS.split()}
    | {sign: written for signs, written in _SIGNS.items() for sign in signs}
)


def transliterated(text: str, length_max: int) -> str:
    """
    Return the text in SWIFT's characters, blanks collapsed, cut to the length; perhaps empty.

    Accents fall away; scripts without a table here (Arabic, Chinese, Cyrillic) become a blank.
    Slashes neither begin nor end nor repeat, for MT messages give `//` a meaning.
    """
    if not _ALLOWED.fullmatch(text):
        decomposed = unicodedata.normalize("NFKD", text)
        base = "".join(c for c in decomposed if not unicodedata.combining(c))
        text = _NOT_ALLOWED.sub(" ", _BLANKS.sub(" ", base.translate(_REPLACEMENTS)))
    text = _SLASHES.sub("/", _BLANKS.sub(" ", text)).strip(" /")
    return text[:length_max].rstrip(" /")


def identifier(text: str, length_max: int = REFERENCE_LENGTH_MAX) -> str:
    """
    Return the reference as it is.

    :raises ValueError: empty, too long, other characters, blanks around it, a slash at either end
        or two in a row
    """
    if not 1 <= len(text) <= length_max:
        raise ValueError(f"A reference has 1 to {length_max} characters.")
    if not _ALLOWED.fullmatch(text):
        raise ValueError(
            "A reference has letters a-z, digits, blanks and / - ? : ( ) . , ' + only."
        )
    if text[0] in "/ " or text[-1] in "/ " or "//" in text:
        raise ValueError("A reference neither begins nor ends with / or a blank, nor contains //.")
    return text
