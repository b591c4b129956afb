"""Made-up addresses, telephone numbers and keys: material of tests/support/pii_cases.py."""

import base64
import json
import random
import string
import unicodedata
import zlib

from tests.support.pii_lookalikes import FILLERS
from tests.support.pii_values import ALNUM, digits, groups, letters

TOPS = "com com com org net io de fr es it co.uk nl pl se ch com.br edu ca info"
AREAS = "212 415 312 617 206 303 404 512 702 813 503 214"
CELLS = "320 328 333 338 347 349 366 388"
FORMS = "aws github gitlab slack stripe google openai anthropic hugging npm jwt"


def without_accents(word: str) -> str:
    return unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()


def address(rng: random.Random) -> str:
    first, last = (without_accents(rng.choice(FILLERS[name])).lower() for name in ("first", "last"))
    local = rng.choice(
        [
            f"{first}.{last}",
            f"{first[0]}{last}",
            f"{first}_{last}{rng.randint(1, 99)}",
            f"{first}+{rng.choice(['news', 'shop'])}",
            f"{last}-{first}",
            f"{first}{rng.randint(1960, 2005)}",
            f"{first[0]}.{last}",
            rng.choice(["info", "support", "hr"]),
        ]
    )
    host = rng.choice(["harbor", "lumen", "cedar", "north", "velvet", "quartz", "ember", "maple"])
    host += rng.choice(["stone", "works", "soft", "-media", "group", "labs", "post"])
    top = rng.choice(TOPS.split())
    whole = f"{local}@{rng.choice(['', '', '', 'mail.', 'cs.'])}{host}.{top}"
    return rng.choice([whole] * 8 + [whole.upper(), whole.title()])


def ip(rng: random.Random) -> str:
    """An address of one machine: no loopback, no netmask, no range for documentation, no end of a block."""
    draw = rng.random()
    if draw < 0.25:
        parts = [f"{rng.randint(0x100, 0xFFFF):x}" for _ in range(6)]
        start = rng.choice(["2a02:8109", "2600:1f18", "2a01:4f8", "2804:14d", "240e:3b7"])
        tail = "::" + ":".join(parts[2 : rng.randint(3, 4)]) if rng.random() < 0.5 else ":" + ":".join(parts[2:])
        address = f"{start}:{parts[0]}:{parts[1]}{tail}"
        return address.upper() if rng.random() < 0.1 else address
    if draw < 0.4:
        start = rng.choice([f"192.168.{rng.randint(0, 9)}", f"10.{rng.randint(20, 250)}.{rng.randint(0, 250)}"])
    else:
        first = rng.choice([23, 31, 46, 52, 64, 78, 81, 87, 93, 104, 109, 142, 151, 178, 185, 188, 212, 217])
        start = f"{first}.{rng.randint(20, 250)}.{rng.randint(0, 250)}"
    return f"{start}.{rng.randint(2, 253)}"


def secret(rng: random.Random, form: str) -> str:
    """A random key of a known form."""
    upper = string.ascii_uppercase
    if form == "github":  # ends in a checksum
        body = letters(rng, 30)
        rest, check = zlib.crc32(body.encode()), ""
        for _ in range(6):
            rest, n = divmod(rest, 62)
            check = (string.digits + upper + string.ascii_lowercase)[n] + check
        return rng.choice(["ghp_", "ghp_", "gho_", "ghs_"]) + body + check
    if form == "jwt":
        claims = {"sub": digits(rng, 8), "iat": rng.randint(1600000000, 1700000000)}
        parts = [{"alg": "HS256", "typ": "JWT"}, claims]
        parts = [json.dumps(part, separators=(",", ":")).encode() for part in parts] + [rng.randbytes(32)]
        return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    if form == "pem":
        kind = rng.choice(["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"])
        body = groups(base64.b64encode(rng.randbytes(rng.randint(4, 10) * 48)).decode(), 64, by="\n")
        return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----"
    if form == "url":
        scheme, user, port = rng.choice(
            [("postgres", "app_rw", 5432), ("https", "deploy", 8443), ("redis", "cache", 6379), ("amqp", "mq", 5672)]
        )
        host = rng.choice(["db-7.internal", "cluster0.harborstone.io", "queue.lumenworks.net", "mirror.cedarsoft.org"])
        return f"{scheme}://{user}:{letters(rng, rng.randint(12, 20))}@{host}:{port}"
    if form == "value":  # stands behind a name that says what it is
        return rng.choice([letters(rng, rng.randint(32, 48)), letters(rng, 40, "0123456789abcdef")])
    lead, n, of = {
        "aws": ("AKIA", 16, upper + "234567"),
        "gitlab": ("glpat-", 20, ALNUM),
        "slack": (f"xoxb-{digits(rng, 12, '123')}-{digits(rng, 13, '123')}-", 24, ALNUM),
        "stripe": (rng.choice(["sk_live_", "rk_live_"]), rng.choice([24, 24, 99]), ALNUM),
        "google": ("AIza" + "Sy", 33, ALNUM + "-_"),
        "openai": (f"sk-{rng.choice(['', 'proj-'])}{letters(rng, 20)}T3BlbkFJ", 20, ALNUM),
        "anthropic": ("sk-ant-api03-", 93, ALNUM + "-_"),
        "hugging": ("hf_", 34, string.ascii_letters),
        "npm": ("npm_", 36, ALNUM),
    }[form]
    return lead + letters(rng, n, of) + ("AA" if form == "anthropic" else "")


SECRETS = FORMS.split()  # known by themselves


# ---- Telephone numbers: real area codes, and none of the numbers that are kept for fiction


def national(rng: random.Random, country: str) -> str:
    """A number in the usual form of its country, without the country's code."""
    n = digits(rng, 7, "3456789")
    if country == "US":
        area = rng.choice(AREAS.split())
        middle = rng.choice("2346789") + rng.choice("2346789") + rng.choice("023456789")
        return rng.choice(["({}) {}-{}", "({}) {}-{}", "{}-{}-{}", "{}.{}.{}"]).format(area, middle, n[3:])
    if country == "GB":
        return rng.choice(
            [
                f"020 7{n[1:4]} {n[3:]}",
                f"020 8{n[1:4]} {n[3:]}",
                f"0161 2{n[:2]} {n[3:]}",
                f"(0131) 2{n[:2]} {n[3:]}",
                f"077{rng.randint(11, 69)} {digits(rng, 6, '123456789')}",
            ]
        )
    if country == "DE":
        return rng.choice(
            [
                f"030/{n}",
                f"(030) {n}",
                f"089 / {n}{n[0]}",
                f"040-{n}",
                f"0221 {n}",
                f"030 {n[:4]} {n[3:]}",
                f"0171/{n}",
                f"0176 {n}{n[1]}",
                f"0151-{n}{n[2]}",
                f"0160 {n}",
            ]
        )
    if country == "FR":
        lead = rng.choice(["014", "047", "055", "06", "06", "076"])
        return groups(lead + digits(rng, 10 - len(lead), "1234"), 2, by=rng.choice("   .-"))
    if country == "ES":
        mobile = f"6{digits(rng, 8)}"
        return rng.choice([groups(mobile, 3), groups(mobile, 3, 2), f"91 {n[:3]} {n[3:5]} {n[5:]}"])
    assert country == "IT", country
    lead = rng.choice(CELLS.split())
    return rng.choice([f"{lead} {n}", f"{lead} {n[:3]} {n[3:]}", f"{lead}-{n}", f"06 {n[:4]} {n[3:]}", f"02/{n}{n[0]}"])


def international(rng: random.Random) -> str:
    """A number with + and the country's code."""
    n, m = digits(rng, 8, "3456"), digits(rng, 8)
    form = rng.choice(
        [
            f"+44 20 7{n[1:4]} {m[:4]}",
            f"+44 (0)20 7{n[1:4]} {m[:4]}",
            f"+44 77{rng.randint(11, 69)} {m[:6]}",
            f"+49 30 {n}",
            f"+49 (0)89 {n}",
            f"+49 171 {n[:7]}",
            f"+33 1 4{n[0]} {groups(m[:6], 2)}",
            f"+33 6 {groups(n, 2)}",
            f"+34 6{groups(n, 2, 3)}",
            f"+39 347 {n[:3]} {m[:4]}",
            f"+39 06 {n[:4]} {m[:4]}",
            f"+1 (415) {n[0]}62-{m[:4]}",
            f"+1 212-{n[0]}48-{m[:4]}",
            f"+1 617 {n[0]}83 {m[:4]}",
            f"+1.312.{n[0]}76.{m[:4]}",
            f"+81 3-{n[:4]}-{m[:4]}",
            f"+81 90-{n[:4]}-{m[:4]}",
            f"+91 98{n[:3]} {m[:5]}",
            f"+55 11 9{rng.choice('6789')}{n[:3]}-{m[:4]}",
            f"+31 6 {n[:4]} {m[:4]}",
            f"+48 60{n[0]} {n[:3]} {m[:3]}",
            f"+41 79 {n[:3]} {m[:2]} {m[2:4]}",
            f"+46 70-{n[:3]} {m[:2]} {m[2:4]}",
            f"+61 412 {n[:3]} {m[:3]}",
            f"+86 138 {n[:4]} {m[:4]}",
            f"+43 664 {n[:7]}",
        ]
    )
    if rng.random() < 0.25:  # E.164
        return "+" + "".join(c for c in form.replace("(0)", "") if c.isdigit())
    return form


def telephone(rng: random.Random, form: str | None) -> str:
    """`form` None: a number that is known without a word beside it; else one of that country, or one with +."""
    form = form or rng.choice(["+", "+", "+", "US", "GB", "FR"])
    return international(rng) if form == "+" or rng.random() < 0.15 else national(rng, form)
