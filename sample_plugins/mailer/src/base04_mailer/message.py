"""Making a message out of what somebody wrote."""

from __future__ import annotations

import re
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Annotated, Final

from pydantic import AfterValidator

from base04_hookspecs.errors import Fault, InvalidInput

_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@(?=.{1,253}\Z)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_LONGEST_SUBJECT: Final = 500


def check_address(text: str) -> str:
    """Return an address as it is.

    Raises:
        ValueError: it is not one plain address: a display name, a second address or a line break is none.
    """
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"{text!r} is not a plain mail address such as 'ada@example.org'")
    return text


Address = Annotated[str, AfterValidator(check_address)]


def compose(sender: str, to: str, subject: str, text: str) -> EmailMessage:
    """Return a message with all headers that it needs (RFC 5322, section 3.6).

    Raises:
        InvalidInput: the address is none, or the subject is not one printable line; with every fault.
    """
    faults = [*_address_faults(to), *_subject_faults(subject), *_text_faults(text)]
    if faults:
        raise InvalidInput("The mail cannot be sent: " + "; ".join(fault.message for fault in faults) + ".", faults)
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    message.set_content(text)
    return message


def _address_faults(to: str) -> list[Fault]:
    try:
        check_address(to)
    except ValueError as exc:
        return [Fault("/to", str(exc))]
    return []


def _subject_faults(subject: str) -> list[Fault]:
    if len(subject) > _LONGEST_SUBJECT or not subject.isprintable():
        return [Fault("/subject", f"the subject is not one printable line of at most {_LONGEST_SUBJECT} characters")]
    return []


def _text_faults(text: str) -> list[Fault]:
    try:
        text.encode()
    except UnicodeEncodeError:
        return [Fault("/text", "the text has half of a surrogate pair")]
    return [Fault("/text", "the text has a NUL character")] if "\0" in text else []
