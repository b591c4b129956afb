"""National ids with check digits computed here, from the documents that define them."""

# ruff: noqa: RUF001

import datetime
import random

from tests.support.pii_blind.draw import Draw, chars, luhn, weighted, within


def birthday(rng: random.Random, first: int = 1940, last: int = 1999) -> datetime.date:
    return datetime.date(first, 1, 1) + datetime.timedelta(days=rng.randrange((last - first) * 365))


def retry(make: Draw) -> Draw:
    """Draws until the check digit exists."""

    def draw(rng: random.Random) -> str:
        while (value := make(rng)) is None:
            pass
        return value

    return draw


def ssn(rng):  # SSA: no area 000, 666 or 9xx, no group 00, no serial 0000
    area = rng.choice([a for a in range(1, 900) if a != 666])
    return f"{area:03d}-{rng.randint(1, 99):02d}-{rng.randint(1, 9999):04d}"


def nino(rng):  # GOV.UK, NIM39110: no D F I Q U V, and no O second
    prefix = rng.choice("ABCEGHJKLMNPRSTWXYZ") + rng.choice("ABCEGHJKLMNPRSTWXYZ")
    if prefix in ("GB", "NK", "TN", "ZZ", "BG", "KN", "NT"):
        return None
    d = chars("d", 6, rng)
    return f"{prefix} {d[:2]} {d[2:4]} {d[4:]} {rng.choice('ABCD')}"


def nhs(rng):  # NHS Data Dictionary: modulus 11
    d = chars("d", 9, rng)
    check = (11 - weighted(d, list(range(10, 1, -1))) % 11) % 11
    return None if check == 10 else f"{d[:3]} {d[3:6]} {d[6:]}{check}"


def sin(rng):  # Canada
    d = rng.choice("1245679") + chars("d", 7, rng)
    d += luhn(d)
    return f"{d[:3]} {d[3:6]} {d[6:]}"


def steuer_id(rng):  # BZSt: one digit of the ten twice, ISO 7064 mod 11,10
    ten = rng.sample("0123456789", 9)
    ten.insert(rng.randrange(10), rng.choice(ten))
    if ten[0] == "0" or any(ten[i] == ten[i + 1] == ten[i + 2] for i in range(8)):
        return None
    product = 10
    for c in ten:
        total = (int(c) + product) % 10 or 10
        product = total * 2 % 11
    d = "".join(ten) + str((11 - product) % 10)
    return f"{d[:2]} {d[2:5]} {d[5:8]} {d[8:]}"


def nir(rng):  # INSEE
    born = birthday(rng)
    d = f"{rng.choice('12')}{born:%y%m}{rng.randint(1, 95):02d}{rng.randint(1, 500):03d}{rng.randint(1, 999):03d}"
    if d[5:7] == "20":
        return None
    key = 97 - int(d) % 97
    return f"{d[0]} {d[1:3]} {d[3:5]} {d[5:7]} {d[7:10]} {d[10:]} {key:02d}"


def codice_fiscale(rng):  # DM 12 March 1974
    letters = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23]
    odd = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", letters[:10] + letters, strict=True))
    born = birthday(rng)
    town = rng.choice(["H501", "F205", "L219", "F839", "G273"])
    names = "".join(rng.choice("BCDFGLMNPRSTV") for _ in range(6))
    text = f"{names}{born:%y}{'ABCDEHLMPRST'[born.month - 1]}{born.day + rng.choice([0, 40]):02d}{town}"
    total = sum(odd[c] if i % 2 == 0 else int(c, 36) - (0 if c.isdigit() else 10) for i, c in enumerate(text))
    return text + chr(65 + total % 26)


def dni(rng):  # Ministerio del Interior
    n = rng.randint(10_000_000, 79_999_999)
    return f"{n}{'TRWAGMYFPDXBNJZSQVHLCKE'[n % 23]}"


def nie(rng):
    first, n = rng.randrange(3), rng.randint(0, 9_999_999)
    return f"{'XYZ'[first]}{n:07d}{'TRWAGMYFPDXBNJZSQVHLCKE'[(first * 10_000_000 + n) % 23]}"


def bsn(rng):  # the eleven test
    d = rng.choice("123456789") + chars("d", 7, rng)
    check = weighted(d, list(range(9, 1, -1))) % 11
    return None if check == 10 else f"{d}{check}"


def rijksregister(rng):  # Belgium: 97 - number mod 97
    born = birthday(rng)
    d = f"{born:%y%m%d}{rng.randint(1, 997):03d}"
    return f"{d[:2]}.{d[2:4]}.{d[4:6]}-{d[6:]}.{97 - int(d) % 97:02d}"


def personnummer(rng):  # Skatteverket, SKV 704
    d = f"{birthday(rng):%y%m%d}{chars('d', 3, rng)}"
    return f"{d[:6]}-{d[6:]}{luhn(d)}"


def fodselsnummer(rng):  # Skatteetaten; individual numbers 000-499 for 1900-1999
    d = f"{birthday(rng):%d%m%y}{rng.randint(0, 499):03d}"
    k1 = -weighted(d, [3, 7, 6, 1, 8, 9, 4, 5, 2]) % 11
    k2 = -weighted(d + str(k1), [5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11 if k1 < 10 else 10
    return None if k2 == 10 else f"{d[:6]} {d[6:]}{k1}{k2}"


def hetu(rng):  # DVV
    d, n = f"{birthday(rng):%d%m%y}", rng.randint(2, 899)
    return f"{d}-{n:03d}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(f'{d}{n:03d}') % 31]}"


def pesel(rng):  # Poland
    d = f"{birthday(rng):%y%m%d}{chars('d', 4, rng)}"
    return d + str(-weighted(d, [1, 3, 7, 9, 1, 3, 7, 9, 1, 3]) % 10)


def cpf(rng):  # Receita Federal
    d = chars("d", 9, rng)
    for n in (10, 11):
        d += str((11 - weighted(d, list(range(n, 1, -1))) % 11) % 11 % 10)
    return f"{d[:3]}.{d[3:6]}.{d[6:9]}-{d[9:]}"


def curp(rng):  # RENAPO
    born = birthday(rng)
    letters = "".join(rng.choice("BCDFGLMNPRSTV") for _ in range(3))
    text = f"{rng.choice('GLMRS')}{rng.choice('AEIOU')}{letters[:2]}{born:%y%m%d}{rng.choice('HM')}"
    text += (
        rng.choice(["DF", "JC", "NL", "MC", "PL", "OC"]) + "".join(rng.choice("BCDFGLMNPRSTV") for _ in range(3)) + "0"
    )
    alphabet = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    total = sum(alphabet.index(c) * (18 - i) for i, c in enumerate(text))
    return text + str(-total % 10)


def rut(rng):  # Chile
    n = rng.randint(5_000_000, 24_999_999)
    total = sum(int(d) * (2 + i % 6) for i, d in enumerate(reversed(str(n))))
    check = 11 - total % 11
    return f"{n:,}".replace(",", ".") + "-" + {10: "K", 11: "0"}.get(check, str(check))


def cuil(rng):  # Argentina
    d = rng.choice(["20", "27", "23", "24"]) + f"{rng.randint(10_000_000, 45_000_000)}"
    check = (11 - weighted(d, [5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11) % 11
    return None if check == 10 else f"{d[:2]}-{d[2:]}-{check}"


def _verhoeff(digits: str) -> str:
    """Verhoeff's digit by the dihedral group of ten elements, computed and not tabled."""

    def multiply(a, b):
        if a < 5:
            return (a + b) % 5 if b < 5 else 5 + (a + b - 5) % 5
        return 5 + (a - 5 - b) % 5 if b < 5 else (a - b) % 5

    p = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    check = 0
    for i, d in enumerate(reversed(digits), start=1):
        value = int(d)
        for _ in range(i):
            value = p[value]
        check = multiply(check, value)
    return str(next(b for b in range(10) if multiply(check, b) == 0))


def aadhaar(rng):  # UIDAI: no leading 0 or 1
    d = rng.choice("23456789") + chars("d", 10, rng)
    d += _verhoeff(d)
    return f"{d[:4]} {d[4:8]} {d[8:]}"


def pan(rng):  # India's Income Tax Department: the fourth letter P is a person
    return f"{chars('A', 3, rng)}P{chars('A', 1, rng)}{rng.randint(1, 9999):04d}{chars('A', 1, rng)}"


def resident_id(rng):  # GB 11643-1999
    d = (
        rng.choice(["110101", "310104", "440305", "510107", "330106"])
        + f"{birthday(rng, 1991, 2005):%Y%m%d}{chars('d', 3, rng)}"
    )
    return d + "10X98765432"[weighted(d, [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]) % 11]


def rrn(rng):  # Korea
    d = f"{birthday(rng):%y%m%d}{rng.choice('12')}{rng.randint(0, 95):02d}{chars('d', 3, rng)}"
    return f"{d[:6]}-{d[6:]}{(11 - weighted(d, [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]) % 11) % 10}"


def nric(rng):  # Singapore
    first, d = rng.choice("ST"), chars("d", 7, rng)
    total = weighted(d, [2, 7, 6, 5, 4, 3, 2]) + (4 if first == "T" else 0)
    return f"{first}{d}{'JZIHGFEDCBA'[total % 11]}"


def tfn(rng):  # Australian Taxation Office
    d = chars("d", 8, rng)
    for check in range(10):
        if weighted(d + str(check), [1, 4, 3, 7, 5, 8, 6, 9, 10]) % 11 == 0 and d[0] != "0":
            return f"{d[:3]} {d[3:6]} {d[6:]}{check}"
    return None


def south_african(rng):
    d = f"{birthday(rng):%y%m%d}{chars('d', 4, rng)}{rng.choice('01')}8"
    return d + luhn(d)


def kimlik(rng):  # Turkey
    d = [int(c) for c in rng.choice("123456789") + chars("d", 8, rng)]
    d.append((7 * sum(d[0::2]) - sum(d[1::2])) % 10)
    d.append(sum(d) % 10)
    return "".join(map(str, d))


def cnp(rng):  # Romania
    d = f"{rng.choice('12')}{birthday(rng):%y%m%d}{rng.randint(1, 46):02d}{rng.randint(1, 999):03d}"
    check = weighted(d, [2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11
    return d + str(1 if check == 10 else check)


def ahv(rng):  # Switzerland: EAN-13 that begins with 756
    d = "756" + chars("d", 9, rng)
    check = -weighted(d, [1, 3] * 6) % 10
    return f"{d[:3]}.{d[3:7]}.{d[7:11]}.{d[11:]}{check}"


# Its name in the language that people write it in, and its draw.
IDS = {
    "US SSN": (("SSN: {}", "social security number {}", "my Social Security # is {}"), ssn),
    "UK NINO": (("National Insurance number: {}", "NI number {}", "NINO {}"), retry(nino)),
    "UK NHS": (("NHS number: {}", "NHS No. {}"), retry(nhs)),
    "CA SIN": (("SIN: {}", "Social Insurance Number {}", "NAS : {}"), sin),
    "DE Steuer-ID": (("Steuer-ID: {}", "Steueridentifikationsnummer {}", "IdNr. {}"), retry(steuer_id)),
    "FR NIR": (("Numéro de sécurité sociale : {}", "NIR {}", "n° de sécu {}"), retry(nir)),
    "IT codice fiscale": (("Codice fiscale: {}", "C.F. {}", "CF: {}"), codice_fiscale),
    "ES DNI": (("DNI: {}", "con DNI {}", "D.N.I. {}", "NIF {}"), dni),
    "ES NIE": (("NIE: {}", "NIE {}"), nie),
    "NL BSN": (("BSN: {}", "burgerservicenummer {}"), retry(bsn)),
    "BE RRN": (("Rijksregisternummer: {}", "numéro national {}", "NISS {}"), rijksregister),
    "SE personnummer": (("Personnummer: {}", "personnr {}"), personnummer),
    "NO fødselsnummer": (("Fødselsnummer: {}", "fnr {}", "personnummer {}"), retry(fodselsnummer)),
    "FI HETU": (("Henkilötunnus: {}", "hetu {}"), hetu),
    "PL PESEL": (("PESEL: {}", "nr PESEL {}"), pesel),
    "BR CPF": (("CPF: {}", "CPF nº {}", "inscrito no CPF sob o nº {}"), cpf),
    "MX CURP": (("CURP: {}", "con CURP {}"), curp),
    "CL RUT": (("RUT: {}", "RUN {}", "cédula de identidad {}"), rut),
    "AR CUIL": (("CUIL: {}", "CUIT {}"), retry(cuil)),
    "IN Aadhaar": (("Aadhaar: {}", "Aadhaar number {}", "आधार {}"), aadhaar),
    "IN PAN": (("PAN: {}", "PAN card {}", "Permanent Account Number {}"), pan),
    "CN resident id": (("身份证号：{}", "身份证号码 {}", "ID card {}"), resident_id),
    "KR RRN": (("주민등록번호: {}", "주민번호 {}"), rrn),
    "SG NRIC": (("NRIC: {}", "NRIC No. {}"), nric),
    "AU TFN": (("TFN: {}", "tax file number {}"), retry(tfn)),
    "ZA id": (("ID number: {}", "SA ID {}"), south_african),
    "TR kimlik": (("T.C. Kimlik No: {}", "TC kimlik numarası {}"), kimlik),
    "RO CNP": (("CNP: {}", "cod numeric personal {}"), cnp),
    "CH AHV": (("AHV-Nr. {}", "N° AVS {}", "AHV-Nummer: {}"), ahv),
}


def _compact(draw: Draw) -> Draw:
    return lambda rng: "".join(c for c in draw(rng) if c.isalnum())


def _respaced(draw: Draw) -> Draw:
    return lambda rng: "".join(c if c.isalnum() else "\xa0" for c in draw(rng))


NO_NAME = ("Jo Meyer, {}, Berlin", "{}", '{"who": "{}"}', "id,value\n7,{}\n")
NATIONAL_IDS = {  # the issuing offices' documents, named at each draw
    "usual": {name: within(*contexts)(draw) for name, (contexts, draw) in IDS.items()},
    "hard": {
        **{f"{name} compact": within(*contexts)(_compact(draw)) for name, (contexts, draw) in IDS.items()},
        **{f"{name} no-break": within(*contexts)(_respaced(draw)) for name, (contexts, draw) in IDS.items()},
        **{
            f"{name} no name": within(*NO_NAME)(draw)  # of those that their form alone tells from a number
            for name, (_, draw) in IDS.items()
            if name
            in (
                "US SSN",
                "IT codice fiscale",
                "MX CURP",
                "BE RRN",
                "BR CPF",
                "CN resident id",
                "FI HETU",
                "CH AHV",
                "CL RUT",
            )
        },
    },
}
