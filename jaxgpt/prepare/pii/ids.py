"""National ids: unmistakable forms, or digits next to a word; python-stdnum checks the digits."""

import re
from types import ModuleType, SimpleNamespace

from stdnum.at import vnr
from stdnum.au import tfn
from stdnum.be import nn
from stdnum.bg import egn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.cl import rut
from stdnum.cn import ric
from stdnum.cz import rc
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.ee import ik
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.gr import amka
from stdnum.hr import oib
from stdnum.id import nik
from stdnum.ie import pps
from stdnum.il import idnr as teudat
from stdnum.in_ import aadhaar, pan
from stdnum.is_ import kennitala
from stdnum.it import codicefiscale
from stdnum.jp import in_ as my_number
from stdnum.kr import rrn
from stdnum.lt import asmens
from stdnum.mx import curp
from stdnum.my import nric
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.pl import pesel
from stdnum.pt import nif
from stdnum.ro import cnp
from stdnum.se import personnummer
from stdnum.th import pin
from stdnum.tr import tckimlik
from stdnum.us import itin, ssn
from stdnum.za import idnr as za_id

from jaxgpt.prepare.pii.numbers import Spans
from jaxgpt.prepare.pii.words import GROUP, RUN, candidate_numbers, context_of, is_standalone

# China's districts were renamed often, but numbers don't change: only the province is checked.
PROVINCE = re.compile(r"(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3])\d{4}(?:18|19|20)")


def _is_resident(number: str) -> bool:
    if len(number) != 18 or not PROVINCE.match(number) or ric.calc_check_digit(number) != number[-1].upper():
        return False
    ric.get_birth_date(number)  # raises a ValueError if the day does not exist
    return True


resident = SimpleNamespace(is_valid=_is_resident)
Validator = ModuleType | SimpleNamespace

# The validators for a country's digits, by the names in words.ID_WORDS.
VALIDATORS: dict[str, tuple[Validator, ...]] = {
    "us": (ssn, itin), "ca": (sin,), "au": (tfn,), "gb": (nhs,), "fr": (nir,), "de": (idnr,), "nl": (bsn,), "be": (nn,),
    "pl": (pesel,), "se": (personnummer, fodselsnummer), "no": (fodselsnummer,), "dk": (cpr,), "is": (kennitala,),
    "br": (cpf,),
    "in": (aadhaar,), "cn": (resident,), "za": (za_id,), "tr": (tckimlik,), "ch": (ahv,), "at": (vnr,), "cz": (rc,),
    "pt": (nif,), "ro": (cnp,), "bg": (egn,), "hr": (oib,), "ee": (ik,), "lt": (asmens,), "gr": (amka,), "kr": (rrn,),
    "jp": (my_number,),
    "cl": (rut,), "th": (pin,), "my": (nric,), "il": (teudat,), "id": (nik,), "es": (nif,),
}  # fmt: skip
# What needs no word next to it: the usual grouping of the digits, or checks that random digits seldom pass.
FORMS: dict[str, tuple[Validator, ...]] = {
    "3-2-4": (ssn, itin), "3-3-3": (sin,), "4.2.3": (bsn,), "2 3 3 3": (idnr,), "2.2.2-3.2": (nn,), "3.3.3-2": (cpf,),
    "4 4 4": (aadhaar,), "4-4-4": (aadhaar,), "6-4": (personnummer, cpr, kennitala), "6+4": (personnummer,),
    "8-4": (personnummer,), "6/4": (rc,), "6/3": (rc,),
    "6-7": (rrn,), "6 5": (fodselsnummer,), "4 6": (vnr,), "3.4.4.2": (ahv,),
    "3 4 4 2": (ahv,),
    "1-4-5-2-1": (pin,), "1 4 5 2 1": (pin,), "6-2-4": (nric,), "1 2 2 2 3 3 2": (nir,), "1 2 2 2 3 3": (nir,),
    "15": (nir,), "18": (resident,), "13": (ahv, za_id), "11": (fodselsnummer, tckimlik, idnr), "6 4 3": (za_id,),
    "6 4 2 1": (za_id,),
    "1.2.2.2.3.3.2": (nir,), "1-2-2-2-3-3-2": (nir,),  "6-3-2": (nn,), "2.3.3-1": (rut,), "1.3.3-1": (rut,),
}  # fmt: skip

DIGITS = re.compile(r"\d{2,}|[12] ")
# Ids with letters, searched by their first digits, which are rarer than letters; a group is a form, with its validator.
LETTERS = re.compile(
    r"(?P<it>(?<=[A-Za-z]{6})\d[\dL-V][A-Ta-t][\dL-V]{2}[A-Za-z][\dL-V]{3}[A-Za-z])"  # codice fiscale
    r"|(?P<it_grouped>(?<=[A-Za-z]{3} [A-Za-z]{3} )\d\d[A-Ta-t]\d\d [A-Za-z]\d{3}[A-Za-z])"
    r"|(?P<mx>(?<=[A-Za-z]{4})\d{6}[HMXhmx][A-Za-z]{5}[0-9A-Za-z]\d)"  # CURP
    r"|(?P<in_pan>(?<=[A-Z]{5})\d{4}[A-Z])"
    r"|(?P<gb_nino>(?<=[A-Z]{2})\d{6}[A-D]|(?<=[A-Z]{2} )\d\d \d\d \d\d [A-D])"
    r"|(?P<nie>(?<=[XYZxyz])\d{7}[- ]?[A-Za-z]|(?<=[XYZxyz][- ])\d{7}[- ]?[A-Za-z])"
    r"|(?P<es>(?<!\d)(?:\d{8}|\d\d\.\d{3}\.\d{3})[- ]?[A-Za-z])"  # DNI
    r"|(?P<fi>(?<!\d)\d{6}[-+A-FU-Y]\d{3}[0-9A-Ya-y])"
    r"|(?P<ie>(?<!\d)\d{7}[A-W][ABHW]?)"
    r"|(?P<cn>(?<!\d)\d{17}[Xx])"
    r"|(?P<cl>(?<!\d)\d{1,2}\.?\d{3}\.?\d{3}-[\dKk](?!\d))"
    r"|(?P<fr>(?<!\d)[12] ?\d\d ?\d\d ?2[AB] ?\d{3} ?\d{3}(?: ?\d\d)?)"  # born on Corsica
)
BACK = {"it": 6, "it_grouped": 8, "mx": 4, "in_pan": 5, "gb_nino": 2, "nie": 1}
LETTERED = {
    "it": codicefiscale, "it_grouped": codicefiscale, "mx": curp, "in_pan": pan, "nie": nie, "es": dni, "fi": hetu,
    "ie": pps, "cn": resident, "cl": rut, "fr": nir,
}  # fmt: skip
# National Insurance numbers have no check digit, but prefixes that are never given.
NINO = re.compile(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]")
DIGIT_BEFORE = re.compile(r"\d[ \u00a0\u202f]\Z")
MORE = re.compile(r"[ \u00a0\u202f]\d+(?![\d./:-])")  # but no date
CLOCK = re.compile(r"20\d{6}-(?:[01]\d|2[0-3])[0-5]\d")  # 20240131-1530: a time stamp, if no word says otherwise


def _is_valid(validator: Validator, number: str) -> bool:
    try:
        return validator.is_valid(number)
    except (ValueError, IndexError, KeyError):  # some validators raise these for digits that they don't expect
        return False


def detect_national_ids(text: str) -> Spans:
    for run in RUN.finditer(text):
        last = run.start()
        for start, end, form in candidate_numbers(text, run):
            if start >= last and _is_id(text, start, end, form):
                yield "national_id", start, end
                last = end
    for digits in DIGITS.finditer(text):
        match = LETTERS.match(text, digits.start())
        if not match:
            continue
        name = match.lastgroup
        start, end = match.start() - BACK.get(name, 0), match.end()
        if name in ("gb_nino", "nie") and not text[match.start() - 1].isalnum():
            start -= 1
        if _is_lettered(text, start, end, name):
            yield "national_id", start, end


def _is_id(text: str, start: int, end: int, form: str) -> bool:
    if not is_standalone(text, start, end):
        return False
    word = context_of(text, start, end)
    if form not in FORMS and not word:
        return False
    number = text[start:end]
    digits = "".join(GROUP.findall(number))
    if len(set(digits)) == 1:
        return False
    if word.startswith("id_"):  # other countries' checks don't count then
        return any(_is_valid(each, number if form == "6+4" else digits) for each in VALIDATORS.get(word[3:], ()))
    alone = any(_is_valid(each, number if form == "6+4" else digits) for each in FORMS.get(form, ()))
    if word == "any_id":
        return alone or any(_is_valid(each, digits) for validators in VALIDATORS.values() for each in validators)
    # 13 digits that begin like a time stamp in milliseconds.
    if word or (form == "13" and re.match("1[4-9]", digits)) or CLOCK.fullmatch(number):
        return False
    # Groups separated by blanks may be in the middle of a longer number: a card, a bank account.
    return alone and not (
        " " in form and (DIGIT_BEFORE.search(text, max(0, start - 2), start) or MORE.match(text, end))
    )


def _is_lettered(text: str, start: int, end: int, name: str) -> bool:
    number = text[start:end]
    if not is_standalone(text, start, end):
        return False
    plain = re.sub(r"[ .]", "", number)
    if not (NINO.match(plain) if name == "gb_nino" else _is_valid(LETTERED[name], plain)):
        return False
    word = context_of(text, start, end)
    if word.startswith("id_") or word == "any_id":
        return True
    if name == "cl":
        return "." in number and not word
    # India's tax number has no check digit, but P as fourth letter for a person. Hashes have small letters.
    return not word and (name != "in_pan" or number[3] == "P") and (number.upper() == number or len(number) > 15)
