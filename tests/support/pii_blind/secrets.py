"""Secrets as their vendors document them: prefixes, alphabets and lengths, drawn into the places where they leak.

In a pattern `{hex:32}` is 32 characters of that alphabet. Vendors' pages on authentication, and their announcements of
prefixes, are the source; a token that has no form of its own stands beside its vendor's name.
"""

# ruff: noqa: RUF001

import base64
import json
import random

from tests.support.pii_blind.draw import chars, fill, within

UUID = "{hex:8}-{hex:4}-4{hex:3}-a{hex:3}-{hex:12}"
VENDORS = {  # tokens with a form of their own
    "AWS access key": "AKIA{b32:16}",
    "AWS temporary key": "ASIA{b32:16}",
    "Google API": "AIza{url:35}",
    "Google OAuth secret": "GOCSPX-{url:28}",
    "Google refresh token": "1//0{url:60}",
    "Azure client secret": "{an:3}8Q~{an:34}",
    "GitHub classic": "ghp_{an:36}",
    "GitHub OAuth": "gho_{an:36}",
    "GitHub app": "ghs_{an:36}",
    "GitHub fine-grained": "github_pat_{an:22}_{an:59}",
    "GitLab personal": "glpat-{url:20}",
    "GitLab runner": "glrt-{url:20}",
    "GitLab deploy": "gldt-{url:20}",
    "GitLab trigger": "glptt-{hex:40}",
    "Bitbucket app password": "ATBB{an:28}{HEX:8}",
    "Atlassian": "ATATT3xFfGF0{url:171}={HEX:8}",
    "npm": "npm_{an:36}",
    "PyPI": "pypi-AgEIcHlwaS5vcmc{url:140}",
    "RubyGems": "rubygems_{hex:48}",
    "Clojars": "CLOJARS_{hex:60}",
    "Docker Hub": "dckr_pat_{url:27}",
    "Slack bot": "xoxb-{d:12}-{d:13}-{an:24}",
    "Slack user": "xoxp-{d:12}-{d:12}-{d:13}-{hex:32}",
    "Slack app": "xapp-1-A{DA:10}-{d:13}-{hex:64}",
    "Slack webhook": "https://hooks.slack.com/services/T{DA:8}/B{DA:10}/{an:24}",
    "Discord bot": "M{an:23}.{url:6}.{url:38}",
    "Discord webhook": "https://discord.com/api/webhooks/{d:18}/{url:68}",
    "Teams webhook": f"https://acme.webhook.office.com/webhookb2/{UUID}@{UUID}/IncomingWebhook/{{hex:32}}/{UUID}",
    "Telegram bot": "{d:10}:AA{url:33}",
    "Twilio key": "SK{hex:32}",
    "SendGrid": "SG.{url:22}.{url:43}",
    "Mailgun": "key-{hex:32}",
    "Mailchimp": "{hex:32}-us12",
    "Brevo": "xkeysib-{hex:64}-{an:16}",
    "Stripe secret": "sk_live_{an:24}",
    "Stripe long": "sk_live_51{an:97}",
    "Stripe restricted": "rk_live_{an:24}",
    "Stripe webhook": "whsec_{an:32}",
    "Square access": "sq0atp-{url:22}",
    "Square secret": "sq0csp-{url:43}",
    "Square token": "EAAA{url:60}",
    "Braintree": "access_token$production${da:16}${hex:32}",
    "Plaid": f"access-production-{UUID}",
    "Shopify admin": "shpat_{hex:32}",
    "Shopify shared": "shpss_{hex:32}",
    "Shopify custom": "shpca_{hex:32}",
    "Razorpay": "rzp_live_{an:14}",
    "Flutterwave": "FLWSECK-{hex:32}-X",
    "EasyPost": "EZAK{an:54}",
    "Shippo": "shippo_live_{hex:40}",
    "Duffel": "duffel_live_{url:43}",
    "OpenAI legacy": "sk-{an:20}T3BlbkFJ{an:20}",
    "OpenAI project": "sk-proj-{url:74}T3BlbkFJ{url:74}",
    "OpenAI service": "sk-svcacct-{url:74}T3BlbkFJ{url:74}",
    "Anthropic": "sk-ant-api03-{url:93}AA",
    "Hugging Face": "hf_{l:34}",
    "Replicate": "r8_{an:37}",
    "Groq": "gsk_{an:52}",
    "xAI": "xai-{an:80}",
    "Perplexity": "pplx-{an:48}",
    "OpenRouter": "sk-or-v1-{hex:64}",
    "LangSmith": "lsv2_pt_{hex:32}_{hex:10}",
    "DigitalOcean": "dop_v1_{hex:64}",
    "DigitalOcean OAuth": "doo_v1_{hex:64}",
    "Databricks": "dapi{hex:32}",
    "Snyk": "snyk_uat.{hex:8}.{url:60}.{url:20}",
    "New Relic": "NRAK-{DA:27}",
    "Grafana service": "glsa_{an:32}_{hex:8}",
    "Grafana cloud": "glc_eyJvIjoi{b64:60}",
    "Sentry user": "sntryu_{hex:64}",
    "Sentry org": "sntrys_eyJpYXQiOjE2{b64:120}_{b64:43}",
    "Dynatrace": "dt0c01.{b32:24}.{b32:64}",
    "PostHog": "phx_{an:43}",
    "Postman": "PMAK-{hex:24}-{hex:34}",
    "Linear": "lin_api_{an:40}",
    "Notion": "secret_{an:43}",
    "Notion new": "ntn_{d:11}{an:35}",
    "Airtable": "pat{an:14}.{hex:64}",
    "Figma": "figd_{url:40}",
    "Typeform": "tfp_{url:59}",
    "Asana": "2/{d:16}/{d:16}:{hex:32}",
    "Dropbox short": "sl.{url:136}",
    "Contentful": "CFPAT-{url:43}",
    "Vault": "hvs.{url:95}",
    "Vault legacy": "hvb.{url:140}",
    "Terraform Cloud": "{an:14}.atlasv1.{url:67}",
    "Pulumi": "pul-{hex:40}",
    "Doppler": "dp.pt.{an:43}",
    "PlanetScale": "pscale_tkn_{url:43}",
    "Supabase": "sbp_{hex:40}",
    "Fly.io": "fo1_{url:43}",
    "Heroku": "HRKU-AA{url:58}",
    "Netlify": "nfp_{an:36}",
    "Prefect": "pnu_{an:36}",
    "ReadMe": "rdme_{da:70}",
    "Sourcegraph": "sgp_{hex:16}_{hex:40}",
    "JFrog": "AKCp{an:69}",
    "Infracost": "ico-{an:32}",
    "Alibaba": "LTAI{an:20}",
    "Tencent": "AKID{an:32}",
    "Adobe": "p8e-{an:32}",
    "Mapbox": "sk.eyJ1Ijoi{an:60}.{url:22}",
    "1Password service": "ops_eyJ{b64:300}",
    "age": "AGE-SECRET-KEY-1{bech:58}",
    "Frame.io": "fio-u-{url:64}",
    "Facebook": "EAA{an:180}",
    "Yandex": "AQVN{url:38}",
    "Firebase messaging": "AAAA{url:7}:APA91b{url:134}",
    "Amazon Bedrock": "ABSK{b64:109}=",
    "Scalingo": "tk-us-{url:48}",
    "Artifactory reference": "cmVmd{an:59}",
    "Lob": "live_{hex:35}",
    "Buildkite": "bkua_{hex:40}",
}
BESIDE = {  # tokens without a form: their vendor or their field stands beside them
    "AWS secret": ("{b64:40}", "aws_secret_access_key = {}", "AWS_SECRET_ACCESS_KEY={}", '"SecretAccessKey": "{}"'),
    "Azure storage": (
        "{b64:86}==",
        "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={};EndpointSuffix=core.windows.net",
        "AccountKey={}",
    ),
    "Twilio token": ("{hex:32}", "TWILIO_AUTH_TOKEN={}", "twilio_auth_token: '{}'"),
    "Datadog": ("{hex:32}", "DD_API_KEY={}", "datadog_api_key = '{}'"),
    "Heroku": (UUID, "HEROKU_API_KEY={}", "heroku_api_key: {}"),
    "Cloudflare": ("{url:40}", "CLOUDFLARE_API_TOKEN={}", "cloudflare_api_key = '{}'"),
    "Okta": ("00{url:40}", "OKTA_API_TOKEN={}", "Authorization: SSWS {}"),
    "Fastly": ("{url:32}", "FASTLY_API_KEY={}", "fastly_key = '{}'"),
    "Algolia": ("{hex:32}", "ALGOLIA_ADMIN_API_KEY={}", "algolia_api_key: '{}'"),
    "Twitter bearer": ("AAAAAAAAAAAAAAAAAAAAA{an:90}", "TWITTER_BEARER_TOKEN={}", "Authorization: Bearer {}"),
    "CircleCI": ("{hex:40}", "CIRCLE_TOKEN={}", "curl -H 'Circle-Token: {}'"),
    "Travis": ("{url:22}", "TRAVIS_API_TOKEN={}", "travis_token: '{}'"),
    "Codecov": (UUID, "CODECOV_TOKEN={}", "codecov_token: {}"),
    "Sonar": ("{hex:40}", "SONAR_TOKEN={}", "sonar.login={}"),
    "Jira": ("{an:24}", "JIRA_API_TOKEN={}", "jira_token = '{}'"),
    "Vercel": ("{an:24}", "VERCEL_TOKEN={}", "vercel_token = '{}'"),
}

ASSIGNED = (
    "export TOKEN={}",
    'api_key = "{}"',
    "token: {}",
    '{"apiKey": "{}"}',
    "MY_SECRET={}",
    "-H 'Authorization: Bearer {}'",
)
LOOSE = (
    "I pasted {} into the chat.", "{}", "2023-10-10 INFO start {} done", "client = Client('{}')", "https://a.io/v1/x?k={}&y=1",
    "+ {}", "`{}`", "<code>{}</code>", "| prod | {} |", "{},17,ok", r'\"{}\"', "use {}.",
)  # fmt: skip


def password(rng: random.Random) -> str:
    word = rng.choice(["Tulip", "Quartz", "Monsoon", "Ferris", "Walnut", "Zephyr"])
    return f"{word}{rng.choice('!#$%?-_')}{rng.randint(10, 9999)}{rng.choice(['x', 'Q', '!', ''])}"


def jwt(rng: random.Random) -> str:  # RFC 7519
    encode = lambda part: base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")  # noqa: E731
    payload = {"sub": chars("d", 10, rng), "name": "Jo", "iat": rng.randint(10**9, 2 * 10**9)}
    return f"{encode({'alg': 'HS256', 'typ': 'JWT'})}.{encode(payload)}.{chars('url', 43, rng)}"


def private_key(label: str):  # RFC 7468; OpenSSH's PROTOCOL.key; RFC 4880
    def draw(rng: random.Random) -> str:
        lines = "\n".join(chars("b64", 64, rng) for _ in range(rng.randint(4, 20)))
        return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----"

    return draw


def basic(rng: random.Random) -> str:  # RFC 7617
    return base64.b64encode(f"jo:{password(rng)}".encode()).decode()


def uri_password(rng: random.Random) -> str:
    return fill(rng.choice(["{an:12}", "{an:20}", "{an:8}-{an:4}"]), rng)


def _pattern(pattern: str):
    return lambda rng: fill(pattern, rng)


SECRETS = {
    "usual": {
        **{name: within(*ASSIGNED)(_pattern(pattern)) for name, pattern in VENDORS.items()},
        "JWT": within(*ASSIGNED)(jwt),
        "password": within("password: {}", "PASSWORD={}", '"password": "{}"', "DB_PASSWORD='{}'", "passwd = '{}'")(
            password
        ),
        "URI": within(
            "postgres://jo:{}@db.acme.io:5432/app", "https://jo:{}@git.acme.io/x.git", "redis://:{}@cache:6379"
        )(uri_password),
        **{
            label: within("{}", "key: |\n{}\n")(private_key(label))
            for label in (
                "RSA PRIVATE KEY",
                "EC PRIVATE KEY",
                "PRIVATE KEY",
                "OPENSSH PRIVATE KEY",
                "PGP PRIVATE KEY BLOCK",
            )
        },
    },
    "hard": {
        **{name: within(*LOOSE)(_pattern(pattern)) for name, pattern in VENDORS.items()},
        **{f"{name} beside": within(*contexts)(_pattern(pattern)) for name, (pattern, *contexts) in BESIDE.items()},
        "JWT loose": within(*LOOSE)(jwt),
        "basic": within("Authorization: Basic {}", "-H 'Authorization: Basic {}'")(basic),
        "curl -u": within("curl -u jo:{} https://a.io", "curl --user jo:{} https://a.io")(password),
        "command": within(
            "mysql -u root -p{} app", "sshpass -p '{}' ssh a", "PGPASSWORD={} psql", "docker login -u jo -p {}"
        )(password),
        "prose": within(
            "the password is {}",
            "Your temporary password is: {}",
            "log in as jo with password {}",
            "Passwort: {}",
            "mot de passe : {}",
            "contraseña: {}",
            "пароль: {}",
            "密码：{}",
        )(password),
        "XML": within("<password>{}</password>", '<add key="Password" value="{}"/>', "<apiKey>{}</apiKey>")(password),
        "connection": within(
            "Server=db;User Id=sa;Password={};", "jdbc:mysql://db/app?user=jo&password={}", "amqp://jo:{}@mq"
        )(uri_password),
        "netrc": within("machine a.io login jo password {}", "//registry.npmjs.org/:_authToken={}")(uri_password),
        "escaped key": within('"private_key": "{}\\n"')(
            lambda rng: private_key("PRIVATE KEY")(rng).replace("\n", "\\n")
        ),
        "hash": within("root:{}:19000:0:99999:7:::")(lambda rng: fill("$6${an:8}${an:86}", rng)),
    },
}
