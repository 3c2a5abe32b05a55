"""
Every setting, read from the environment (docs/configuration.md lists them).

`make run` writes what the embedded servers need into .local/env; the environment wins over it.
"""

import re
from pathlib import Path
from typing import Any

import django_stubs_ext
import environ
from django.core.exceptions import ImproperlyConfigured

from core import logs

# ModelAdmin[Hold] and QuerySet[Hold] are written in the code and read by mypy only.
django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.FileAwareEnv()
if not env.bool("FLORIN_IGNORE_LOCAL_ENV", default=False):
    env.read_env(BASE_DIR / ".local" / "env", overwrite=False)

# development: loopback only, throw-away secrets. production: refuses insecure settings.
FLORIN_MODE = env.str("FLORIN_MODE", default="development")
IS_PRODUCTION = FLORIN_MODE == "production"
_INSECURE_SECRET = "development-only-secret-that-production-refuses"
_INSECURE_JWT_KEY = "development:ZGV2ZWxvcG1lbnQtb25seS1zZWNyZXQtcmVmdXNlZCE"
_INSECURE_ENCRYPTION_KEY = "ZGV2ZWxvcG1lbnQtb25seS1zZWNyZXQtcmVmdXNlZCE="

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default=_INSECURE_SECRET)
# Keys of the digests of API keys: apart from SECRET_KEY, which may rotate without killing them.
API_KEY_PEPPER = env.str("API_KEY_PEPPER", default=_INSECURE_SECRET)
# Under which gateway credentials are kept: the first encrypts, all decrypt. To rotate, put a new
# one first, everywhere; run `manage.py rotate_encryption_key`; take the old one out.
ENCRYPTION_KEYS: list[str] = env.list("ENCRYPTION_KEYS", default=[_INSECURE_ENCRYPTION_KEY])
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])


def _are_own_jwt_keys(keys: list[str]) -> bool:
    # 43 characters of base64url are the 32 bytes of an Ed25519 key.
    well_formed = re.compile(r"[A-Za-z0-9._-]{1,40}:[A-Za-z0-9_-]{43}")
    known = _INSECURE_JWT_KEY.split(":")[1]
    are_ours = all(well_formed.fullmatch(key) and not key.endswith(known) for key in keys)
    return are_ours and bool(keys)


def _are_own_encryption_keys(keys: list[str]) -> bool:
    # 44 characters of base64url are the 32 bytes of a Fernet key.
    well_formed = re.compile(r"[A-Za-z0-9_-]{43}=")
    are_ours = all(well_formed.fullmatch(key) and key != _INSECURE_ENCRYPTION_KEY for key in keys)
    return are_ours and bool(keys)


def _refuse_insecure_production() -> None:
    if FLORIN_MODE not in ("development", "production"):
        raise ImproperlyConfigured("FLORIN_MODE is either development or production.")
    if not IS_PRODUCTION:
        return
    faults = []
    for name, secret in (("SECRET_KEY", SECRET_KEY), ("API_KEY_PEPPER", API_KEY_PEPPER)):
        if secret == _INSECURE_SECRET or len(secret) < 50 or len(set(secret)) < 5:
            faults.append(f"{name} must be 50 or more random characters")
    if SECRET_KEY == API_KEY_PEPPER:
        faults.append("SECRET_KEY and API_KEY_PEPPER must differ")
    if 0 < len(env.str("METRICS_TOKEN", default="")) < 32:
        faults.append("METRICS_TOKEN must be 32 or more characters")
    if DEBUG:
        faults.append("DEBUG must be off")
    if not env.list("ALLOWED_HOSTS", default=[]) or "*" in ALLOWED_HOSTS:
        faults.append("ALLOWED_HOSTS must name the hosts, without *")
    if not env.str("DATABASE_URL", default=""):
        faults.append("DATABASE_URL must be set")
    if not env.str("REDIS_URL", default=""):
        faults.append("REDIS_URL must be set")
    if not _are_own_jwt_keys(env.list("JWT_KEYS", default=[_INSECURE_JWT_KEY])):
        faults.append(
            "JWT_KEYS must hold keys of your own"
            " (FLORIN_MODE=development manage.py make_jwt_key makes one)"
        )
    if not _are_own_encryption_keys(env.list("ENCRYPTION_KEYS", default=[])):
        faults.append(
            "ENCRYPTION_KEYS must hold keys of your own"
            " (FLORIN_MODE=development manage.py make_encryption_key makes one)"
        )
    if not env.str("PUBLIC_URL", default="").startswith("https://"):
        faults.append("PUBLIC_URL must be the https address that gateways and payers reach")
    if faults:
        raise ImproperlyConfigured("Production refuses to start: " + "; ".join(faults) + ".")


_refuse_insecure_production()

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
# What payers read; the back office and the API speak English.
LANGUAGES = [("en", "English"), ("id", "Bahasa Indonesia"), ("ms", "Bahasa Melayu")]
LOCALE_PATHS = [BASE_DIR / "locale"]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
AUTH_USER_MODEL = "identity.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "config.apps.FlorinAdminConfig",
    # Before Django's own: its commands for people are replaced by ours, which leave a record.
    "identity",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_celery_results",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "core",
    "accounts",
    "ledger",
    "payments",
    "invoices",
    "savings",
    "webhooks",
]
MIDDLEWARE = [
    "core.api.middleware.CallerMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "core.api.middleware.ContentSecurityPolicyMiddleware",
    "core.api.limits.RateLimitHeadersMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "core.api.middleware.StaffNameMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- PostgreSQL --------------------------------------------------------------------------------
# A time limit on everything (RELIABILITY): a dead link, a lock, a statement, the wait for a
# connection. ATOMIC_REQUESTS stays off: services open their own transactions, and it would erase
# the rows of a request that DRF answers with an error.
LOCK_TIMEOUT_MS = env.int("LOCK_TIMEOUT_MS", default=3_000)
STATEMENT_TIMEOUT_MS = env.int("STATEMENT_TIMEOUT_MS", default=15_000)
TCP_USER_TIMEOUT_MS = env.int("TCP_USER_TIMEOUT_MS", default=5_000)
DATABASE_POOL_MAX = env.int("DATABASE_POOL_MAX", default=8)
DATABASE_POOL_TIMEOUT_S = env.float("DATABASE_POOL_TIMEOUT_S", default=2.0)
_DATABASE = env.db_url_config(
    env.str("DATABASE_URL", default="postgres://florin:florin@127.0.0.1:54329/florin")
)
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **_DATABASE,
        "ENGINE": "django.db.backends.postgresql",
        "ATOMIC_REQUESTS": False,
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            **_DATABASE.get("OPTIONS", {}),
            "connect_timeout": 5,
            "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
            "application_name": env.str("FLORIN_PROCESS", default="florin"),
            # One server-side plan for the statements that repeat, such as the posting function.
            "options": (
                f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout={STATEMENT_TIMEOUT_MS}"
                " -c idle_in_transaction_session_timeout=60000 -c jit=off -c timezone=UTC"
            ),
            "pool": {
                "min_size": 1,
                "max_size": DATABASE_POOL_MAX,
                "timeout": DATABASE_POOL_TIMEOUT_S,
                "max_lifetime": 1800,
            },
        },
    }
}

# --- Redis and Celery --------------------------------------------------------------------------
REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:63799/0")
CELERY_BROKER_URL = REDIS_URL
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_ACKS_LATE = True
# A message that kills its worker is not sent back to kill the next one: what must be done is a row
# of core_jobrun, which counts its attempts, and is sent again from there (docs/decisions/0025).
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_TIME_LIMIT = 300
CELERY_TASK_SOFT_TIME_LIMIT = 240
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10
CELERY_BEAT_SCHEDULER = "config.beat:GuardedScheduler"
# What was sent is in the database at once, for whichever beat is next.
CELERY_BEAT_SYNC_EVERY = 1
CELERY_TIMEZONE = "UTC"
# What beat sends, on a new installation: `migrate` adds what its table lacks, and from then on
# staff decide (core.schedule). Intervals only: django-celery-beat forgets a crontab of one hour
# when it is not up at that hour.
# pause_s: how long after a success there is nothing to do. What is due once a day is sent more
# often, so that a message that is lost costs minutes.
PERIODIC_TASKS: dict[str, dict[str, Any]] = {
    "run recurring payments": {"task": "payments.run_recurring_payments", "every_s": 5},
    "look for salaries": {"task": "payments.look_for_salaries", "every_s": 5},
    "keep savings plans": {"task": "savings.keep_plans", "every_s": 30},
    "expire due holds": {"task": "ledger.expire_due_holds", "every_s": 60},
    "seal new rows": {"task": "core.seal_new_rows", "every_s": 5},
    # Both are also rung for: this finds what a lost ring was about, and what is due by time.
    "take due steps": {"task": "payments.take_due_steps", "every_s": 10},
    "take due steps of invoices": {"task": "invoices.take_due_steps", "every_s": 30},
    "send e-mails": {"task": "invoices.send_mailings", "every_s": 30},
    "process webhooks": {"task": "webhooks.process_due_events", "every_s": 10},
    "gather payouts": {"task": "payments.gather_payouts", "every_s": 900},
    "export payout files": {"task": "payments.export_payout_files", "every_s": 60},
    "reconcile gateways": {"task": "payments.reconcile", "every_s": 900, "pause_s": 24 * 3600},
    "purge browser sessions": {"task": "identity.purge_browser_sessions", "every_s": 3600},
    "purge sessions": {"task": "identity.purge_sessions", "every_s": 3600},
    "purge idempotency records": {"task": "core.purge_idempotency_records", "every_s": 300},
    "tend jobs": {"task": "core.tend_jobs", "every_s": 5},
    "note late tasks": {"task": "core.note_late_tasks", "every_s": 60},
    "send failure notices": {"task": "core.send_failure_notices", "every_s": 60},
    "purge job runs": {"task": "core.purge_job_runs", "every_s": 3600},
    # Of tasks that were sent with a wish for their result; ours keep core_jobrun instead.
    "purge task results": {"task": "celery.backend_cleanup", "every_s": 3600},
}
# Who is told by e-mail of what fails, at most once a task and hour. Empty: nobody.
FAILURE_NOTICES_TO: list[str] = env.list("FAILURE_NOTICES_TO", default=[])
# How long runs of jobs are kept that have ended.
JOB_RUNS_KEPT_DAYS = env.int("JOB_RUNS_KEPT_DAYS", default=14)

# --- E-mail ------------------------------------------------------------------------------------
# smtp+tls://user:password@host:587, or another of django-environ's. Empty: files in .local/mail for
# whoever develops, the log in production.
_EMAIL = env.email_url("EMAIL_URL", default="consolemail://" if IS_PRODUCTION else "filemail://")
EMAIL_BACKEND = _EMAIL["EMAIL_BACKEND"]
EMAIL_FILE_PATH = _EMAIL["EMAIL_FILE_PATH"] or str(BASE_DIR / ".local" / "mail")
EMAIL_HOST = _EMAIL["EMAIL_HOST"] or "localhost"
EMAIL_PORT = _EMAIL["EMAIL_PORT"] or 25
EMAIL_HOST_USER = _EMAIL["EMAIL_HOST_USER"] or ""
EMAIL_HOST_PASSWORD = _EMAIL["EMAIL_HOST_PASSWORD"] or ""
EMAIL_USE_TLS = _EMAIL.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = _EMAIL.get("EMAIL_USE_SSL", False)
# A mail server that says nothing keeps a worker no longer.
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="billing@localhost")

# --- The API -----------------------------------------------------------------------------------
# Largest request body that is read at all; a batch of 10,000 transfers is about 3 MB.
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("BODY_SIZE_MAX", default=8 * 1024 * 1024)
# How long a process trusts an API key that it has verified. A revoked key lives no longer.
API_KEY_CACHE_S = env.float("API_KEY_CACHE_S", default=0.5)
# Whether the API reads as a database role that sees one tenant's rows only.
ROW_SECURITY = env.bool("ROW_SECURITY", default=True)
# Requests in a minute: of a key or a person, and of an address without credentials. 0: no limit.
RATE_LIMIT = env.int("RATE_LIMIT", default=1_000)
RATE_LIMIT_ANONYMOUS = env.int("RATE_LIMIT_ANONYMOUS", default=600)
# How many proxies of ours a request comes through; what X-Forwarded-For says beyond them is not
# believed.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)
REST_FRAMEWORK = {
    "EXCEPTION_HANDLER": "core.api.errors.problem_handler",
    "DEFAULT_AUTHENTICATION_CLASSES": ["identity.api.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["core.api.permissions.HasPermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["core.api.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "core.api.schema.FlorinSchema",
    "UNAUTHENTICATED_USER": None,
    # `format` belongs to our own endpoints.
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Florin API",
    "VERSION": "1.0.0",
    "DESCRIPTION": (BASE_DIR / "docs" / "api-introduction.md").read_text(encoding="utf-8"),
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": True, "docExpansion": "list", "filter": True},
    "POSTPROCESSING_HOOKS": ["core.api.schema.complete_document"],
    "SORT_OPERATIONS": False,
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    # "* `cash` - Cash" says nothing that the list of values has not said.
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}

# --- Gateways ----------------------------------------------------------------------------------
# Where Florin is reached from outside: gateways send webhooks there, and payers come back to it.
PUBLIC_URL = env.str("PUBLIC_URL", default="http://127.0.0.1:8000").rstrip("/")
# By gateway and mode. Empty: there is none.
GATEWAY_URLS: dict[tuple[str, str], str] = {
    ("sandbox", "test"): env.str("SANDBOX_URL", default=""),
    ("xendit", "test"): env.str("XENDIT_TEST_URL", default="https://api.xendit.co"),
    ("xendit", "live"): env.str("XENDIT_URL", default="https://api.xendit.co"),
    ("midtrans", "test"): env.str("MIDTRANS_TEST_URL", default="https://api.sandbox.midtrans.com"),
    ("midtrans", "live"): env.str("MIDTRANS_URL", default="https://api.midtrans.com"),
    ("midtrans-snap", "test"): env.str(
        "MIDTRANS_SNAP_TEST_URL", default="https://app.sandbox.midtrans.com"
    ),
    ("midtrans-snap", "live"): env.str("MIDTRANS_SNAP_URL", default="https://app.midtrans.com"),
}
GATEWAY_CONNECT_TIMEOUT_S = env.float("GATEWAY_CONNECT_TIMEOUT_S", default=3.0)
GATEWAY_READ_TIMEOUT_S = env.float("GATEWAY_READ_TIMEOUT_S", default=15.0)
# How many requests of a web process may wait for a gateway at once. Below its threads: what needs
# no gateway is served beside them.
GATEWAY_WAITING_MAX = env.int("GATEWAY_WAITING_MAX", default=3)
# After which a top-up that was paid but could not be credited is paid back; 0: never by itself.
TOPUP_REFUND_AFTER_DAYS = env.int("TOPUP_REFUND_AFTER_DAYS", default=7)
# Where pain.001 files are put for the bank's SFTP client to take; empty: staff download them.
PAYOUT_DROP_DIRECTORY = env.str("PAYOUT_DROP_DIRECTORY", default="")
# Largest notification that is read at all.
WEBHOOK_BODY_SIZE_MAX = env.int("WEBHOOK_BODY_SIZE_MAX", default=256 * 1024)

# --- People ------------------------------------------------------------------------------------
# "<kid>:<base64url of an Ed25519 seed, 32 bytes>": the first signs, all are taken. To rotate, put a
# new one last, everywhere; five minutes later first; take the old one out after ACCESS_TOKEN_S.
JWT_KEYS: list[str] = env.list("JWT_KEYS", default=[_INSECURE_JWT_KEY])
JWT_ISSUER = env.str("JWT_ISSUER", default="florin")
JWT_AUDIENCE = env.str("JWT_AUDIENCE", default="florin-api")
ACCESS_TOKEN_S = env.int("ACCESS_TOKEN_S", default=300)
REFRESH_TOKEN_S = env.int("REFRESH_TOKEN_S", default=7 * 24 * 3600)
# After which a person signs in again, however often the tokens were refreshed.
SESSION_S = env.int("SESSION_S", default=30 * 24 * 3600)
# Wrong attempts in SIGN_IN_WINDOW_S: of a person from one address, of one address, of a person from
# anywhere.
SIGN_IN_FAILURES_MAX = env.int("SIGN_IN_FAILURES_MAX", default=5)
SIGN_IN_FAILURES_ADDRESS_MAX = env.int("SIGN_IN_FAILURES_ADDRESS_MAX", default=50)
SIGN_IN_FAILURES_PERSON_MAX = env.int("SIGN_IN_FAILURES_PERSON_MAX", default=100)
SIGN_IN_WINDOW_S = env.int("SIGN_IN_WINDOW_S", default=900)
# Whether staff get anywhere without a one-time code. Those who have set one up always need it.
STAFF_SECOND_FACTOR_REQUIRED = env.bool("STAFF_SECOND_FACTOR_REQUIRED", default=IS_PRODUCTION)
OTP_TOTP_ISSUER = env.str("OTP_TOTP_ISSUER", default="Florin")

# --- Screens -----------------------------------------------------------------------------------
STATIC_URL = "/static/"
# Where `collectstatic` puts them for a web server of your own; left out, Florin serves them.
STATIC_ROOT = env.str("STATIC_ROOT", default=None)
STATICFILES_DIRS = [BASE_DIR / "static"]
# Served straight from the packages.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
LOGIN_URL = "admin:login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# --- Browser security --------------------------------------------------------------------------
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 8 * 3600
SESSION_COOKIE_SECURE = IS_PRODUCTION
CSRF_COOKIE_SECURE = IS_PRODUCTION
SECURE_HSTS_SECONDS = 31_536_000 if IS_PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_PRODUCTION
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=IS_PRODUCTION)
if env.bool("BEHIND_TLS_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- Logs and metrics --------------------------------------------------------------------------
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
LOG_FORMAT = env.str("LOG_FORMAT", default="json" if IS_PRODUCTION else "console")
if LOG_FORMAT not in logs.FORMATS:
    raise ImproperlyConfigured("LOG_FORMAT is either json or console.")
# One line for each HTTP request.
REQUEST_LOG = env.bool("REQUEST_LOG", default=True)
LOGGING_CONFIG = "core.logs.configure"
LOGGING = logs.logging_settings(level=LOG_LEVEL, log_format=LOG_FORMAT)
# With which Prometheus may scrape /metrics; without one, only an admin may.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
