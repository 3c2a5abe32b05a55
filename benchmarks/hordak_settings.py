"""Settings for django-hordak, in a database of its own."""

import environ

env = environ.Env()
SECRET_KEY = "bench"  # noqa: S105
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "mptt",
    "hordak",
]
DATABASES = {"default": env.db_url("HORDAK_DATABASE_URL")}
DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 20}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
CURRENCIES = ["USD"]
DEFAULT_CURRENCY = "USD"
HORDAK_DECIMAL_PLACES = 2
