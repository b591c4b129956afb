"""E-mail, telephone and IP addresses in the forms of RFCs, ITU-T E.123 and E.164, and libphonenumber."""

# ruff: noqa: RUF001

import ipaddress
import random
from collections.abc import Callable

import phonenumbers

from tests.support.pii_blind.draw import Draw, within

FIRST, LAST, HOST, TLD, REGIONS, US = (
    words.split()
    for words in (
        "anna ben carla dmitri elena farid grace henrik ines jamal keiko luca maria nils olga priya",
        "andersen baker costa dupont eriksen fischer garcia hughes ivanova jansen kowalska lopez meyer novak",
        "alder birch cedar fjord garnet harbor indigo juniper kestrel lagoon maple nimbus orchard pebble",
        "com org net de co.uk fr io edu com.br co.jp nl se info gov.au dev",
        "US GB DE FR IT ES NL BE AT CH SE NO DK FI PL PT IE GR CZ HU RO BR MX AR CL CO IN JP KR CN TW AU NZ ZA NG KE "
        "EG TR IL RU UA",
        "212 313 415 503 617 702 808 919",
    )
)


def domain(rng: random.Random) -> str:
    return f"{rng.choice(HOST)}{rng.choice(['', '-', '.'])}{rng.choice(HOST)}.{rng.choice(TLD)}"


def mailbox(rng: random.Random) -> str:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    locals_ = (
        f"{first}.{last}",
        f"{first}{rng.randint(1, 99)}",
        f"{first[0]}{last}",
        f"{first}_{last}",
        f"{last}-{first}",
    )
    return f"{rng.choice(locals_)}@{domain(rng)}"


PROSE = (
    "Write to {} before Friday.",
    "Contact: {}",
    "You can reach me at {}, as ever.",
    "({})",
    '"{}"',
    "see {} or call",
)
DATA = ("id,name,contact\n17,Jo,{}\n", '{"user": {"contact": "{}", "age": 31}}', "<td>{}</td>", "[info] login by {} ok")


def local(template: str) -> Draw:
    """An address with this local part, in which % stands for a last name."""
    return lambda rng: f"{template.replace('%', rng.choice(LAST))}@{domain(rng)}"


def respell(at: str, dot: str) -> Draw:
    return lambda rng: mailbox(rng).replace(".", dot).replace("@", at)


EMAILS = {  # RFC 5321 and 5322 (addr-spec), 6531 (UTF-8), 6068 (mailto), and how people hide addresses from robots
    "usual": {
        "prose": within(*PROSE)(mailbox),
        "data": within(*DATA)(mailbox),
        "header": within("From: Jo <{}>\nSubject: hi", "Cc: a b <{}>, Team")(mailbox),
        "mailto": within('<a href="mailto:{}">mail</a>', "mailto:{}?subject=hi")(mailbox),
        "sentence end": within("My address is {}.", "Is it {}?", "Ask {}!")(mailbox),
        "tag": within(*PROSE)(local("%+lists")),
        "capitals": within(*PROSE)(lambda rng: mailbox(rng).upper()),
    },
    "hard": {
        "apostrophe": within(*PROSE)(local("o'%")),
        "symbols": within("Contact: {}", "To: <{}>")(local("!#%&*/=?^_{|}~-x")),
        "quoted": within("Contact: {} thanks", "To: <{}>")(local('"jo %"')),
        "IPv4 literal": within("To: <{}>", "Contact: {} now")(lambda rng: f"{rng.choice(LAST)}@[{ipv4(rng)}]"),
        "IPv6 literal": within("To: <{}>", "Contact: {} now")(lambda rng: f"{rng.choice(LAST)}@[IPv6:{ipv6(rng)}]"),
        "IDN": within(*PROSE)(lambda rng: f"{rng.choice(LAST)}@{rng.choice(['bücher', 'żółw', '例子', 'почта'])}.com"),
        "punycode": within(*PROSE)(lambda rng: f"{rng.choice(LAST)}@xn--{rng.choice(['bcher-kva', 'fsqu00a'])}.com"),
        "UTF-8": within("Contact: {} now", "<{}>")(
            lambda rng: f"{rng.choice(['用户', 'jürgen', 'δοκιμή'])}@{domain(rng)}"
        ),
        "long suffix": within(*PROSE)(
            lambda rng: f"{rng.choice(LAST)}@{rng.choice(HOST)}.{rng.choice(['photography', 'museum', 'versicherung'])}"
        ),
        "[at] [dot]": within(*PROSE[:3])(respell("[at]", "[dot]")),
        " [at] ": within(*PROSE[:3])(lambda rng: mailbox(rng).replace("@", " [at] ")),
        "(at)": within(*PROSE[:3])(lambda rng: mailbox(rng).replace("@", "(at)")),
        " at dot ": within("Mail me: {}")(respell(" at ", " dot ")),
        " AT DOT ": within(*PROSE[:3])(respell(" AT ", " DOT ")),
        "spaces": within(*PROSE[:3])(respell(" @ ", ".")),
        "percent": within("https://a.io/u?email={}&x=1", "mailto:{}")(respell("%40", ".")),
        "entity": within('<a href="#">{}</a>', "<p>{}</p>")(
            lambda rng: mailbox(rng).replace("@", rng.choice(["&#64;", "&#x40;", "&commat;"]))
        ),
        "full width": within(*PROSE[:3])(respell("＠", ".")),
        "escape": within('{"to": "{}"}')(respell("\\u0040", ".")),
        "emphasis": within("_{}_", "**{}**", "`{}`")(mailbox),
        "glued": within("E-mail:{}Phone", "email={};next", "Email:{}|")(
            lambda rng: f"{rng.choice(FIRST)}@{rng.choice(HOST)}.com"
        ),
    },
}

KINDS_OF_LINE = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
FORMATS = phonenumbers.PhoneNumberFormat


def phone(style: int, change: Callable[[str, int], str] = lambda text, code: text) -> Draw:
    """libphonenumber's example of a region with its last digits drawn, still valid, in one of its formats."""

    def draw(rng: random.Random) -> str:
        while True:
            example = phonenumbers.example_number_for_type(rng.choice(REGIONS), rng.choice(KINDS_OF_LINE))
            number = phonenumbers.PhoneNumber()
            number.merge_from(example)
            number.national_number = example.national_number // 1000 * 1000 + rng.randrange(1000)
            if phonenumbers.is_valid_number(number):
                return change(phonenumbers.format_number(number, style), number.country_code)

    return draw


def digits_as(zero: str) -> Callable[[str, int], str]:
    return lambda text, code: "".join(chr(ord(zero) + int(c)) if c in "0123456789" else c for c in text)


CALL = ("Tel.: {}", "Phone: {}", "Call {} after six.", "mobile {}", "Fax {}", "my number is {}, ask for Jo")


def american(template: str) -> Draw:
    return lambda rng: template.format(a=rng.choice(US), b=rng.randint(223, 299), c=rng.randint(1000, 9999))


PHONES = {  # ITU-T E.123 and E.164, RFC 3966, and libphonenumber's examples and formats
    "usual": {
        "international": within(*CALL, "{}", "I am on {} until nine")(phone(FORMATS.INTERNATIONAL)),
        "E.164": within(*CALL, '{"contact": "{}"}', "{}")(phone(FORMATS.E164)),
        "national": within(*CALL[:5])(phone(FORMATS.NATIONAL)),
        "RFC 3966": within('<a href="tel:{}">call</a>', "tel:{}")(phone(FORMATS.RFC3966, lambda text, code: text[4:])),
        "US": within(*CALL)(american("({a}) {b}-{c}")),
        "US dashes": within(*CALL, "Jo, {}")(american("{a}-{b}-{c}")),
    },
    "hard": {
        "US dots": within(*CALL, "Jo {}")(american("{a}.{b}.{c}")),
        "US bare": within(*CALL)(american("{a}{b}{c}")),
        "extension": within("Tel.: {} ext. 204", "Phone: {} x12", "Call {}, extension 9")(american("({a}) {b}-{c}")),
        "trunk 1": within(*CALL)(american("1-{a}-{b}-{c}")),
        "vanity": within(*CALL)(lambda rng: rng.choice(["1-800-FLOWERS", "1-800-356-9377", "1-888-GO-FEDEX"])),
        "00": within(*CALL)(phone(FORMATS.E164, lambda text, code: text.replace("+", "00", 1))),
        "00 groups": within(*CALL)(phone(FORMATS.INTERNATIONAL, lambda text, code: text.replace("+", "00 ", 1))),
        "011": within(*CALL)(phone(FORMATS.INTERNATIONAL, lambda text, code: text.replace("+", "011 ", 1))),
        "(0)": within(*CALL)(lambda rng: f"+44 (0)20 7946 0{rng.randint(100, 999)}"),
        "parentheses": within(*CALL)(
            phone(FORMATS.INTERNATIONAL, lambda text, code: text.replace(f"+{code}", f"(+{code})"))
        ),
        "dots": within(*CALL)(
            phone(FORMATS.INTERNATIONAL, lambda text, code: text.replace(" ", ".").replace("-", "."))
        ),
        "slash": within(*CALL)(lambda rng: f"0{rng.choice(['30', '40', '89'])}/{rng.randint(2000000, 8999999)}"),
        "no-break space": within(*CALL)(phone(FORMATS.INTERNATIONAL, lambda text, code: text.replace(" ", "\xa0"))),
        "en dash": within(*CALL)(
            phone(FORMATS.INTERNATIONAL, lambda text, code: text.replace(" ", "–").replace("-", "–"))
        ),
        "Arabic digits": within("هاتف: {}", "Tel.: {}")(phone(FORMATS.INTERNATIONAL, digits_as("٠"))),
        "full width": within("電話: {}", "Tel.: {}")(phone(FORMATS.INTERNATIONAL, digits_as("０"))),
        "wa.me": within("https://wa.me/{}", "api.whatsapp.com/send?phone={}")(
            phone(FORMATS.E164, lambda text, code: text[1:])
        ),
        "national, no word": within("I live in Berlin, {}, second floor", "Jo Meyer {}")(phone(FORMATS.NATIONAL)),
        "other languages": within("Telefon {}", "Tél. {}", "電話：{}", "тел. {}", "Teléfono: {}", "☎ {}")(
            phone(FORMATS.NATIONAL)
        ),
        "line": within("Jo Meyer\nMain Street 5\n{}\nBerlin")(phone(FORMATS.INTERNATIONAL)),
        "underscores": within("contact_{}_work", "tel:{};")(phone(FORMATS.E164)),
    },
}


def ipv4(rng: random.Random) -> str:
    while not (address := ipaddress.IPv4Address(rng.getrandbits(32))).is_global or address.is_multicast:
        pass
    return str(address)


def ipv6(rng: random.Random, zeros: int = 0) -> str:
    """A global unicast address in RFC 5952's form, with so many groups of zeros."""
    groups = [rng.choice([0x2A02, 0x2600, 0x2001, 0x2C0F]), rng.randint(0x400, 0xFFFF)]
    tail = [rng.randint(1, 0xFFFF) for _ in range(6 - zeros)]
    return str(ipaddress.IPv6Address(":".join(f"{g:x}" for g in [*groups, *[0] * zeros, *tail])))


LOG = (
    '{} - - [10/Oct/2023:13:55:36 +0000] "GET / HTTP/1.1" 200 2326',
    "Failed password for root from {} port 4242 ssh2",
)
NET = (
    *LOG,
    "The server answered from {}.",
    "client={} status=ok",
    '{"ip": "{}"}',
    "ping {}",
    "X-Forwarded-For: {}, proxy",
)
IPS = {  # RFC 791; RFC 4291 section 2.2 and RFC 5952; RFC 3986 (hosts), 4007 (zones), 3596 (reverse names)
    "usual": {
        "IPv4": within(*NET)(ipv4),
        "IPv4 port": within("connect to {}:8080", "http://{}/index.html", "tcp {}:443 ESTABLISHED")(ipv4),
        "IPv6": within(*NET)(ipv6),
        "IPv6 short": within(*NET)(lambda rng: ipv6(rng, rng.randint(2, 5))),
    },
    "hard": {
        "IPv4 block": within("allow {}/24;", "route {}/32 via eth0")(ipv4),
        "IPv4 end": within("It came from {}.", "Was it {}?", "({}),")(ipv4),
        "IPv4 glued": within("ip:{};", "addr_{}_in", "host={}&x", "ip={},")(ipv4),
        "defanged": within("C2 at {} since May", "hxxp://{}/a")(lambda rng: ipv4(rng).replace(".", "[.]")),
        "host name": within("ec2-{}.compute.amazonaws.com", "host-{}.isp.net")(lambda rng: ipv4(rng).replace(".", "-")),
        "reverse": within("{}.in-addr.arpa. PTR x.")(lambda rng: ".".join(reversed(ipv4(rng).split(".")))),
        "IPv6 URL": within("http://[{}]:8080/", "ssh jo@[{}]", "[{}]:22")(lambda rng: ipv6(rng, rng.randint(0, 4))),
        "IPv6 capitals": within(*NET)(lambda rng: ipv6(rng, 3).upper()),
        "IPv6 full": within(*NET)(lambda rng: ipaddress.IPv6Address(ipv6(rng, 3)).exploded),
        "IPv6 block": within("route {}/64 dev eth0", "allow {}/128")(lambda rng: ipv6(rng, 4)),
        "IPv6 zone": within("fe80 no, but {}%eth0 yes", "ping {}%en0")(lambda rng: ipv6(rng, 2)),
        "mapped": within(*NET)(lambda rng: f"::ffff:{ipv4(rng)}"),
        "mapped hex": within(*NET)(lambda rng: f"::ffff:{rng.randint(0x800, 0x8FFF):x}:{rng.randint(1, 0xFFFF):x}"),
        "NAT64": within(*NET)(lambda rng: f"64:ff9b::{ipv4(rng)}"),
        "IPv6 end": within("It was {}.", "from {}, then", "({})")(lambda rng: ipv6(rng, 3)),
    },
}
