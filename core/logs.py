"""
How logs look: one line an event, as JSON or for a reader, with secrets taken out.

Lines of structlog and of the standard library (Django, Celery, Granian) leave through one handler.
docs/logging.md has the fields.
"""

import contextlib
import datetime as dt
import json
import logging
import logging.config
import sys
from collections.abc import Mapping
from typing import Any, Literal

import structlog
from structlog.dev import ConsoleRenderer
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from core.caller import current_caller
from core.redaction import hidden, is_telling, redacted, redacted_mapping

LogFormat = Literal["json", "console"]
FORMATS: tuple[LogFormat, ...] = ("json", "console")
# Texts of several lines, under the names that structlog and ConsoleRenderer know.
_BLOCKS = ("exception", "stack")

_json = json.JSONEncoder(separators=(",", ":"))
_print_exception = structlog.processors.ExceptionRenderer()


def logging_settings(*, level: str, log_format: LogFormat) -> dict[str, Any]:
    """Return Django's LOGGING. `configure` applies it."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": LineFormatter, "log_format": log_format}},
        "handlers": {"stderr": {"()": LineHandler, "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Through our handler, instead of those that they bring.
            "django": {"handlers": [], "level": "NOTSET", "propagate": True},
            "_granian": {"handlers": [], "level": "NOTSET", "propagate": True},
            # A client's mistake is the client's to read; 4xx are not our log's business.
            "django.request": {"level": "ERROR"},
            # They write addresses with the query; our line of a request has none.
            "django.server": {"handlers": [], "level": "CRITICAL", "propagate": True},
            "granian.access": {"handlers": [], "level": "CRITICAL", "propagate": True},
            # Our own lines say when a task starts and ends, with its duration.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            # A line for each call of a gateway, with its address: we count them instead.
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
        },
    }


def configure(settings: dict[str, Any]) -> None:
    """Set up logging; Django calls it (LOGGING_CONFIG), and so do Celery's processes."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(settings)


class LineFormatter(ProcessorFormatter):
    """Makes the line of a log record, whoever logged it."""

    def __init__(self, log_format: LogFormat, *, colors: bool | None = None) -> None:
        has_colors = sys.stderr.isatty() if colors is None else colors
        renderers: dict[LogFormat, list[Processor]] = {
            "json": [_as_json],
            "console": [_without_line_breaks, ConsoleRenderer(colors=has_colors, sort_keys=False)],
        }
        super().__init__(processors=[_without_secrets, *renderers[log_format]])

    def format(self, record: logging.LogRecord) -> str:
        # By name, as long as there are names: once they are in the message nobody knows.
        if record.args and not isinstance(record.msg, dict):
            record = logging.makeLogRecord(record.__dict__)
            record.args = _safe_args(record.args)
        return super().format(record)


class LineHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """To stderr; stdout belongs to what commands print."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say where a line failed. The library's own answer prints the arguments in clear."""
        fault = sys.exc_info()[1]
        where = f"{record.filename}:{record.lineno}"
        line = logging.LogRecord(
            __name__,
            logging.ERROR,
            record.pathname,
            record.lineno,
            f"a line could not be logged: {type(fault).__name__} at {where}",
            None,
            None,
        )
        # A full disk or a closed stream: there is nowhere left to say it, and no caller to blame.
        with contextlib.suppress(Exception):
            self.stream.write(self.format(line) + self.terminator)
            self.flush()


def _without_secrets(_logger: object, _method: str, fields: EventDict) -> EventDict:
    """
    Return the fields of a line, safe and in order.

    It runs on the thread that logged, so the caller is still who called.
    """
    record: logging.LogRecord = fields.pop("_record")
    del fields["_from_structlog"]
    fields = _print_exception(_logger, _method, fields)
    if "stack_info" in fields:
        fields["stack"] = fields.pop("stack_info")
    event = fields.pop("event", "")
    return {
        "timestamp": _rfc3339(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": redacted(event),
        **_who_called(),
        **redacted_mapping(fields),
    }


def _who_called() -> dict[str, str]:
    caller = current_caller()
    named = {
        "request_id": caller.request_id,
        "tenant": caller.tenant_id and str(caller.tenant_id),
        "actor": caller.actor_id,
        "address": caller.address,
    }
    return {name: value for name, value in named.items() if value}


def _rfc3339(epoch_s: float) -> str:
    moment = dt.datetime.fromtimestamp(epoch_s, dt.UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds") + "Z"


def _as_json(_logger: object, _method: str, fields: EventDict) -> str:
    return _json.encode(fields)


def _without_line_breaks(_logger: object, _method: str, fields: EventDict) -> EventDict:
    """A value can begin no line of its own, nor speak to the terminal."""
    shown = {}
    for name, value in fields.items():
        if name in _BLOCKS:
            lines = (value if isinstance(value, str) else repr(value)).split("\n")
            shown[name] = "\n".join(f"  | {_printable(line)}" for line in lines)
        else:
            shown[_printable(name)] = _printable(value) if isinstance(value, str) else value
    return shown


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _safe_args(args: Any) -> Any:
    """Return the %-arguments; numbers stay numbers, for the sake of %d."""
    if isinstance(args, Mapping):
        return {
            name: hidden(value) if is_telling(str(name)) else _safe_arg(value)
            for name, value in args.items()
        }
    return tuple(_safe_arg(value) for value in args)


def _safe_arg(value: Any) -> Any:
    return redacted(value) if isinstance(value, Mapping | list | tuple | set) else value
