"""Payment cards (ISO/IEC 7812 and 7813) and bank accounts (ISO 13616)."""

# ruff: noqa: RUF001

import random

from tests.support.pii_blind.contacts import digits_as
from tests.support.pii_blind.draw import Draw, chars, luhn, weighted, within


def card(prefixes: str, length: int, groups: str = "") -> Draw:
    """A number that passes Luhn's test; groups is "4 6 5" for groups of so many digits, with their separator."""

    def draw(rng: random.Random) -> str:
        digits = rng.choice(prefixes.split())
        digits += chars("d", length - 1 - len(digits), rng)
        digits += luhn(digits)
        for separator in (groups[1:2],) if groups else ():
            sizes, pieces, start = [int(n) for n in groups.split(separator)], [], 0
            for size in sizes:
                pieces.append(digits[start : start + size])
                start += size
            digits = separator.join(pieces)
        return digits

    return draw


PAY = (
    "Card: {}",
    "credit card number {}",
    "Visa {} exp 04/29",
    "paid with card {} today",
    '{"card_number": "{}"}',
    "CC# {}, CVV 123",
)
BARE = ("{}", "I typed {} there", "ref {} ok", '["{}"]')
VISA, MASTER, AMEX = "4", "51 52 53 54 55 2221 2500 2720", "34 37"
CARDS = {  # ISO/IEC 7812 (issuers' numbers, Luhn) and 7813 (tracks)
    "usual": {
        "Visa spaces": within(*PAY)(card(VISA, 16, "4 4 4 4")),
        "Visa dashes": within(*PAY)(card(VISA, 16, "4-4-4-4")),
        "Visa": within(*PAY)(card(VISA, 16)),
        "MasterCard": within(*PAY)(card(MASTER, 16, "4 4 4 4")),
        "American Express": within(*PAY)(card(AMEX, 15, "4 6 5")),
    },
    "hard": {
        "no word": within(*BARE)(card(VISA, 16)),
        "no word, groups": within(*BARE)(card(MASTER, 16, "4 4 4 4")),
        "American Express bare": within(*BARE)(card(AMEX, 15)),
        "Discover": within(*PAY, *BARE)(card("6011 65 644", 16)),
        "Diners": within(*PAY)(card("36 300 38", 14, "4 6 4")),
        "JCB": within(*PAY, *BARE)(card("3528 3589", 16, "4 4 4 4")),
        "UnionPay": within(*PAY, *BARE)(card("62", 16, "4 4 4 4")),
        "UnionPay 19": within(*PAY)(card("62", 19)),
        "Maestro 12": within(*PAY)(card("5018 6304 6759", 12)),
        "Maestro 19": within(*PAY)(card("5018 6304 6759", 19)),
        "Mir": within(*PAY)(card("2200 2204", 16, "4 4 4 4")),
        "Visa 13": within(*PAY)(card(VISA, 13)),
        "dots": within(*PAY)(card(VISA, 16, "4.4.4.4")),
        "no-break space": within(*PAY)(card(VISA, 16, "4\xa04\xa04\xa04")),
        "en dash": within(*PAY)(card(MASTER, 16, "4–4–4–4")),
        "underscores": within(*PAY)(card(VISA, 16, "4_4_4_4")),
        "lines": within("Card:\n{}\nexp 04/29")(card(VISA, 16, "4\n4\n4\n4")),
        "track 1": within("%B{}^MEYER/JO^2904101000000000000?")(card(VISA, 16)),
        "track 2": within(";{}=29041010000000000?")(card(MASTER, 16)),
        "full width": within("カード番号 {}", "Card: {}")(
            lambda rng: digits_as("０")(card(VISA, 16, "4 4 4 4")(rng), 0)
        ),
        "amex as 4-4-4-3": within(*PAY)(card(AMEX, 15, "4-4-4-3")),
    },
}

# SWIFT's registry: the BBAN as runs of digits (n), capitals (a) and both (c);
# without national check digits, or as below.
IBANS = {
    "DE": "18n", "GB": "4a14n", "NL": "4a10n", "AT": "16n", "CH": "5n12c", "SE": "20n", "DK": "14n", "IE": "4a14n",
    "LU": "3n13c", "MT": "4a5n18c", "RO": "4a16c", "BG": "4a6n8c", "GR": "7n16c", "LV": "4a13c", "LT": "16n",
    "CY": "8n16c", "TR": "5n1z16n", "SA": "2n18c", "AE": "19n", "BR": "23n1a1c", "KZ": "3n13c", "UA": "6n19c",
    "BE": "", "FR": "", "ES": "",
}  # fmt: skip


def _bban(country: str, rng: random.Random) -> str:
    n = lambda count: chars("d", count, rng)  # noqa: E731
    if country == "BE":
        account = rng.choice(["001", "068", "310", "734"]) + n(7)  # banks that exist
        return account + f"{int(account) % 97 or 97:02d}"
    if country == "FR":  # the clé RIB
        bank, branch, account = n(5), n(5), n(11)
        return f"{bank}{branch}{account}{97 - (89 * int(bank) + 15 * int(branch) + 3 * int(account)) % 97:02d}"
    if country == "ES":
        bank, account = n(8), n(10)
        weights = [1, 2, 4, 8, 5, 10, 9, 7, 3, 6]
        checks = (11 - weighted(part, weights) % 11 for part in ("00" + bank, account))
        return bank + "".join({11: "0", 10: "1"}.get(check, str(check)) for check in checks) + account
    structure, text, count = IBANS[country], "", ""
    for c in structure:
        if c.isdigit():
            count += c
            continue
        text += "0" * int(count) if c == "z" else chars({"n": "d", "a": "A", "c": "DA"}[c], int(count), rng)
        count = ""
    return text


def iban(separator: str) -> Draw:
    def draw(rng: random.Random) -> str:
        country = rng.choice(list(IBANS))
        bban = _bban(country, rng)
        number = "".join(str(int(c, 36)) for c in bban + country + "00")
        text = f"{country}{98 - int(number) % 97:02d}{bban}"
        return separator.join(text[i : i + 4] for i in range(0, len(text), 4))

    return draw


TRANSFER = ("IBAN: {}", "Please pay to {} by May.", "account {}, BIC COBADEFFXXX", '{"iban": "{}"}', "{}")
IBAN_FORMS = {  # ISO 13616 (SWIFT's registry of structures), EPC's paper form in groups of four
    "usual": {
        "electronic": within(*TRANSFER)(iban("")),
        "groups": within(*TRANSFER)(iban(" ")),
    },
    "hard": {
        "dashes": within(*TRANSFER)(iban("-")),
        "lower case": within(*TRANSFER[:4])(lambda rng: iban("")(rng).lower()),
        "no-break space": within(*TRANSFER)(iban("\xa0")),
        "dots": within(*TRANSFER[:4])(iban(".")),
        "glued": within("IBAN:{};BIC", "iban={}&bic=X", "IBAN{}")(iban("")),
        "line break": within("IBAN: {}")(iban("\n")),
    },
}
