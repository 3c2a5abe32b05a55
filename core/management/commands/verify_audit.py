"""`manage.py verify_audit`: is every audit record and transaction as sealed? See docs/audit.md."""

import json
import re
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.utils import timezone

from core.models import AuditBlock
from core.sealing import streams
from core.verifying import Head, blocks_checked, fault_of_unsealed

_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


class Command(BaseCommand):
    help = "Check the audit chain; exit 1 with the first row that was altered, removed or put in."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--expect",
            metavar="NUMBER:HASH",
            action="append",
            default=[],
            help="a block as it was noted outside the database; may be given again",
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        expected = [_head(text) for text in options["expect"]]
        began = time.monotonic()
        with connection.cursor() as cursor:
            # It reads all there is, and nobody waits for it.
            cursor.execute("SET statement_timeout = 0")
        blocks = rows = 0
        fault: str | None = None
        head: AuditBlock | None = None
        for progress in blocks_checked(expected):
            fault, head = progress.fault, progress.block
            if fault is None:
                blocks += 1
                rows += len(head.row_ids)
                self._show_progress(blocks, rows)
        for stream in streams().values():
            fault = fault or fault_of_unsealed(stream, now=timezone.now())
        report = {
            "ok": fault is None,
            "blocks": blocks,
            "rows": rows,
            "head": f"{head.number}:{bytes(head.hash).hex()}" if head else None,
            "fault": fault,
            "seconds": round(time.monotonic() - began, 3),
        }
        if sys.stderr.isatty():
            self.stderr.write("\r" + " " * 60, ending="\r")
        if options["json"]:
            self.stdout.write(json.dumps(report, indent=2))
        else:
            self.stdout.write(
                f"Checked {blocks:,} blocks with {rows:,} rows in {report['seconds']:.1f} s:"
                f" {fault or 'as they were sealed'}."
            )
            if fault is None and head is not None:
                self.stdout.write(f"Head, to be noted elsewhere: {report['head']}")
        if fault is not None:
            raise CommandError(fault, returncode=1)

    def _show_progress(self, blocks: int, rows: int) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"\r{blocks:>9,} blocks {rows:>15,} rows".ljust(60), ending="")


def _head(text: str) -> Head:
    match = _HEAD.fullmatch(text)
    if match is None:
        raise CommandError(f"{text} is not a block's number and hash, such as 12:9f86d0...")
    return Head(int(match[1]), bytes.fromhex(match[2]))
