"""All settings, read from the environment.

Each variable is documented in `.env.example`. A secret can also come from a file: `NAME_FILE` is
the path of a file that contains the value of `NAME`. `DATABASE_URL` and `REDIS_URL` default to
the embedded engines that `manage.py up` started for the same `DATA_DIR`.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import environ
import structlog
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _
from whitenoise.compress import Compressor

from config import engines

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.FileAwareEnv()
environ.Env.read_env(BASE_DIR / ".env")

# --- paths and addresses ------------------------------------------------------------------------

DATA_DIR = Path(env.path("DATA_DIR", default=str(BASE_DIR / ".data")).root)
HOST = env.str("HOST", default="127.0.0.1")
PORT = env.int("PORT", default=8000)
# The base URL at which providers and browsers reach this installation; webhook URLs use it.
PUBLIC_URL = env.str("PUBLIC_URL", default=f"http://127.0.0.1:{PORT}").rstrip("/")

# --- security -----------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
INSECURE_SECRET_KEY = "insecure-key-for-development-and-tests-only"  # noqa: S105
# `manage.py up` writes its own keys to DATA_DIR; other deployments must set them explicitly.
_own_secrets = engines.read_secrets(DATA_DIR)
SECRET_KEY = env.str("SECRET_KEY", default=_own_secrets.get("SECRET_KEY", INSECURE_SECRET_KEY))
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
# Fernet keys, newest first; the first encrypts, all decrypt (see `manage.py rotate_encryption`).
ENCRYPTION_KEYS = env.list(
    "ENCRYPTION_KEYS", default=[key for key in [_own_secrets.get("ENCRYPTION_KEY")] if key]
)
# The private key by which browsers' push services know this installation (base64url, 32 bytes);
# without it there are no notifications while no page is open. A new key ends all subscriptions.
VAPID_PRIVATE_KEY = env.str("VAPID_PRIVATE_KEY", default=_own_secrets.get("VAPID_PRIVATE_KEY", ""))
# The schemes of push services. Only tests, whose service is local, add another one.
PUSH_SCHEMES = ("https",)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list(
    "CSRF_TRUSTED_ORIGINS", default=[PUBLIC_URL] if PUBLIC_URL.startswith("https://") else []
)
# True behind a proxy that terminates TLS and sets X-Forwarded-Proto.
BEHIND_TLS_PROXY = env.bool("BEHIND_TLS_PROXY", default=PUBLIC_URL.startswith("https://"))
if BEHIND_TLS_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=3600)
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "media-src": [SELF, "blob:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# --- applications -------------------------------------------------------------------------------

INSTALLED_APPS = [
    "config.apps.ConfigConfig",
    # Only `runserver` needs Daphne, and loading it costs each process a third of a second.
    *(["daphne"] if "runserver" in sys.argv else []),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "axes",
    "csp",
    "django_filters",
    "django_htmx",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "procrastinate.contrib.django",
    "rest_framework",
    "accounts.apps.AccountsConfig",
    "channels_app.apps.ChannelsAppConfig",
    "messaging.apps.MessagingConfig",
    "instances.apps.InstancesConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "config.middleware.LanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
    # Last, because it is synchronous only: all middleware above then runs in the view's thread,
    # without a thread switch for each.
    "config.middleware.DatabaseDownMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"

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
                "django.template.context_processors.i18n",
            ],
        },
    },
]

# --- engines ------------------------------------------------------------------------------------

_embedded = engines.addresses(DATA_DIR)
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=_embedded.database_url)
}
# Under ASGI a persistent connection belongs to a thread and is never released; a pool is shared.
DATABASES["default"]["OPTIONS"] = {
    # A server that vanished without a word is noticed after some 20 s, even during a query.
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    **DATABASES["default"].get("OPTIONS", {}),
    "pool": {"min_size": 1, "max_size": env.int("DATABASE_POOL_SIZE", default=10), "timeout": 5},
}
# Detect pooled connections that a PostgreSQL restart broke before they are used.
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
REDIS_URL = env.str("REDIS_URL", default=_embedded.redis_url)
# With a timeout, redis-py sends within `asyncio.wait_for`, which can lose a cancellation before
# Python 3.12: the reader task of a closed page would then never end.
_valkey_seconds = 30 if sys.version_info >= (3, 12) else None
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [
                {
                    "address": REDIS_URL,
                    "socket_connect_timeout": 2,
                    "socket_timeout": _valkey_seconds,
                }
            ],
            "prefix": env.str("CHANNEL_LAYER_PREFIX", default="alterna"),
            "capacity": 1000,
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- users --------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "messaging:dashboard"
LOGOUT_REDIRECT_URL = "accounts:login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AXES_FAILURE_LIMIT = env.int("LOGIN_FAILURE_LIMIT", default=8)
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False

LANGUAGE_CODE = "pt-br"
LANGUAGES = [("pt-br", _("Portuguese")), ("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = env.str("TIME_ZONE", default="America/Sao_Paulo")
USE_I18N = True
USE_TZ = True

# --- static files -------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = Path(env.path("STATIC_ROOT", default=str(DATA_DIR / "static")).root)
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "core.static_files.StaticFilesStorage"},
}
# Pages use hashed names only; collecting the unhashed copies took half of the time.
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
# Source maps are large, and only developer tools request them.
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = [*Compressor.SKIP_COMPRESS_EXTENSIONS, "map"]
MEDIA_ROOT = Path(env.path("MEDIA_ROOT", default=str(DATA_DIR / "media")).root)

# --- REST API -----------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.StaffWithModelPermissions"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.api.JSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "config.api.exception_handler",
}
REST_KNOX = {
    "TOKEN_TTL": None,
    "TOKEN_MODEL": "accounts.ApiToken",
    "TOKEN_PREFIX": "alt_",
}
KNOX_TOKEN_MODEL = "accounts.ApiToken"  # noqa: S105
# knox's own migrations would create the table of the model that ours replaces.
MIGRATION_MODULES = {"knox": None}
SPECTACULAR_SETTINGS = {
    "TITLE": "Alterna",
    "DESCRIPTION": "WhatsApp messages by the official Cloud API, with a fallback when it refuses.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["accounts.permissions.StaffOnly"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "WwebjsStateEnum": "channels_app.providers.sessions.STATE_CHOICES",
        "ConversationStatusEnum": "messaging.models.Conversation.Status",
        "MessageRouteEnum": "channels_app.providers.engines.ENGINES",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.schema.document_errors",
    ],
}

# --- webhooks and workers -----------------------------------------------------------------------

# Meta sends up to 3 MB; Django's default is 2.5 MB (docs/providers/cloud.md §3.3).
DATA_UPLOAD_MAX_MEMORY_SIZE = 3 * 1024 * 1024
WORKER_CONCURRENCY = env.int("WORKER_CONCURRENCY", default=8)
# Seconds. A worker without a heartbeat for STALLED is considered dead and its jobs are requeued;
# an attempt that it had started gets an unknown outcome.
WORKER_HEARTBEAT_SECONDS = env.float("WORKER_HEARTBEAT_SECONDS", default=5)
WORKER_STALLED_SECONDS = env.float("WORKER_STALLED_SECONDS", default=15)
# The supervisor also reads it (config/up/supervisor.py).
WORKER_SHUTDOWN_SECONDS = env.float("WORKER_SHUTDOWN_SECONDS", default=60)
# Directory of the workers' and listeners' heartbeat files, which `manage.py alive` checks.
SIGNS_DIR = Path(env.path("SIGNS_DIR", default=str(DATA_DIR / "signs")).root)
INBOUND_RETENTION_DAYS = env.int("INBOUND_RETENTION_DAYS", default=30)
# Seconds between two backfills of an Evolution instance's newest messages; 0 disables them.
EVOLUTION_BACKFILL_SECONDS = env.float("EVOLUTION_BACKFILL_SECONDS", default=300)
# Which side wins when Evolution's receive mode differs from ours: "database", "evolution" or
# "ask" (a person decides).
EVOLUTION_DRIFT_REPAIR = env.str("EVOLUTION_DRIFT_REPAIR", default="database")
if EVOLUTION_DRIFT_REPAIR not in ("database", "evolution", "ask"):
    raise ImproperlyConfigured("EVOLUTION_DRIFT_REPAIR is database, evolution or ask.")

# --- alerts -------------------------------------------------------------------------------------

# Recipients of incident alerts, besides the pages: channels_app/incidents/incidents.py.
ALERT_EMAILS = env.list("ALERT_EMAILS", default=[])
ALERT_WEBHOOK_URL = env.str("ALERT_WEBHOOK_URL", default="")
# Seconds during which a connection may recover automatically before an alert is sent.
ALERT_AFTER_SECONDS = env.float("ALERT_AFTER_SECONDS", default=30)
_email: dict[str, Any] = env.email_url("EMAIL_URL", default="smtp://localhost:25")
EMAIL_BACKEND = _email["EMAIL_BACKEND"]
EMAIL_HOST = _email["EMAIL_HOST"] or ""
EMAIL_PORT = _email["EMAIL_PORT"] or 25
EMAIL_HOST_USER = _email["EMAIL_HOST_USER"] or ""
EMAIL_HOST_PASSWORD = _email["EMAIL_HOST_PASSWORD"] or ""
EMAIL_USE_TLS = _email.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = _email.get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="alterna@localhost")

# --- logs ---------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOG_FORMAT = env.str("LOG_FORMAT", default="console")  # or "json"

_shared_processors: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
]
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *_shared_processors,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "structured": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": _shared_processors,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer()
                if LOG_FORMAT == "json"
                else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
            ],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "procrastinate": {"level": "WARNING"},
        "psycopg.pool": {"level": "ERROR"},  # callers report a missing connection
        "axes": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
        "asyncio": {"level": "WARNING"},
    },
}
logging.captureWarnings(True)
# ASGI reads WhiteNoise's responses into memory. Our static files are small; the large message
# files are streamed asynchronously.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators")
