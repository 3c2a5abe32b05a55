"""The admin site, under our name."""

from django.contrib.admin.apps import AdminConfig


class FlorinAdminConfig(AdminConfig):
    default_site = "core.admin.FlorinAdminSite"
