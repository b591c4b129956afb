"""What looks like personal data and is none, per kind: any span in these texts is a false positive."""

import base64
import datetime
import random
import uuid

from tests.support.pii_blind.draw import chars, fill, luhn


def _draw(*patterns: str, **values):
    """A look-alike: one of the patterns, its {alphabet:count} drawn, and its {{name}} from values."""

    def form(rng: random.Random) -> tuple[str, str]:
        text = rng.choice(patterns)
        for name, value in values.items():
            text = text.replace(f"<{name}>", value(rng))
        return fill(text, rng), ""

    return form


def _number(low: int, high: int):
    return lambda rng: str(rng.randint(low, high))


def _not_luhn(prefix: str, length: int):
    def draw(rng: random.Random) -> str:
        digits = prefix + chars("d", length - 1 - len(prefix), rng)
        return digits + str((int(luhn(digits)) + rng.randint(1, 9)) % 10)

    return draw


def _isbn(rng: random.Random) -> str:  # ISO 2108
    digits = "978" + rng.choice("012345") + chars("d", 8, rng)
    check = -sum(int(d) * (1, 3)[i % 2] for i, d in enumerate(digits)) % 10
    return f"{digits[:3]}-{digits[3]}-{digits[4:8]}-{digits[8:]}-{check}"


def _s10(rng: random.Random) -> str:  # the UPU's S10: tracking numbers
    digits = chars("d", 8, rng)
    check = 11 - sum(int(d) * w for d, w in zip(digits, (8, 6, 4, 2, 3, 5, 9, 7), strict=True)) % 11
    return f"R{chars('A', 1, rng)}{digits}{ {10: 0, 11: 5}.get(check, check) }{rng.choice(['DE', 'CN', 'GB'])}"


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _image(rng: random.Random) -> str:
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + rng.randbytes(240)).decode()


def _time(rng: random.Random) -> str:
    return datetime.datetime.fromtimestamp(rng.randrange(2 * 10**9), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


_NAME = {"name": lambda rng: rng.choice(["lodash", "react", "numpy", "left-pad", "webpack", "tokio", "serde"])}
LOOKALIKES = {
    "email": {
        "package": _draw(
            "npm i <name>@{d:1}.{d:2}.{d:1}", '"@types/<name>@^{d:1}.{d:1}"', "uses: actions/<name>@v{d:1}", **_NAME
        ),
        "image": _draw("icon-<name>@2x.png", "img/logo@3x.webp", **_NAME),
        "decorator": _draw(
            "@app.route('/a')\ndef f(): ...", "@pytest.mark.slow", "@Override public", "y = x @ w.T + b"
        ),
        "handle": _draw("thanks @<name>_dev for it", "follow @{a:7} on X", "@media (min-width: 40em)", **_NAME),
        "ssh": _draw("git clone git@github.com:acme/<name>.git", "git@gitlab.com:acme/<name>.git", **_NAME),
        "prose": _draw(
            "I was at home. com is a suffix", "3 for 2 @ 5.99 each", "meet @ noon.it is late", "look at the dot in it"
        ),
        "CSS": _draw("@import url(a.css);", "@font-face { src: url(x.woff2) }", "user@localhost:~$ ls"),
    },
    "phone": {
        "time": _draw("at <time>Z the", "[<time>.{d:3}] x", time=_time),
        "range": _draw("from 19{d:2}-20{d:2}", "pp. 1{d:3}-1{d:3}", "vol. 12, 2001-2010, 334-345"),
        "timestamp": _draw("ts=17{d:8}", "modified 16{d:11}", "id 15{d:8} ok"),
        "order": _draw(
            "Order no. 10{d:7}", "Invoice 2023-{d:6}", "part 7{d:3}-{d:5}-A", "Ticket #{d:8}", "case 23-cv-0{d:4}"
        ),
        "figures": _draw(
            "grew from 1 2{d:2} 000 to 13 4{d:2} 500",
            "population 8,{d:3},{d:3}",
            "1.{d:3}.{d:3},00 EUR",
            "$ 4{d:2},{d:3}.50",
        ),
        "ISBN": _draw("ISBN <isbn>", "ISBN <isbn> (pbk)", isbn=_isbn),
        "ISSN": _draw("ISSN 0{d:3}-{d:4}", "doi:10.1{d:3}/s{d:5}-020-{d:5}-1", "arXiv:21{d:2}.0{d:4}"),
        "coordinates": _draw("48.{d:6}, 11.{d:6}", "(-33.{d:4}, 151.{d:4})", "x=0.{d:10}"),
        "matrix": _draw(
            "[12 34 56 78 90 12 34]", "1 2 3 4 5 6 7 8 9 10 11", "3.14159265358979", "0 0 1 0 0 1 1 0 1 0 1 0"
        ),
        "date": _draw(
            "born 12.03.19{d:2}, died", "20231{d:1}11_0930{d:2}", "2023-10-1{d:1} 10:22", "03/04/2021 - 05/06/2022"
        ),
        "score": _draw("won 6-4 3-6 7-5 10-8", "21-19, 21-15", "110-98 and 102-99"),
    },
    "ip": {
        "version": _draw(
            "version 1.{d:1}.{d:2}.{d:1}",
            "Chrome/11{d:1}.0.5{d:3}.1{d:2}",
            "Windows 10.0.190{d:2}.{d:4}",
            "v4.{d:1}.{d:1}.0-rc{d:1}",
        ),
        "section": _draw("see section 3.{d:1}.2.1", "Fig. 1.2.{d:1}.4", "§ 4.1.{d:1}.2 of the code"),
        "OID": _draw("OID 1.3.6.1.4.1.{d:5}", "1.2.840.113549.1.1.{d:2}"),
        "C++": _draw(
            "std::vector<int>",
            "a::b::c::d(x)",
            "abc::def::add",
            "::face::bad",
            "boost::asio::ip::tcp",
            "fe::dead::beef()",
            "auto x = ::ab;",
        ),
        "Rust": _draw("use std::{fs, io};", "Vec::<u8>::new()", "crate::ad::bc", "<T as Add>::add"),
        "time": _draw("at 10:2{d:1}:35:00", "00:01:{d:2} --> 00:02:{d:2}", "12:30::", "1:23:45.{d:3}"),
        "MAC": _draw("16:9 or 4:3::1 ratio", "ratio 1:2:3:4", "chr1:12{d:3}:ab:cd", "Psalm 23:1::6"),
        "big": _draw("256.{d:3}.300.{d:3}", "1.2.3.4.5.{d:1}", "999.1.1.1", "scores 1.5.2.8.9"),
    },
    "credit_card": {
        "not Luhn": _draw("Card: <n>", "ref <n>", n=_not_luhn("4", 16)),
        "order": _draw("Order 9{d:15}", "txn 0{d:15}", "id=8{d:17}", "tweet 1{d:18}"),
        "tracking": _draw("USPS 94001{d:17}", "FedEx 61{d:18}x", "parcel <s10>", s10=_s10),
        "decimal": _draw("pi 3.14159{d:16}", "0.4{d:15}", "p = 4.{d:15}", "x=5{d:15}e-12"),
        "ISBN": _draw("<isbn>", "ISBN <isbn>", isbn=_isbn),
        "timestamp": _draw("16{d:14}", "t=17{d:17}", "20231{d:1}11093000{d:2}"),
        "hex": _draw("0x4{hex:15}", "{hex:6}4{d:6}{hex:10}f", "a{d:16}b"),
    },
    "iban": {
        "wrong digits": _draw("IBAN-like DE00{d:18}", "GB01{A:4}{d:14}"),
        "part": _draw("part DE12-{d:4}-{A:4}", "model FR{d:4}{A:3}", "SKU GB{d:6}", "BE{d:2} {A:4} x"),
        "code": _draw("COBADEFFXXX", "DEUTDEDB{d:3}", "EN 13{d:3} AT", "ISO 13616"),
        "VAT": _draw("VAT DE{d:9}", "USt-IdNr. ATU{d:8}", "license AB{d:2}{A:16}"),
    },
    "national_id": {
        "no SSN": _draw("part 000-{d:2}-{d:4}", "666-{d:2}-{d:4}", "9{d:2}-0{d:1}-{d:4} units"),
        "ZIP": _draw("Springfield, IL 6{d:4}-{d:4}", "PO Box {d:4}, NY 1{d:4}-{d:4}"),
        "EAN": _draw("EAN 40{d:11}", "barcode 50{d:11}", "UPC 0{d:11}"),
        "model": _draw("model AB123456", "flight LH{d:4}", "room B{d:3}C", "Nokia 3310 and T{d:4}Z"),
        "date": _draw("1990-01-0{d:1}", "on 010{d:1}90 we", "850101, 860202", "12.05.85-001"),
        "figure": _draw("total 1{d:8} rows", "{d:3} {d:3} {d:3} people", "n = 7{d:10}", "rows 3{d:8}"),
        "isbn": _draw("ISBN <isbn>", isbn=_isbn),
        "case": _draw("Case C-{d:3}/04", "RFC 5{d:3}", "patent US{d:7}B2", "EP{d:7}A1"),
    },
    "secret": {
        "git": _draw(
            "commit {hex:40}",
            "git checkout {hex:7}",
            "https://github.com/a/b/commit/{hex:40}",
            "index {hex:7}..{hex:7} 100644",
        ),
        "digest": _draw(
            "sha256:{hex:64}",
            "md5 {hex:32}  a.txt",
            '"integrity": "sha512-{b64:86}=="',
            "--hash=sha256:{hex:64}",
            "{hex:64}  x.whl",
        ),
        "UUID": _draw("id: <uuid>", "GET /v1/users/<uuid>", '"request_id": "<uuid>"', uuid=_uuid),
        "image": _draw('<img src="data:image/png;base64,<image>">', "url(data:image/png;base64,<image>)", image=_image),
        "placeholder": _draw(
            "api_key = 'YOUR_API_KEY'",
            "export TOKEN=xxxxxxxxxxxxxxxxxxxx",
            "password: ********",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "token: <your-token-here>",
            "password=changeme?",
            "OPENAI_API_KEY=sk-...",
            "SECRET_KEY = 'insert-secret-here'",
        ),
        "code": _draw(
            "token = os.environ['TOKEN']",
            "password = getpass.getpass()",
            "secret_key = settings.SECRET_KEY",
            "const token = await getToken(user);",
            "self.api_key = api_key",
            "password: ${DB_PASSWORD}",
            "token: ${{ secrets.GITHUB_TOKEN }}",
            "key = key_bytes[:32]",
            "if (password == null) return;",
        ),
        "prose": _draw(
            "The password must have 12 characters.",
            "a token limit of 4096",
            "the key to success: persistence",
            "Secret Garden (1993)",
            "password: required, string",
            "token: the next word",
            "the secret: butter and time",
            "your password is safe with us",
            "Authorization: Bearer token",
        ),
        "public key": _draw(
            "ssh-rsa AAAAB3NzaC1yc2E{b64:300} jo",
            "-----BEGIN PUBLIC KEY-----\n{b64:64}\n{b64:64}\n-----END PUBLIC KEY-----",
            "-----BEGIN CERTIFICATE-----\n{b64:64}\n{b64:64}\n-----END CERTIFICATE-----",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{b64:48}",
        ),
        "chain": _draw("tx 0x{hex:64}", "wallet 0x{hex:40}", "1{an:33} is a wallet", "ipfs://Qm{an:44}"),
        "names": _draw(
            "class AbstractSingletonProxyFactoryBeanTokenProvider",
            "test_password_reset_token_is_not_reused_after_expiry",
            "com.acme.secret.KeyStoreManagerFactoryImpl",
            "pod web-7d4b9c6f5{da:1}-x2{da:3}",
        ),
        "ids": _draw(
            "https://youtu.be/{url:11}",
            "https://docs.google.com/document/d/1{url:43}/edit",
            'ETag: "{hex:32}"',
            "UA-{d:8}-1",
            "GTM-{DA:7}",
            "arn:aws:iam::{d:12}:role/x",
            "AC{hex:32} is an account",
            "ami-0{hex:16}",
        ),
        "minified": _draw(
            "!function(e,t){{an:60}.a={an:30}}",
            ".css-{da:6}{color:#{hex:6}}",
            "chunk.{hex:20}.js",
            "static/js/main.{hex:8}.chunk.js.map",
        ),
        "biology": _draw(
            "ACGT" * 20, "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQ", "CCO{A:3}C(=O)N1CCC[C@H]1C"
        ),
    },
}
