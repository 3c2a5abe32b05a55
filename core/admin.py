"""The back office's manners: look at everything, write nothing except through a service."""

from django.contrib import admin


class FlorinAdminSite(admin.AdminSite):
    site_header = "Florin"
    site_title = "Florin"
    index_title = "Back office"
