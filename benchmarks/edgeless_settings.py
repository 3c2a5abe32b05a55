"""
Florin without its edges, to measure what they cost: no credentials, no limit, no idempotency,
nobody is named, no line in the log. The switch of part g.
"""

from config.settings import *  # noqa: F403
from config.settings import MIDDLEWARE, REST_FRAMEWORK

ROOT_URLCONF = "benchmarks.edgeless_urls"
REST_FRAMEWORK = {
    **REST_FRAMEWORK,
    "DEFAULT_AUTHENTICATION_CLASSES": ["benchmarks.edgeless.EverybodyIsTheTenant"],
}
MIDDLEWARE = [
    each
    for each in MIDDLEWARE
    if each.rpartition(".")[2] not in ("CallerMiddleware", "RateLimitHeadersMiddleware")
]
RATE_LIMIT = RATE_LIMIT_ANONYMOUS = 0
