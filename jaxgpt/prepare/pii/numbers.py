"""Phone numbers, payment cards and bank accounts in text: a cheap pattern finds candidates, a library checks them."""

import re
from collections.abc import Iterator
from functools import cache, lru_cache

import phonenumbers
from stdnum import ean, iban, isbn, luhn

from jaxgpt.prepare.pii.words import GROUP, RUN, candidate_numbers, context_of, is_standalone

Spans = Iterator[tuple[str, int, int]]

# --- payment cards: issuers' first digits and lengths (ISO/IEC 7812, the card networks' own lists), and Luhn

# Visa, Mastercard and American Express; Diners, Discover, JCB; UnionPay, Mir, Maestro and RuPay.
CARD_PREFIX = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|(?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|35(?:2[89]|[3-8]\d)\d{12,15}"
    r"|62\d{14,17}|220[0-4]\d{12}|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{9,15}|(?:60|8[12])\d{14}"
)
FOUR_BEFORE = re.compile(r"(?<!\d)(?!19|20)\d{4} \Z")  # but no year
FIFTH = re.compile(r" \d{4}(?![\d/]| \d{4})")
CARD_FORM = re.compile(r"1[3-9]|4([ .-])4\1(?:4\1[1-4]|4\1[34]\1[1-4]|6)|4([ .-])6\2[45]|4([ .-])3\3[34]\3[34]")


def _is_card(text: str, start: int, end: int, form: str) -> bool:
    if not CARD_FORM.fullmatch(form):
        return False
    digits = "".join(GROUP.findall(text, start, end))
    if not CARD_PREFIX.fullmatch(digits):
        return False
    if len(set(digits)) < 2 or not luhn.is_valid(digits):
        return False
    word = context_of(text, start, end)
    if word == "card":
        return True
    # Without a word, other numbers have these lengths too: articles (EAN), counters of 63 bits. "/" is part of a link.
    if (
        (form == "13" and ean.is_valid(digits))
        or (form == "19" and digits[0] == "4")
        or text[start - 1 : start] in ("/", "=")
    ):
        return False
    return word not in ("other", "phone") and (form != "13")


def detect_cards(text: str) -> Spans:
    for run in RUN.finditer(text):
        last = run.start()
        if run.end() - run.start() < 13:
            continue
        for start, end, form in candidate_numbers(text, run):
            # A fifth group of four makes it another number, such as a bank account; more groups belong to another card.
            longer = form != "16" and (
                FIFTH.match(text, end) or (start - last != 1 and FOUR_BEFORE.search(text, max(0, start - 6), start))
            )
            if start >= last and not longer and _is_card(text, start, end, form) and is_standalone(text, start, end):
                yield "credit_card", start, end
                last = end


# --- IBAN: the bank's country, two check digits, and what the country's banks have

IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}[ ]?\d{2}(?:[ \u00a0\u202f.-]?[A-Za-z0-9]){11,34}")
CHECK_DIGITS = re.compile(r"\d\d")  # the search starts from these, which are rarer than letters


def _mod_97(compact: str) -> int:
    """ISO 7064's checksum, 1 if it is right; faster than the library, which also checks the country."""
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97


def detect_ibans(text: str) -> Spans:
    last = 0
    for digits in CHECK_DIGITS.finditer(text):
        start = digits.start() - (3 if text[digits.start() - 1 : digits.start()] == " " else 2)
        match = IBAN.match(text, start) if start >= last and text[start].isalpha() else None
        if not match:
            continue
        # Words may follow: take the longest valid beginning that ends where a word ends.
        ends = [word.end() for word in re.finditer(r"[A-Za-z0-9]+(?![^\W_])", match.group())]
        for end in reversed(ends):
            compact = re.sub(r"[^A-Za-z0-9]", "", match.group()[:end]).upper()
            if 15 <= len(compact) <= 34 and _mod_97(compact) == 1 and iban.is_valid(compact, check_country=False):
                last = start + end
                yield "iban", start, last
                break


# --- phone numbers

SEP = r"[ \u00a0\u2009\u202f./()\-\u2010\u2011\u2013]"
# Seven or more digits in any grouping, after "(", "+" or "(+". One way to match, and possessive, as RUN.
PHONES = re.compile(rf"(?<![A-Za-z0-9_+])(?:\(?[+\uff0b] ?\(?|\()?\d(?:{SEP}{{0,3}}\d){{6,}}+")
EXTENSION = re.compile(r",?\s?(?:(?:x|ext\.?|extension|durchwahl|poste)\s?\d{1,6}|#\d{1,6})(?!\w)", re.IGNORECASE)
# Days, and ranges of years: 12.05.2023, 2023-05-12, 1998-2004. Not the French 06.12.34.56.78.
DATE = re.compile(
    r"\(?(?:\d{1,2}([./-])\d{1,2}\1(?:(?:19|20)\d\d|\d\d)(?![./-]?\d)|(?:1[5-9]|20)\d\d([./-])\d{1,2}\2\d{1,2}(?!\d)"
    r"|(?:1[5-9]|20)\d\d(?:\s?[-/\u2013 ]\s?(?:1[5-9]|20)\d\d)+(?!\d))"
)
# North America: the area begins with 2 to 9, and so does the exchange, except in examples such as 555-123-4567.
NANP = re.compile(
    rf"(?:1{SEP}{{1,2}})?(?:\([2-9]\d\d\){SEP}{{0,3}}\d{{3}}(?:[ .-]| - )|[2-9]\d\d([.-])\d{{3}}\1"
    r"|[2-9]\d\d (?:- )?\d{3}[ -](?:- )?)\d{4}"
)
BOOK = re.compile(r"97[89][ -]?\d[\d -]*|\d{1,5}[ -]\d{1,7}[ -]\d{1,7}[ -]\d")  # ISBN: four or five parts
MOBILE = re.compile(r"(?:\d{3} \d\d \d\d \d\d|\d\d \d{3} \d\d \d\d|1[3-9]\d[ -]\d{4}[ -]\d{4}|\(?\d\d\)? 9\d{4}-\d{4})")
RUSSIAN = re.compile(r"8[ -]?\(?[3489]\d\d\)?[ -]\d{3}[ -]?\d\d[ -]?\d\d")
AREA = re.compile(r"\(?(\d*)")
# The last part of a link or a DOI: signal/j.2018.469910. Not tel/fax.030 1234567.
PATH = re.compile(r"[^\s/]/[\w.%~-]{0,64}[A-Za-z][._-](?<!tel.)(?<!fax.)(?<!phone.)(?<!mob.)\Z", re.IGNORECASE)
# A bracket inside the number, (030); any other one encloses it.
OWN_BRACKET = re.compile(r"\([+\uff0b]? ?\d{1,5}\)")
PARENS = re.compile(r"\(0?\d{1,5}\)")
TRUNK = (
    "GB", "DE", "FR", "NL", "BE", "CH", "AT", "IT", "IE", "SE", "FI", "AU", "NZ", "JP", "KR", "CN", "IN", "ZA", "TR",
    "IL", "RO", "UA", "ID", "TH", "MY", "PH", "VN", "TW", "RS", "HR", "SI", "SK", "BG", "EG", "PK",
)  # fmt: skip
PLAIN = (
    "US", "ES", "PT", "PL", "DK", "NO", "CZ", "GR", "BR", "MX", "CN", "SG", "HK", "IN", "CL", "CO", "PE", "AR", "IT",
    "RU", "SA", "AE",
)  # fmt: skip
# Numbers that regulators reserve for films and books: invalid to the library, but people write them.
DRAMA = r"7700900\d{3}|1632960\d{3}|(?:11[3-8]|1[2-9]1|20|28|29)\d*496\d{4}|80815706\d\d"


@cache
def _numbering_plan(regions: tuple[str, ...], fixed: bool = True) -> re.Pattern[str]:
    """A pattern for the numbers in these regions' numbering plans, without the trunk 0, from phonenumbers' metadata."""
    patterns = [DRAMA]
    for region in regions:
        plan = phonenumbers.PhoneMetadata.metadata_for_region(region)
        kinds = (
            plan.fixed_line,
            plan.mobile,
            plan.toll_free,
            plan.shared_cost,
            plan.voip,
            plan.uan,
            plan.personal_number,
        )
        patterns += [kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern]
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


def _is_national(digits: str) -> bool:
    """Whether it is a number with a trunk 0, in a country that has one, or a number in a country that has none."""
    if digits[0] == "0":
        return bool(_numbering_plan(tuple(TRUNK)).fullmatch(digits, 1) or _numbering_plan(("IT",)).fullmatch(digits))
    return bool(
        _numbering_plan(tuple(PLAIN)).fullmatch(digits) or (len(digits) == 11 and digits[0] == "1" and digits[1] > "1")
    )


@lru_cache(16384)
def _is_international(digits: str) -> bool:
    try:
        number = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        return False
    # "Possible" is about the length; short numbers must also be in the country's plan, since +12345678 is often a sum.
    possible = phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE
    return possible and (len(digits) >= 10 or phonenumbers.is_valid_number(number))


def _is_phone(text: str, start: int, end: int) -> bool:
    raw = text[start:end]
    digits = "".join(GROUP.findall(raw))
    grouped = len(raw) > len(digits)
    if raw.lstrip("(")[:1] in ("+", "\uff0b"):
        # The 0 in "+44 (0)20" is dialled only within the country.
        return _is_international(re.sub(r"\D", "", raw.replace("(0)", "", 1))) or _is_international(digits)
    # The fast checks come first; the context is slow.
    more = EXTENSION.match(text, end)
    if DATE.match(raw) or not is_standalone(text, start, more.end() if more else end):
        return False
    if text[start - 1 : start] in "._-" and PATH.search(text, max(0, start - 80), start):
        return False
    likely = grouped and _has_phone_form(raw, digits)
    word = context_of(text, start, end, before=32)
    if word not in ("phone", "") or not (likely or word):
        return False
    if BOOK.fullmatch(raw) and isbn.is_valid(raw):
        return False
    return likely or _follows_phone_word(text, start, raw, digits)


def _has_phone_form(raw: str, digits: str) -> bool:
    """Whether its form is that of a phone number, as people in some country group the digits."""
    first = AREA.match(raw).group(1)
    if raw[0] == "(":
        return bool(NANP.fullmatch(raw)) or (bool(PARENS.match(raw)) and len(digits) > 8 and _is_national(digits))
    if digits[0] != "0":
        return bool(NANP.fullmatch(raw) or RUSSIAN.fullmatch(raw) or (MOBILE.fullmatch(raw) and _is_national(digits)))
    # An area code has at most five digits, and nobody uses dots and hyphens in one number.
    if len(first) > 5 or ("." in raw and "-" in raw):
        return False
    if first[:2] == "00" and len(digits) > 10 and _is_international(digits[2:]):
        return True
    # A trunk 0 and an area code, nine digits or more. A 0 alone begins a decimal or a book number.
    groups = GROUP.findall(raw)
    pairs = len(groups) != 5 and all(len(group) == 2 for group in groups)  # five in France; fewer are no phone number
    return len(first) > 1 and 9 <= len(digits) <= 12 and len(groups) <= 6 and not pairs and _is_national(digits)


# Right before a number of any form: "Tel.: ", "phone number is ", "call me at ".
RIGHT_BEFORE = re.compile(
    r"(?:\s|[:.=#*_(\[\"'|>-]|\b(?:number|numbers|no|nr|is|me|us|him|her|at|on|under|to|home|work|office|now"
    r"|n[uú]m[eé]ro|n[º°]|nummer|numer|ist|est|es|[eèé]|al|el|au|unter|auf|op|op het|do|em|no|pod|p[åa])\b){0,12}\Z",
    re.I,
)
WORD_END = re.compile(r"[^\W\d_]+\Z")


def _follows_phone_word(text: str, start: int, raw: str, digits: str) -> bool:
    if not 7 <= len(digits) <= 13 or len(set(digits)) == 1:
        return False
    if len(digits) >= 8 and (_is_national(digits) or (digits[:2] == "00" and _is_international(digits[2:]))):
        return True
    gap = RIGHT_BEFORE.search(text, max(0, start - 24), start).start()
    word = WORD_END.search(text, max(0, gap - 24), gap)
    direct = bool(word) and context_of(text, gap, gap, before=len(word.group()), after=0) == "phone"
    groups = GROUP.findall(raw)
    return direct and "/" not in raw.strip("/") and (len(groups) == 1 or max(map(len, groups)) > 2) and len(groups) <= 5


def detect_phones(text: str) -> Spans:
    for run in PHONES.finditer(text):
        groups = [match.span() for match in GROUP.finditer(text, *run.span())]
        # A phone number begins the run, or follows another one or a date, but not a part of another number.
        i, free = 0, bool(DATE.match(text, run.start()))
        while i < len(groups):
            start = run.start() if i == 0 else groups[i][0] - (text[groups[i][0] - 1] == "(")
            start += text[start] == "(" and not OWN_BRACKET.match(text, start)
            next_group = 0
            if i == 0 or (free and text[start - 1] not in ".-"):
                ends, n = [], 0  # groups it may end with: before a blank or a slash, or at the run's end
                for j in range(i, len(groups)):
                    n += groups[j][1] - groups[j][0]
                    if n > 17:
                        break
                    # Another phone number or a small number may follow, but no more digits of the same one.
                    last = j + 1 == len(groups)
                    more = not last and groups[j + 1][1] - groups[j + 1][0] > 2 and text[groups[j + 1][0]] != "0"
                    stop = groups[j][1]
                    closed = text[stop : stop + 1] == ")" and text.count("(", start, stop) == text.count(
                        ")", start, stop
                    )
                    if n >= 7 and (last or closed or (text[stop] not in ".-)" and not (text[start] == "0" and more))):
                        ends.append(j)
                next_group = next((j + 1 for j in reversed(ends) if _is_phone(text, start, groups[j][1])), 0)
            if next_group:
                end = groups[next_group - 1][1]
                more = EXTENSION.match(text, end)
                yield "phone", start, more.end() if more else end
                i, free = next_group, True
            else:
                i += 1
