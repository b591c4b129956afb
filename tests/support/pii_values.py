"""Made-up cards, accounts and national numbers whose check digits are right: material of tests/support/pii_cases.py.

The arithmetic is written out here, so that what is true does not come from the code that is judged by it. Every maker
takes a random.Random and returns a string.
"""

import random
import string
from datetime import date, timedelta

ALNUM = string.ascii_letters + string.digits
DNI = "TRWAGMYFPDXBNJZSQVHLCKE"
HETU = "0123456789ABCDEFHJKLMNPRSTUVWXY"
ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)  # Italy's table


# ---- Check digits


def luhn(number: str) -> int:
    """The digit that makes `number` and it pass Luhn's test (ISO/IEC 7812-1, annex B)."""
    doubled = (sum(divmod(2 * int(n), 10)) if i % 2 == 0 else int(n) for i, n in enumerate(reversed(number)))
    return -sum(doubled) % 10


def mod_97(text: str) -> int:
    """Letters as 10 to 35, then the whole number modulo 97 (ISO 7064)."""
    return int("".join(str(int(c, 36)) for c in text)) % 97


def verhoeff(number: str) -> int:
    """The check digit of Verhoeff's scheme: the dihedral group of ten elements, and a permutation by the place."""

    def times(a: int, b: int) -> int:
        if a < 5:
            return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
        return 5 + (a - b) % 5 if b < 5 else (a - b) % 5

    check = 0
    for place, n in enumerate(reversed(number), 1):
        n = int(n)
        for _ in range(place % 8):
            n = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[n]
        check = times(check, n)
    return next(n for n in range(10) if times(check, n) == 0)


def weighted(number: str, weights: list[int] | tuple[int, ...]) -> int:
    """The sum of digits times weights."""
    return sum(int(n) * w for n, w in zip(number, weights, strict=True))


def ean(number: str) -> int:
    """The check digit of EAN-13, ISBN-13 and Switzerland's AHV number, for twelve digits."""
    return -weighted(number, (1, 3) * 6) % 10


def mod_11_10(number: str) -> int:
    """The check digit of ISO 7064, MOD 11,10, which Germany's tax number has."""
    product = 10
    for n in number:
        product = 2 * ((int(n) + product) % 10 or 10) % 11
    return (11 - product) % 10


def cin(text: str) -> str:
    """Italy's check letter: of the codice fiscale, and of the account inside an IBAN."""
    values = [int(c) if c.isdigit() else ord(c) - 65 for c in text]
    return chr(65 + sum(ODD[n] if i % 2 == 0 else n for i, n in enumerate(values)) % 26)


def cpf(number: str) -> str:
    """Brazil's two check digits, for nine digits."""
    for _ in range(2):
        number += str(weighted(number, range(len(number) + 1, 1, -1)) * 10 % 11 % 10)
    return number[9:]


def tckn(number: str) -> str:
    """Turkey's two check digits, for nine digits."""
    n = [int(c) for c in number]
    tenth = (7 * sum(n[::2]) - sum(n[1::2])) % 10
    return f"{tenth}{(sum(n) + tenth) % 10}"


# ---- Parts


def digits(rng: random.Random, n: int, first: str = string.digits) -> str:
    return rng.choice(first) + "".join(rng.choices(string.digits, k=n - 1))


def letters(rng: random.Random, n: int, of: str = ALNUM) -> str:
    """Letters that look like a key: with a digit and, where `of` has them, capitals and small ones."""
    while True:
        text = "".join(rng.choices(of, k=n))
        kinds = (string.digits, string.ascii_lowercase, string.ascii_uppercase)
        if n < 8 or all(set(text) & set(kind) for kind in kinds if set(of) & set(kind)):
            return text


def groups(text: str, *sizes: int, by: str = " ") -> str:
    """`text` in groups of these sizes; the last size goes on."""
    out = []
    while text:
        size = sizes[min(len(out), len(sizes) - 1)]
        out.append(text[:size])
        text = text[size:]
    return by.join(out)


def born(rng: random.Random) -> date:
    return date(1945, 1, 1) + timedelta(rng.randrange(365 * 60))


def wrong(rng: random.Random, number: str) -> str:
    """The same number with another last character: check digits that fail."""
    return number[:-1] + rng.choice((string.digits if number[-1].isdigit() else DNI).replace(number[-1], ""))


# ---- What is to be found


def card(rng: random.Random) -> str:
    start, length = rng.choice(
        [("4", 16)] * 4
        + [(f"5{rng.randint(1, 5)}", 16)] * 3
        + [(str(rng.randint(2221, 2720)), 16)]
        + [(rng.choice(["34", "37"]), 15)] * 2
        + [(rng.choice(["6011", "65"]), 16), (f"35{rng.randint(28, 89)}", 16)]
        + [("36", 14)]
    )
    number = start + digits(rng, length - 1 - len(start))
    return number + str(luhn(number))


def card_style(rng: random.Random, number: str) -> str:
    sizes = {16: (4,), 15: (4, 6, 5), 14: (4, 6, 4)}[len(number)]
    return rng.choice([number, groups(number, *sizes), groups(number, *sizes), groups(number, *sizes, by="-")])


def iban(rng: random.Random) -> str:
    """An IBAN whose country's own check digits are right too, where the account has some."""
    country = rng.choice(["DE", "DE", "GB", "FR", "ES", "IT", "NL", "BE", "AT", "CH", "PL", "PT", "IE", "SE", "DK"])
    n = {"DE": 18, "AT": 16, "SE": 20, "DK": 14}.get(country)
    if n:
        account = digits(rng, n, "123456789")
    elif country in ("GB", "IE"):
        account = rng.choice({"GB": ["BARC", "NWBK", "LOYD"], "IE": ["AIBK", "BOFI"]}[country]) + digits(rng, 14)
    elif country == "NL":
        account = digits(rng, 9, "123456789")
        while (last := -weighted(account, range(10, 1, -1)) % 11) == 10:
            account = digits(rng, 9, "123456789")
        account = rng.choice(["ABNA", "INGB", "RABO"]) + account + str(last)
    elif country == "FR":
        account = digits(rng, 21, "123")
        bank, branch, number = int(account[:5]), int(account[5:10]), int(account[10:])
        account += f"{97 - (89 * bank + 15 * branch + 3 * number) % 97:02}"
    elif country == "ES":
        bank, number = digits(rng, 8, "012"), digits(rng, 10)
        weights = (1, 2, 4, 8, 5, 10, 9, 7, 3, 6)
        checks = [11 - weighted(part, weights) % 11 for part in ("00" + bank, number)]
        account = bank + "".join(str({10: 1, 11: 0}.get(c, c)) for c in checks) + number
    elif country == "IT":
        account = digits(rng, 22, "0123")
        account = cin(account) + account
    elif country == "BE":
        account = digits(rng, 10, "123456789")
        account += f"{int(account) % 97 or 97:02}"
    elif country == "CH":
        account = "00" + digits(rng, 15)
    elif country == "PL":
        bank = digits(rng, 7, "1")
        account = bank + str(-weighted(bank, (3, 9, 7, 1, 3, 9, 7)) % 10) + digits(rng, 16)
    else:  # PT
        account = "00" + digits(rng, 17)
        account += f"{98 - int(account + '00') % 97:02}"
    return f"{country}{98 - mod_97(account + country + '00'):02}{account}"


def iban_style(rng: random.Random, number: str) -> str:
    return rng.choice([number, groups(number, 4), groups(number, 4)])


def person(rng: random.Random, country: str) -> str:
    """A national number in its usual form: its check digits are right."""
    day = born(rng)
    if country == "ES":
        lead, n = rng.choice([("", digits(rng, 8)), ("XYZ"[k := rng.randrange(3)], digits(rng, 7))])
        return f"{lead}{n}{rng.choice(['', '', '-'])}{DNI[int((str(k) if lead else '') + n) % 23]}"
    if country == "FR":
        place = f"{rng.choice([75, 69, 13, 33, 59, 31])}{rng.randint(1, 380):03}"
        n = f"{rng.choice('12')}{day:%y%m}{place}{rng.randint(1, 480):03}"
        n += f"{97 - int(n) % 97:02}"
        return rng.choice([n, groups(n, 1, 2, 2, 2, 3, 3, 2)])
    if country == "IT":
        name = "".join(rng.choices("BCDFGLMNPRSTVZ", k=6))
        n = f"{day.day + rng.choice([0, 40]):02}{rng.choice(['H501', 'F205', 'L219', 'F839', 'D612'])}"
        n = f"{name}{day:%y}{'ABCDEHLMPRST'[day.month - 1]}{n}"
        return n + cin(n)
    if country == "DE":
        n = rng.sample(string.digits, 9)  # nine different digits, and one of them twice
        while n[0] == "0":
            n = rng.sample(string.digits, 9)
        n.insert(rng.randint(1, 9), rng.choice(n))
        n = "".join(n)
        return groups(n + str(mod_11_10(n)), 2, 3, 3, 3, by=rng.choice([" ", ""]))
    if country == "NL":
        while (last := weighted(n := digits(rng, 8, "12"), range(9, 1, -1)) % 11) == 10:
            pass
        return groups(f"{n}{last}", 4, 2, 3, by=rng.choice(["", "", "."]))
    if country == "BE":
        n = f"{day:%y%m%d}{rng.randint(1, 997):03}"
        check = 97 - int(("2" if day.year >= 2000 else "") + n) % 97
        return f"{day:%y.%m.%d}-{n[6:]}.{check:02}"
    if country == "PL":
        n = f"{day:%y}{day.month + 20 * (day.year >= 2000):02}{day:%d}{digits(rng, 4)}"
        return n + str(-weighted(n, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)
    if country == "SE":
        n = f"{day:%y%m%d}{digits(rng, 3)}"
        return f"{rng.choice(['', str(day.year)[:2]])}{n[:6]}-{n[6:]}{luhn(n)}"
    if country == "FI":
        n = f"{day:%d%m%y}{rng.randint(2, 899):03}"
        return f"{n[:6]}{'-' if day.year < 2000 else 'A'}{n[6:]}{HETU[int(n) % 31]}"
    if country == "BR":
        n = digits(rng, 9)
        return f"{groups(n, 3, by='.')}-{cpf(n)}"
    if country == "CA":
        n = digits(rng, 8, "1234567")
        return groups(f"{n}{luhn(n)}", 3, by=rng.choice([" ", " ", "-"]))
    if country == "IN":
        n = digits(rng, 11, "23456789")
        return groups(f"{n}{verhoeff(n)}", 4, by=rng.choice([" ", " ", ""]))
    if country == "CN":
        n = f"{rng.choice(['110101', '310104', '440305', '510107', '330106'])}{day:%Y%m%d}{digits(rng, 3)}"
        return n + "10X98765432"[weighted(n, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11]
    if country == "ZA":
        n = f"{day:%y%m%d}{digits(rng, 4)}0{rng.choice('89')}"
        return groups(f"{n}{luhn(n)}", 6, 4, 3, by=rng.choice(["", " "]))
    if country == "TR":
        n = digits(rng, 9, "123456789")
        return n + tckn(n)
    assert country == "CH", country
    n = f"756{digits(rng, 9)}"
    return groups(f"{n}{ean(n)}", 3, 4, 4, 2, by=".")
