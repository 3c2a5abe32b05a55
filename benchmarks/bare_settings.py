"""Florin's settings with the bare view's addresses."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.bare_urls"
