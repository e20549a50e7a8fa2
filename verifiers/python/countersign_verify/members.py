"""What the members of a receipt and of a bundle must be (docs/contracts/receipt.md), before anything is computed."""

from __future__ import annotations

import re
from typing import Optional

from .keys import from_base64url

MINOR_MAX = 2**63 - 1


class Failed(Exception):
    """A check that failed: the verdict, the check's name, and a sentence for people."""

    def __init__(self, verdict: str, check: str, detail: str):
        super().__init__(detail)
        self.verdict = verdict
        self.check = check
        self.detail = detail


def text(pattern: str):
    compiled = re.compile(pattern, re.ASCII)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def exactly(wanted):
    return lambda value: type(value) is type(wanted) and value == wanted


def or_null(check):
    return lambda value: value is None or check(value)


def whole_number(least: int):
    return lambda value: type(value) is int and value >= least


def is_minor(value) -> bool:
    return text(r"0|[1-9][0-9]{0,18}")(value) and int(value) <= MINOR_MAX


def is_time(value) -> bool:
    return unix_ms(value) is not None


any_text = text(r"(?s:.*)")
digest = text(r"sha256:[0-9a-f]{64}")
exchange_id = text(r"ex_[0-9a-hjkmnp-tv-z]{26}")
tenant = text(r"[a-z0-9][a-z0-9-]{0,62}")
trace_id = text(r"[A-Za-z0-9._:-]{1,128}")

TYPE = {"payload": any_text, "target": any_text}
POLICY = {"allowed": exactly(True), "reason": any_text, "host": or_null(any_text)}
USAGE = {"vex": exactly(1), "fu": whole_number(0)}
AMOUNT = {"currency": text(r"[A-Z]{3}"), "minor": is_minor, "payee": text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")}
RECEIPT = {
    "v": exactly(1),
    "tenant": tenant,
    "exchange_id": exchange_id,
    "trace_id": trace_id,
    "chain": exchange_id,
    "hop": whole_number(1),
    "ts": is_time,
    "type": TYPE,
    "request_cid": digest,
    "cid": digest,
    "canon": exactly("RFC8785"),
    "algo": exactly("sha256"),
    "policy": POLICY,
    "usage": USAGE,
    "amount": AMOUNT,
    "prev_receipt_hash": or_null(digest),
    "receipt_hash": digest,
    "jws": any_text,
}
BUNDLE = {
    "v": exactly(1),
    "tenant": tenant,
    "trace_id": trace_id,
    "chain": exchange_id,
    "exported_at": is_time,
    "receipts": lambda value: isinstance(value, list) and len(value) > 0,
    "keys": lambda value: isinstance(value, list),
    "bundle_cid": digest,
    "jws": any_text,
}
NULLABLE = ("amount",)


def check_members(what: str, value, members: dict) -> None:
    """Shape before values: the outer names and those inside, unknown ones before missing ones, and only then what stands there."""
    _check_names(what, value, members)
    _check_values(what, value, members)


def _check_names(what: str, value, members: dict) -> None:
    if not isinstance(value, dict):
        raise Failed("malformed", "members", f"{what} is not an object")
    for name in value:
        if name not in members:
            raise Failed("unknown_member", "members", f"{what} has a member {name!r} that version 1 does not have")
    for name in members:
        if name not in value:
            raise Failed("missing_member", "members", f"{what} lacks the member {name}")
    for name, check in members.items():
        if isinstance(check, dict) and not _is_allowed_null(name, value):
            _check_names(name, value[name], check)


def _check_values(what: str, value: dict, members: dict) -> None:
    for name, check in members.items():
        if _is_allowed_null(name, value):
            continue
        if isinstance(check, dict):
            _check_values(name, value[name], check)
        elif not check(value[name]):
            raise Failed("malformed", "members", f"{name} of {what} is not what version 1 has there")


def _is_allowed_null(name: str, value: dict) -> bool:
    return name in NULLABLE and value[name] is None


TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{3})Z")
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def unix_ms(value) -> Optional[int]:
    """Milliseconds since 1970 of `2026-11-21T10:00:00.123Z`, or None if it is not that form or no time. There is no second 60."""
    form = TIME.fullmatch(value) if isinstance(value, str) else None
    if form is None:
        return None
    year, month, day, hour, minute, second, milli = map(int, form.groups())
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= MONTH_DAYS[month - 1] + (leap and month == 2):
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    # Days by counting years from March, so that the leap day is a year's last.
    years = year - (month <= 2)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = 365 * years + years // 4 - years // 100 + years // 400 + day_of_year - 719468
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + milli


def split_jws(token: str, typ: str):
    """The header part, the kid and the signature part of a detached JWS. The header must be, byte for byte, the contract's."""
    header_part, dots, signature_part = token.partition("..")
    header = from_base64url(header_part) if dots else None
    form = re.fullmatch(rb'\{"alg":"EdDSA","kid":"([A-Za-z0-9_-]{43})","typ":"' + re.escape(typ.encode()) + rb'"\}', header or b"")
    if form is None:
        raise Failed("malformed", "members", "the jws is not detached, or its header is not the one that version 1 has")
    return header_part, form.group(1).decode(), signature_part
