"""What is said on stderr: plain sentences for people, or one JSON object a line (CRATEDIG_LOG=json).

    {"time": "2026-01-02T03:04:05.678Z", "level": "info", "run": "...", "stage": "collect",
     "source": "shop", "message": "...", "fields": {...}, "logger": "flows.progress"}

`run`, `stage` and `source` are there where they are known: `bound` binds them to what is said while
it lasts, in threads that are started meanwhile, too. Decoding processes say nothing, on purpose:
what decoders print goes nowhere, and what is wrong with a picture comes back as its reason.

No secret is written: the values of variables that hold one are replaced, and so are keys in
addresses.
"""

from __future__ import annotations

import contextvars
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, cast

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from flows.errors import SettingsInvalid
from flows.settings import FROM_ENVIRONMENT, fetched_secrets, places

ROOMS = ("crawler", "flows", "infra", "model")

HIDDEN = "***"
"""What stands in the place of a secret."""

_SECRET_NAME = re.compile(
    r"(CRATEDIG|AWS|PREFECT|OTEL)_.*(KEY|SECRET|PASSWORD|TOKEN|WEBHOOK_URL|AUTH_STRING|HEADERS)",
    re.IGNORECASE,
)
_MIN_SECRET_CHARACTERS = 6
"""Shorter values would take words out of sentences."""
_KEYS_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@]+:[^\s/@]+(?=@)")

_log = logging.getLogger(__name__)


class LogSettings(BaseSettings):
    """How it is said."""

    model_config = FROM_ENVIRONMENT

    log: Literal["human", "json"] = "human"
    """`human`: sentences; `json`: one object a line on stderr, with the run, the stage and the source."""

    @classmethod
    def load(cls, root: Path) -> LogSettings:
        """Return the settings of the project in `root`; raises SettingsInvalid."""
        try:
            return cls(**places(root))
        except ValidationError as error:
            raise SettingsInvalid("CRATEDIG_LOG: expected human or json") from error


_bound: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("bound")
_latest: Mapping[str, str] = {}
"""What was bound last in this process: for threads, which have no context of their starter's."""
_hidden: re.Pattern[str] | None = None
_json = False


def current() -> Mapping[str, str]:
    """Return what is bound here."""
    return _bound.get(_latest)


@contextmanager
def bound(**names: str) -> Iterator[None]:
    """Have every line carry those names (`run`, `stage`, `source`); empty ones change nothing."""
    global _latest
    before = _latest
    now = {**current(), **{name: value for name, value in names.items() if value}}
    token = _bound.set(now)
    _latest = now
    try:
        yield
    finally:
        _bound.reset(token)
        _latest = before


def begin(root: Path) -> None:
    """Write logs as the project in `root` wants them, and learn its secrets. May be called again.

    Only consoles are taken over; other handlers, such as Prefect's to its server, stay.
    """
    global _json
    _learn_secrets(root)
    _json = LogSettings.load(root).log == "json"
    if not _json:
        return
    ours = _Stderr()
    ours.setFormatter(JsonFormatter())
    loggers = [each for each in logging.root.manager.loggerDict.values() if _has_console(each)]
    for logger in cast("list[logging.Logger]", [logging.root, *loggers]):
        others = [each for each in logger.handlers if not _is_console(each)]
        logger.handlers = [*others, ours]
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _log_exception


def tell(message: str, **fields: object) -> None:
    """Say something to whoever runs this: a line on stderr; `fields` are for machines alone."""
    if _json:
        _log.info("%s", message, extra={"fields": fields})
    else:
        print(redact(message), file=sys.stderr, flush=True)


def tell_failed(message: str, error: BaseException | None = None) -> None:
    """Say with what sentence a command fails."""
    if _json:
        fields = {} if error is None else {"error": type(error).__name__}
        _log.error("%s", message, extra={"fields": fields})
    else:
        print(redact(message), file=sys.stderr, flush=True)


def is_json() -> bool:
    """Say whether lines are for machines."""
    return _json


def is_secret(variable: str) -> bool:
    """Say whether a variable of that name holds a secret, not the name of a block that does."""
    return _SECRET_NAME.match(variable) is not None and not variable.upper().endswith("_BLOCK")


def redact(text: str) -> str:
    """Return `text` without the secrets that are known, and without keys in addresses."""
    if _hidden is not None:
        text = _hidden.sub(HIDDEN, text)
    for secret in fetched_secrets():
        if len(secret) >= _MIN_SECRET_CHARACTERS:
            text = text.replace(secret, HIDDEN)
    return _KEYS_IN_ADDRESS.sub(HIDDEN, text)


class JsonFormatter(logging.Formatter):
    """One JSON object a record, on one line, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        flow_run = getattr(record, "flow_run_id", "") or os.environ.get("PREFECT__FLOW_RUN_ID", "")
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            # A run that only Prefect has named goes by that name.
            "run": current().get("run", flow_run),
            "stage": current().get("stage", ""),
            "source": current().get("source", ""),
            "message": record.getMessage(),
            "fields": getattr(record, "fields", {}),
            "flow_run": flow_run,
            "task_run": getattr(record, "task_run_id", ""),
            "logger": record.name,
            "process": record.process,
            "exception": self.formatException(record.exc_info) if record.exc_info else "",
        }
        given = {name: value for name, value in said.items() if value or name == "message"}
        return json.dumps(_redacted(given), ensure_ascii=False)


def _redacted(value: object) -> object:
    """Return what JSON can hold of `value`, without secrets; before quoting, which would hide them."""
    if isinstance(value, Mapping):
        return {redact(str(name)): _redacted(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value))


class _Stderr(logging.StreamHandler[IO[str]]):
    """Writes to what `sys.stderr` is now."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _has_console(logger: logging.Logger | logging.PlaceHolder) -> bool:
    return isinstance(logger, logging.Logger) and any(map(_is_console, logger.handlers))


def _is_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (
        sys.stderr,
        sys.stdout,
        sys.__stderr__,
    )


def _log_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    said = f"{kind.__name__}: {error}"
    _log.critical("%s", said, exc_info=(kind, error, trace))


def _learn_secrets(root: Path) -> None:
    global _hidden
    found: dict[str, str | None] = dict(os.environ)
    where = places(root)
    for file in where["_env_file"]:
        found |= {f"{name}:{file}": value for name, value in dotenv_values(file).items()}
    folder = where["_secrets_dir"]
    for path in Path(folder).iterdir() if folder and Path(folder).is_dir() else ():
        if path.is_file() and is_secret(path.name):
            found[f"{path.name}:{path}"] = path.read_text(errors="replace").strip()
    secrets = {
        value
        for name, value in found.items()
        if value and len(value) >= _MIN_SECRET_CHARACTERS and is_secret(name)
    }
    # The longest first: one may be a part of another.
    spelled = sorted(map(re.escape, secrets), key=len, reverse=True)
    _hidden = re.compile("|".join(spelled)) if spelled else None
