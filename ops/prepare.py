"""Brings the database up to date and fills in the demonstration tenant, in one process.

Importing Django takes longer than the work itself; two `manage.py` commands would do it twice.
"""

import os


def main() -> None:
    """Migrate, then seed. Run by `make run`, with the servers' URLs in the environment."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    call_command("seed_demo")
    call_command("seed_demo_invoices")


if __name__ == "__main__":
    main()
