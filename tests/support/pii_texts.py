"""The templates of tests/support/pii_cases.py: [[kind]] or [[kind:form]] is to be found, any other is a filler."""

# fmt: off
# Sentences with nothing to be found, to stand around a template.
PLAIN = [
    "The meeting in [[city]] was moved to [[date]].", "[[name]] will bring the slides.", "See the notes below.",
    "We sold [[big]] units last quarter, up [[n]]% on the year before.", "Thanks for your patience!",
    "The [[word]] was repaired in [[year]] and has worked ever since.", "Let me know what you think.",
    "Das Treffen findet am [[dmy]] in [[city]] statt.", "Merci d'avance pour votre réponse.",
    "El pedido llegó el [[dmy]] sin problemas.", "La riunione è stata spostata a giovedì.",
    "O relatório fica pronto na próxima semana.", "Het pakket is gisteren bezorgd.", "Proszę o szybką odpowiedź.",
    "Build [[n]] finished in [[price]] s.", "# TODO: check the [[word]] once more", "Nothing else changed.",
]

PERSON = {
    "ES": [
        "DNI: [[national_id:ES]]", "Yo, [[name]], con NIF [[national_id:ES]], declaro que vivo en [[city]].",
        "titular;documento\n[[name]];[[national_id:ES]]\n[[name]];[[national_id:ES]]",
        "La firmante ([[national_id:ES]]) acepta.",
    ],
    "FR": [
        "Numéro de sécurité sociale : [[national_id:FR]]", "NIR [[national_id:FR]], né(e) à [[city]]",
        "Merci d'indiquer votre n° de sécu ([[national_id:FR]]) sur le formulaire.",
    ],
    "IT": [
        "Codice fiscale: [[national_id:IT]]", "[[name]], C.F. [[national_id:IT]], residente a [[city]]",
        "nome,cf\n[[name]],[[national_id:IT]]\n[[name]],[[national_id:IT]]",
    ],
    "DE": [
        "Steuer-ID: [[national_id:DE]]", "Meine Steueridentifikationsnummer lautet [[national_id:DE]].",
        "IdNr. [[national_id:DE]], Finanzamt [[city]]",
    ],
    "NL": [
        "BSN: [[national_id:NL]]", "Mijn burgerservicenummer is [[national_id:NL]].",
        '{"name": "[[name]]", "bsn": "[[national_id:NL]]"}',
    ],
    "BE": [
        "Rijksregisternummer [[national_id:BE]]", "N° de registre national : [[national_id:BE]]",
        "[[name]], [[national_id:BE]], [[city]]",
    ],
    "PL": [
        "PESEL [[national_id:PL]]", "[[name]], PESEL: [[national_id:PL]], zam. [[city]]",
        "imie=[[first]]&pesel=[[national_id:PL]]",
    ],
    "SE": [
        "Personnummer: [[national_id:SE]]", "[[name]] ([[national_id:SE]]) är folkbokförd i [[city]].",
        "personnr [[national_id:SE]]",
    ],
    "FI": [
        "Henkilötunnus: [[national_id:FI]]", "hetu [[national_id:FI]]", "[[name]], [[national_id:FI]], [[city]]",
    ],
    "BR": [
        "CPF: [[national_id:BR]]", "[[name]], portador do CPF [[national_id:BR]], reside em [[city]].",
        "| [[name]] | [[national_id:BR]] |\n| [[name]] | [[national_id:BR]] |",
    ],
    "CA": [
        "SIN [[national_id:CA]]", "My social insurance number is [[national_id:CA]].",
        "Employee [[name]], SIN: [[national_id:CA]]",
    ],
    "IN": [
        "Aadhaar: [[national_id:IN]]", "Aadhaar number [[national_id:IN]] was linked on [[date]].",
        "KYC: [[name]] / Aadhaar No. [[national_id:IN]]",
    ],
    "CN": [
        "身份证号:[[national_id:CN]]", "ID card number [[national_id:CN]] (resident of [[city]])",
        "姓名 王芳 身份证 [[national_id:CN]]",
    ],
    "ZA": [
        "ID number: [[national_id:ZA]]", "South African ID no. [[national_id:ZA]] for [[name]]",
    ],
    "TR": [
        "T.C. Kimlik No: [[national_id:TR]]", "TCKN [[national_id:TR]]", "[[name]], TC kimlik no [[national_id:TR]]",
    ],
    "CH": [
        "AHV-Nr. [[national_id:CH]]", "[[name]], [[national_id:CH]], [[city]]", "Numéro AVS : [[national_id:CH]]",
    ],
}

POSITIVES = {
    "email": [
        "Write to [[email]] before [[date]].", "From: [[name]] <[[email]]>\nTo: <[[email]]>\nSubject: [[word]] [[n]]\n",
        "E-Mail: [[email]]", "Bitte senden Sie Ihre Unterlagen an [[email]].",
        "Contactez [[name]] ([[email]]) avant le [[dmy]].", "Escríbeme a [[email]], por favor.",
        "Per informazioni: [[email]]", "Envie o currículo para [[email]].",
        '{"id": [[n]], "user": "[[name]]", "mail": "[[email]]"}', '<a href="mailto:[[email]]">[[name]]</a>',
        "id,name,email\n1,[[name]],[[email]]\n2,[[name]],[[email]]\n3,[[name]],[[email]]",
        "[[date]] [[time]] INFO login ok user=[[email]] took=[[n]]ms",
        "Author: [[name]] <[[email]]>\nDate:   [[date]] [[time]]", "__author__ = '[[name]] <[[email]]>'",
        "Signed-off-by: [[name]] <[[email]]>", "| [[name]] | [[email]] | [[city]] |", "Questions? Mail to [[email]]!",
        "Ask [[handle]] or [[email]], whoever answers first.", "回复请发到 [[email]] 谢谢",
        "git config user.email [[email]]",
        "cc: [[email]]; [[email]]", "maintainers:\n  - [[email]]\n  - [[email]]",
    ],
    "phone": [
        "Call me at [[phone:US]] after [[n]] pm.", "Tel.: [[phone:DE]]", "Telefon: [[phone:DE]], Fax auf Anfrage",
        "Phone: [[phone:GB]]", "Please ring [[phone:GB]] and ask for [[name]].", "Tél. [[phone:FR]]",
        "Appelez le [[phone:FR]] entre 9 h et 17 h.", "Llámame al [[phone:ES]] cuando puedas.",
        "Teléfono: [[phone:ES]]", "Cell. [[phone:IT]]", "Chiamami al telefono: [[phone:IT]]",
        "Sie erreichen mich telefonisch unter [[phone:DE]].", "mobile: [[phone:GB]]",
        "Our new office number is [[phone]].", "[[name]]\n[[co]]\n[[city]]\n[[phone]]",
        "name;city;number\n[[name]];[[city]];[[phone]]\n[[name]];[[city]];[[phone]]",
        '{"name": "[[name]]", "phone": "[[phone:US]]"}', '<a href="tel:[[phone:+]]">call us</a>',
        "WhatsApp [[phone:+]]", "[[date]] [[time]] sms queued to=[[phone:+]] parts=2", "☎ [[phone]]",
        "Emergency contact: [[name]] ([[phone]])", "You can reach [[name]] on [[phone]] or [[phone]].",
        "Text [[phone:US]] to confirm your seat.", "電話: [[phone:+]]",
    ],
    "ip": [
        "[[date]] [[time]] sshd[[[d4]]]: Failed password for root from [[ip]] port [[d4]] ssh2", "ping [[ip]]",
        '[[ip]] - - [[[dmy]] [[time]]] "GET /[[word]] HTTP/1.1" 200 [[d4]]', "The request came from [[ip]].",
        "Nov [[n]] [[time]] gw kernel: DROP SRC=[[ip]] DST=[[ip]] PROTO=TCP", "remote_addr={[[ip]]}",
        "ssh admin@build01 -J [[ip]]", '{"client_ip": "[[ip]]", "status": 403}',
        "Die IP-Adresse [[ip]] wurde gesperrt.", "L'adresse IP [[ip]] a été bloquée.",
        "host,ip\nweb-1,[[ip]]\nweb-2,[[ip]]\nweb-3,[[ip]]", "X-Forwarded-For: [[ip]], [[ip]]", "nameserver [[ip]]",
        "User [[name]] connected ([[ip]]) at [[time]].", "server = '[[ip]]'  # the box in [[city]]",
        "[[ip]]\tweb-[[n]].internal", "inet [[ip]] netmask [[mask]]", "Vandal edit by [[ip]] reverted.",
        "La dirección [[ip]] no responde.",
    ],
    "credit_card": [
        "Card number: [[credit_card]]", "Please charge my credit card [[credit_card]], expiry 11/27.",
        "Kreditkarte [[credit_card]]", "Paid [[price]] EUR with card [[credit_card]] on [[date]].",
        "name,card,exp\n[[name]],[[credit_card]],09/27\n[[name]],[[credit_card]],01/26",
        '{"pan": "[[credit_card]]", "cvv": "***"}',
        "[[date]] [[time]] DEBUG charge card=[[credit_card]] amount=[[price]]",
        "Mi tarjeta es [[credit_card]] y caduca pronto.", "Carte bancaire : [[credit_card]]",
        "Numero di carta [[credit_card]]", "cartão de crédito [[credit_card]], titular [[name]]",
        "My old card was [[credit_card]], the new one is [[credit_card]].", "| [[name]] | [[credit_card]] |",
        "INSERT INTO cards VALUES ([[n]], '[[credit_card]]', '[[name]]');",
    ],
    "iban": [
        "IBAN: [[iban]]", "Please transfer [[price]] EUR to [[iban]] by [[date]].",
        "Bitte überweisen Sie auf [[iban]] ([[co]]).", "Virement sur le compte [[iban]], merci.",
        "Haga la transferencia a [[iban]].", "Bonifico a: [[iban]] intestato a [[name]]",
        "owner;account\n[[name]];[[iban]]\n[[name]];[[iban]]", '{"iban": "[[iban]]", "bic": "XXXXXX"}',
        "Rekening [[iban]] t.n.v. [[name]]", "[[date]] [[time]] INFO debit mandate account=[[iban]] ok",
        "Numer konta: [[iban]]", "Bank details: [[co]], [[iban]].", "<td>[[name]]</td><td>[[iban]]</td>",
        "Rent goes from [[iban]] to [[iban]] on the first.",
    ],
    "national_id": [template for templates in PERSON.values() for template in templates],
    "secret": [
        'client = Client("[[secret]]")', "export TOKEN=[[secret]]", "Authorization: Bearer [[secret:jwt]]",
        "token: [[secret]]", "I pushed [[secret]] by accident, can you revoke it?",
        "aws_access_key_id = [[secret:aws]]", "git clone https://oauth2:[[secret:gitlab]]@gitlab.com/x.git",
        "[[date]] [[time]] DEBUG headers={'x-token': '[[secret]]'}", "SLACK_BOT_TOKEN=[[secret:slack]]\nPORT=8080",
        "STRIPE_KEY='[[secret:stripe]]'", "//registry.npmjs.org/:_authToken=[[secret:npm]]", "[[secret:pem]]",
        "cat > id_rsa <<END\n[[secret:pem]]\nEND", "HF_TOKEN=[[secret:hugging]] python train.py",
        "DATABASE_URL=[[secret:url]]/orders", "url: [[secret:url]]/", "curl [[secret:url]]/v1/[[word]]",
        'api_key = "[[secret:value]]"', '"client_secret": "[[secret:value]]",', "API_KEY=[[secret:value]]",
        "access_token: '[[secret:value]]'", "const apiKey = '[[secret:value]]';",
        "openai.api_key = '[[secret:openai]]'", "?key=[[secret:google]]&zoom=[[n]]", "GITHUB_TOKEN: [[secret:github]]",
        'secret_key="[[secret:value]]"',
    ],
    "several": [
        "[[name]]\n[[co]], [[city]]\nTel: [[phone:DE]]\nE-Mail: [[email]]\nIBAN: [[iban]]",
        "name,email,phone,card\n[[name]],[[email]],[[phone:+]],[[credit_card]]\n"
        "[[name]],[[email]],[[phone:+]],[[credit_card]]",
        "[[date]] [[time]] WARN login user=[[email]] ip=[[ip]] request=[[uuid]]",
        "SMTP_USER=[[email]]\nSMTP_KEY=[[secret]]\nHOST=[[ip]]",
        '{"name": "[[name]]", "cpf": "[[national_id:BR]]", "phone": "[[phone:+]]", "ip": "[[ip]]", "etag": '
        '"[[hex32]]"}',
        "Cliente [[name]], DNI [[national_id:ES]], correo [[email]], teléfono [[phone:ES]], cuenta [[iban]].",
        "[[name]], PESEL [[national_id:PL]], tel. [[phone:+]], konto [[iban]]",
        "Order [[d6]] of [[date]]: [[email]], card [[credit_card]], sent from [[ip]].",
        "Dear [[first]],\n\nmy number changed to [[phone]], and mail goes to [[email]] now.\n\nBest,\n[[name]]",
        "Version [[v4]] on [[ip]], commit [[hex40]], owner [[email]]",
        "Name: [[name]]\nC.F.: [[national_id:IT]]\nCell.: [[phone:IT]]\nPosta: [[email]]",
    ],
}

# Why each of these is nothing: the labels, where a number would otherwise be read as one, say what it is.
NEGATIVES = {
    "a date": [
        "Born on [[dmy]], moved on [[date]].", "Am [[dmy]] um [[time]] Uhr", "range: [[date]]..[[date]]",
        "backup-[[date]]-[[n]].tar.gz",
    ],
    "a time stamp": [
        "ts=[[unix]] level=info", '{"at": [[unixms]], "ms": [[n]]}', "[[date]]T[[time]].123456+02:00",
        "[[date]] [[time]],[[n]] INFO ready",
    ],
    "a time zone": [
        "UTC+02:00", "The call starts at 09:30 GMT+0530 on [[date]].", "tz: -0800, dst: +0100", "+0200 (CEST)",
    ],
    "an ISBN": [
        "ISBN [[isbn]]", "[[name]]: The [[word]], [[year]]. ISBN: [[isbn]].", "isbn,title\n[[isbn]],The [[word]]",
    ],
    "a bar code": [
        "EAN [[ean]]", "barcode: [[ean]], stock: [[n]]", "GTIN-13: [[ean]] ([[word]], blue)",
    ],
    "a version": [
        "[[co]] Studio [[v4]] fixes the [[word]].", 'version = "[[v4]]"', "Mozilla/5.0 Chrome/[[chrome]] Safari/537.36",
        "Upgraded from v[[v4]] to v[[v4]].", "FileVersion: [[v4]]", "driver version [[v4]] is too old",
    ],
    "a section": [
        "See section [[v4]] of the manual.", "Abschnitt [[v4]] regelt die Haftung.",
        "1.2.3.4 The [[word]]\n1.2.3.5 The [[word]]", "as in § [[v4]]",
    ],
    "an object identifier": [
        "OID 1.3.6.1.4.1.[[d4]].[[n]]", "snmpget host .1.3.6.1.2.1.1.[[n]].0",
    ],
    "a netmask": [
        "netmask [[mask]]", "Subnet mask: [[mask]]", "Subnetzmaske [[mask]] eintragen",
    ],
    "no address of a machine": [
        "listen 0.0.0.0:8080", "bind = '127.0.0.1'", "http://127.0.0.1:[[d4]]/[[word]]",
        "server listening on [::]:[[d4]]", "ping6 ::1", "HOST=0.0.0.0 PORT=[[d4]] npm start",
    ],
    "an octet too large": [
        "The film shows the address [[badip]].", "error: [[badip]] is not valid",
    ],
    "a MAC address": [
        "ether [[mac]] txqueuelen 1000", "MAC: [[mac]]", "device [[mac]] joined",
    ],
    "scopes and times in code": [
        "std::vector<int> a; a::b();", "use crate::[[word]]::[[word]];", "lap [[time]], ratio 3:2:1", "x[::2], y[1::3]",
    ],
    "a decorator": [
        "@dataclass\nclass [[word]]:\n    n: int = [[n]]", "@property\ndef [[word]](self):",
        "@pytest.mark.slow\ndef test_[[word]]():", "@media (min-width: [[d4]]px) {",
    ],
    "a handle": [
        "Follow [[handle]] for more.", "thanks [[handle]] and [[handle]]!", "cc [[handle]]",
        "https://medium.com/[[handle]]/[[word]]-[[hex7]]",
    ],
    "a package version": [
        "npm i [[pkg]]@[[v3]]", "[[pkg]]@[[v3]] requires [[pkg]]@^[[v3]]", "uses: actions/checkout@v[[n]]",
        "image: nginx@sha256:[[hex64]]",
    ],
    "an at sign": [
        "W @ x + b", "[[n]] apples @ [[price]] each", "logo@2x.png and icon@3x.png", "meet @ noon in [[city]]",
        "scp a.txt root@build[[n]]:/srv", "2 @ $[[price]]", "psql -h db app@localhost",
    ],
    "a git hash": [
        "commit [[hex40]]", "Reverts [[hex7]] and [[hex7]].", "HEAD is now at [[hex7]] Fix the [[word]]",
        "index [[hex7]]..[[hex7]] 100644", "rev: [[hex40]]",
    ],
    "a UUID": [
        "id=[[uuid]]", "trace [[uuid]] span [[n]]", '"request": "[[uuid]]"', "urn:uuid:[[uuid]]",
    ],
    "a digest": [
        "md5: [[hex32]]  [[word]].iso", "[[hex64]]  model.safetensors", "sha1=[[hex40]]", 'cache_key = "[[hex32]]"',
        'ETag: "[[hex32]]"', 'integrity="sha512-[[sha512]]"',
    ],
    "an order number": [
        "Order no. [[d10]] was shipped.", "Bestellnummer [[d8]]", "commande n° [[d10]]", "ticket #[[d6]]",
        "Invoice 2024-[[d6]]", "Rechnung Nr. [[d4]]-[[d4]]", "Numéro de dossier [[d8]]", "PO [[d10]], line [[n]]",
    ],
    "a price": [
        "It costs $[[price]], not $[[price]].", "Total: 1.[[n]]9,00 €", "USD [[big]],000", "R$ [[price]]",
        "The phone costs [[price]] €.",
    ],
    "a year": [
        "from [[year]] to [[year]]", "The telephone came to [[city]] in [[year]].", "([[year]]-[[year]])",
        "Call it the crisis of [[year]].",
    ],
    "a count": [
        "called [[d6]] times", "phone model [[d4]]", "[[big]],[[n]]0 callers", "population [[d6]]",
        "[[d8]] bytes written", "call stack depth [[d4]]",
    ],
    "coordinates": [
        "[[lat]], [[lon]]", "lat=[[lat]]&lon=[[lon]]", '{"type": "Point", "coordinates": [[[lon]], [[lat]]]}',
        "48°51'24\"N 2°21'03\"E", "POINT([[lon]] [[lat]])",
    ],
    "a number": [
        "loss [[float]]", "x = [[float]], y = -[[float]]", "[[float]]e-05", "3 + [[n]] = [[d4]]",
        "[[d4]] * [[d6]] mod [[n]]", "[[[float]], [[float]], [[float]]]", "f(x) = x^2 - [[n]]x + [[n]]",
    ],
    "a card number that fails Luhn": [
        "The number [[badcard]] was rejected.", "card: [[badcard]] (invalid)", "order reference [[badcard]]",
        "test vector: [[badcard]] -> false",
    ],
    "an IMEI": [
        "IMEI [[imei]]", "imei: [[imei]], model [[word]] [[n]]", "IMEI of the stolen handset: [[imei]]",
    ],
    "an IBAN whose check digits are wrong": [
        "[[badiban]] is no valid IBAN.", "IBAN: [[badiban]]", "konto [[badiban]] odrzucone", "Ungültig: [[badiban]]",
        "assert not valid('[[badiban]]')",
    ],
    "a national number whose check digit is wrong": [
        "DNI [[badES]]", "Codice fiscale [[badIT]]", "BSN [[badNL]]", "PESEL [[badPL]]", "personnummer [[badSE]]",
        "hetu [[badFI]]", "CPF [[badBR]]", "SIN [[badCA]]", "Aadhaar [[badIN]]", "SA ID [[badZA]]", "TCKN [[badTR]]",
        "AHV-Nr. [[badCH]]", "rijksregisternummer [[badBE]] ongeldig",
    ],
    "a part number": [
        "Part no. 800-[[d4]]-[[n]]", "P/N [[d4]]-[[d6]]", "SKU: 0[[n]]-[[d6]]-A", "Ersatzteil 030.[[d4]].[[n]]",
        "Artikel-Nr. [[d4]] [[d4]]", "art. [[d6]]/[[n]]", "model KX-[[d4]]-[[d4]]",
    ],
    "a placeholder": [
        'api_key = "YOUR_API_KEY"  # line [[n]]', "token: xxxxxxxxxxxxxxxx[[word]]",
        "export OPENAI_API_KEY=sk-...  # [[word]]", "password: ********** ([[n]])", "SECRET_KEY=<your-[[word]]-key>",
        'api_key = os.environ["[[word]]_API_KEY"]', "Authorization: Bearer $TOKEN_[[n]]",
        "postgres://user:password@localhost:[[d4]]/[[word]]", "phone: (xxx) xxx-xxxx, [[city]]",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx [[n]]", "card: XXXX XXXX XXXX XXXX, [[date]]",
        "access_token: ${{ secrets.[[word]] }}", "api_key=None, n=[[n]]", "{{ [[word]].api_key }}",
        "AKIAXXXXXXXXXXXXXXXX for [[word]]", "IBAN: DEXX XXXX XXXX XXXX XXXX XX ([[co]])", "user@<domain> for [[word]]",
    ],
    "an image": [
        "data:image/png;base64,[[b64]]", '<img src="data:image/gif;base64,[[b64]]">',
        "background: url(data:font/woff2;base64,[[b64]])",
    ],
    "a public key": [
        "-----BEGIN CERTIFICATE-----\n[[b64line]]\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\n[[b64line]]\n-----END PUBLIC KEY-----", "ssh-ed25519 AAAA[[b64]] laptop",
    ],
    "words about secrets": [
        "The password must have [[n]] characters.", "def get_token(self, key): return self.tokens[key][[[n]]]",
        "max_tokens = [[d4]]", "tokenizer = 'gpt2-[[word]]'", "secret garden, chapter [[n]]", "sk-learn [[v3]]",
        "PRIMARY KEY (id_[[word]])", "from tokens import secret_[[word]]", "keyboard = 'qwerty-[[n]]'",
    ],
    "a colour": [
        "color: #[[colour]];", "#[[colour]] on #[[colour]]", 'fill="#[[colour]]" stroke="#[[colour]]"',
    ],
    "chess": [
        "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 [[n]]. Ba4 Nf6",
        "rnbqkbnr/pp1ppppp/8/2p5/4P3/8/PPPP1PPP/RNBQKBNR w KQkq c6 0 [[n]]", "[[name]] - [[name]], [[year]], 1-0",
    ],
    "a score or a lottery": [
        "Finale: 6-4 3-6 7-5 ([[year]])", "Lottozahlen: 3, 12, 24, 31, 40, 45 (Ziehung [[n]])",
        "half time 2:1, full time 3:2, [[date]]", "tirage du [[dmy]] : 04, 12, 27, 33, 48",
    ],
    "a size or a rate": [
        "1920x1080@[[n]]Hz", "[[d4]] x [[d4]] px", "DIN 912 M8x[[n]]", "RFC [[d4]]",
        "IPv6 prefix length /64, MTU [[d4]]", "5V/2A, 50-60 Hz, [[d4]] W",
    ],
    "a book or a law": [
        "arXiv:2[[n]]1.0[[d4]]", "doi:10.1000/[[word]].[[year]].[[d6]]", "ISSN 0317-8471, vol. [[n]]",
        "Art. [[n]] Abs. 2 Satz 1 BGB", "Genesis 12:3, Matthew 5:[[n]]", "PMID: [[d8]]",
    ],
    "a route or a flight": [
        "Flight LH [[d4]] to [[city]]", "postcode SW1A 2AA, [[city]]", "[[city]] 0[[d4]], box [[n]]",
        "licence plate B-XY [[d4]]", "tracking 1Z999AA1[[d10]]", "VIN WVWZZZ1JZXW[[d6]]",
    ],
}
