"""Failures in the log: what and where, without what clients wrote."""

from __future__ import annotations

import logging
import traceback


def log_failure(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Log an error's type and where it was raised; not its message, which may hold a text or an id."""
    frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    logger.error("%s: %s\n%s", what, type(error).__name__, frames)
