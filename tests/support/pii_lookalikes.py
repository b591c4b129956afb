"""Numbers and names that are none of what is to be found: what tests/support/pii_texts.py's [[name]] stands for."""

import base64
import random
import uuid

from tests.support.pii_values import (
    card,
    card_style,
    digits,
    ean,
    groups,
    iban,
    iban_style,
    letters,
    luhn,
    mod_97,
    person,
    wrong,
)

HEX = "0123456789abcdef"
FIRST = (
    "Anna Jonas María Élodie Marco Ingrid Pieter Zofia João Amélie Thomas Priya Kenji Olivia Samuel Björn Lucía Chloé"
)
LAST = "Keller Moreau García Rossi Lindqvist Vermeulen Kowalska Almeida Novák Fischer Nakamura Whitfield Okafor Brandt"


def broken_iban(rng: random.Random) -> str:
    number = iban(rng)
    while mod_97(number[4:] + number[:4]) == 1:
        number = number[:2] + f"{rng.randint(2, 98):02}" + number[4:]
    return iban_style(rng, number)


def broken_person(rng: random.Random, country: str) -> str:
    """A national number with another last character, with which its check fails."""
    number = wrong(rng, person(rng, country))
    n = "".join(c for c in number if c.isdigit())
    if country == "BE" and any((int(century + n[:9]) + int(n[9:])) % 97 == 0 for century in ("", "2")):
        return broken_person(rng, country)  # right for somebody who was born in the other century
    return number


def isbn(rng: random.Random) -> str:
    n = f"978{rng.choice('013')}{digits(rng, 8)}"
    n += str(ean(n))
    return rng.choice([n, f"{n[:3]}-{n[3]}-{n[4:7]}-{n[7:12]}-{n[12]}"])


def barcode(rng: random.Random) -> str:
    n = f"{rng.choice(['30', '50', '76', '80', '87'])}{digits(rng, 10)}"
    return f"{n}{ean(n)}"


def imei(rng: random.Random) -> str:
    n = f"{rng.choice(['35', '86'])}{digits(rng, 12)}"
    return f"{n}{luhn(n)}"


FILLERS = {
    "first": FIRST.split(),
    "last": LAST.split(),
    "name": lambda r: f"{r.choice(FIRST.split())} {r.choice(LAST.split())}",
    "city": [
        "Lisbon",
        "Graz",
        "Leeds",
        "Nantes",
        "Utrecht",
        "Turin",
        "Gdańsk",
        "Malmö",
        "Sevilla",
        "Denver",
        "Köln",
        "Basel",
    ],
    "co": ["Harborstone", "Lumen Works", "Cedar & Sons", "Velvet Media", "Quartz AG", "Emberline Ltd", "Maple Labs"],
    "word": ["harbor", "lantern", "copper", "meadow", "signal", "ribbon", "walnut", "kettle", "orchard", "marble"],
    "n": lambda r: str(r.randint(2, 98)),
    "big": lambda r: f"{r.randint(2, 98)},{r.randint(100, 999)}",
    "year": lambda r: str(r.randint(1890, 2025)),
    "price": lambda r: f"{r.randint(3, 980)}.{r.randint(0, 99):02}",
    "date": lambda r: f"{r.randint(2005, 2025)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}",
    "dmy": lambda r: f"{r.randint(1, 28):02}{(s := r.choice('./-'))}{r.randint(1, 12):02}{s}{r.randint(1995, 2025)}",
    "time": lambda r: f"{r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}",
    "uuid": lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)),
    "hex7": lambda r: letters(r, 7, HEX),
    "hex32": lambda r: letters(r, 32, HEX),
    "hex40": lambda r: letters(r, 40, HEX),
    "hex64": lambda r: letters(r, 64, HEX),
    "colour": lambda r: letters(r, 6, HEX),
    "b64": lambda r: base64.b64encode(r.randbytes(r.randint(60, 140))).decode(),
    "b64line": lambda r: groups(base64.b64encode(r.randbytes(240)).decode(), 64, by="\n"),
    "sha512": lambda r: base64.b64encode(r.randbytes(64)).decode(),
    "mac": lambda r: groups(letters(r, 12, HEX), 2, by=r.choice(":-")),
    "unix": lambda r: str(r.randint(1100000000, 1790000000)),
    "unixms": lambda r: str(r.randint(1100000000000, 1790000000000)),
    "d4": lambda r: digits(r, 4, "123456789"),
    "d6": lambda r: digits(r, 6, "123456789"),
    "d8": lambda r: digits(r, 8, "123456789"),
    "d10": lambda r: digits(r, 10, "123456789"),
    "float": lambda r: f"{r.choice(['0', '1', '2', '7'])}.{digits(r, r.randint(9, 16))}",
    "lat": lambda r: f"{r.randint(-70, 70)}.{digits(r, 6)}",
    "lon": lambda r: f"{r.randint(-179, 179)}.{digits(r, 6)}",
    "v3": lambda r: f"{r.randint(0, 12)}.{r.randint(0, 40)}.{r.randint(0, 30)}",
    "v4": lambda r: f"{r.randint(0, 19)}.{r.randint(0, 20)}.{r.randint(0, 20)}.{r.randint(0, 99)}",
    "chrome": lambda r: f"{r.randint(90, 130)}.0.{r.randint(4000, 6999)}.{r.randint(20, 220)}",
    "mask": ["255.255.255.0", "255.255.0.0", "255.255.255.240", "255.255.254.0", "255.255.255.255"],
    "badip": lambda r: f"{r.randint(256, 999)}.{r.randint(0, 255)}.{r.randint(256, 700)}.{r.randint(0, 255)}",
    "isbn": isbn,
    "ean": barcode,
    "imei": imei,
    "badcard": lambda r: card_style(r, wrong(r, card(r))),
    "badiban": broken_iban,
    **{
        "bad" + country: lambda r, country=country: broken_person(r, country)
        for country in ["ES", "IT", "NL", "PL", "SE", "FI", "BR", "CA", "IN", "ZA", "TR", "CH", "BE"]
    },
    "handle": lambda r: f"@{r.choice(FIRST.split()).lower()}_{r.choice(['codes', 'paints', 'runs'])}{r.randint(1, 99)}",
    "pkg": ["numpy", "react", "left-pad", "lodash", "express", "vite", "@types/node", "typescript", "requests"],
}
