"""What the audit trail says, as sentences that people read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from markupsafe import Markup

from admin_ui.activity.values import (
    changes_in,
    is_change,
    label_of,
    of_what,
    only_change,
    quoted,
    strong,
    value_text,
)
from admin_ui.widgets.formats import breakable, duration, number
from core.ids import Prefix, show_id
from models.accounts.audit import target_kind
from models.accounts.names import KeyName, key_names, user_emails
from models.database.base import Session
from models.pages.activity import Activity

#: Groups of actions as people ask for them: how their names begin, and what they are called.
GROUPS = {
    "auth.": "Failed sign-ins",
    "key.": "API keys",
    "user.": "Users and passwords",
    "webhook.": "Webhooks",
    "job.": "Jobs of others",
    "batch.": "Batches of others",
    "file.": "Files of others",
}
FAILED_SIGN_IN = "auth.login_failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry as a page shows it.

    Attributes:
        target: its id as the API writes it.
        changes: of each field that changed its name, what it was and what it is.
        details: what else is known, by the API's names.
    """

    id: str
    at: datetime
    sentence: Markup
    is_failed_sign_in: bool
    action: str
    actor: str | None
    target: str | None
    address: str
    changes: Sequence[tuple[str, str, str]]
    details: Sequence[tuple[str, str]]


def describe(session: Session, activities: Sequence[Activity]) -> list[Event]:
    """Return entries with their sentences; the names in them are looked up together."""
    names = _Names.of(session, activities)
    return [_event(activity, names) for activity in activities]


@dataclass(frozen=True, slots=True)
class _Names:
    keys: Mapping[UUID, KeyName]
    users: Mapping[UUID, str]

    @classmethod
    def of(cls, session: Session, activities: Iterable[Activity]) -> _Names:
        ids: dict[Prefix, set[UUID]] = {kind: set() for kind in Prefix}
        for activity in activities:
            if activity.entry.target_id is not None:
                ids[target_kind(activity.entry.action)].add(activity.entry.target_id)
        return cls(key_names(session, ids[Prefix.KEY]), user_emails(session, ids[Prefix.USER]))


@dataclass(frozen=True, slots=True)
class _Telling:
    """What a sentence is made of."""

    activity: Activity
    names: _Names

    @property
    def details(self) -> Mapping[str, Any]:
        return self.activity.entry.details

    @property
    def target_id(self) -> UUID | None:
        return self.activity.entry.target_id

    @property
    def is_own(self) -> bool:
        return self.target_id is not None and self.target_id == self.activity.entry.actor_id

    @property
    def actor(self) -> Markup:
        email = self.activity.actor_email
        return strong(breakable(email)) if email else Markup("Somebody")

    @property
    def key(self) -> Markup:
        """The key, and whose it is if it is not the actor's own."""
        known = self.names.keys.get(self.target_id) if self.target_id else None
        name = known.name if known else self._text("name")
        shown = Markup("the API key {}").format(quoted(name))
        if known and known.owner_id != self.activity.entry.actor_id:
            return shown + Markup(" of {}").format(breakable(known.owner_email))
        return shown

    @property
    def account(self) -> Markup:
        if self.is_own:
            return Markup("their own account")
        email = (self.names.users.get(self.target_id) if self.target_id else None) or self._text(
            "email"
        )
        return Markup("the account {}").format(strong(breakable(email)) if email else "of a user")

    def _text(self, name: str) -> str:
        value = self.details.get(name, "")
        return value if isinstance(value, str) else ""


def _made_key(told: _Telling) -> Markup:
    return Markup("{} made {}").format(told.actor, told.key)


def _changed_key(told: _Telling) -> Markup:
    changes = changes_in(told.details)
    match only_change(told.details, "isActive"):
        case {"to": bool(is_on)}:
            verb = "switched on" if is_on else "switched off"
            return Markup("{} {} {}").format(told.actor, verb, told.key) + _ended(told)
    return Markup("{} changed {}").format(told.actor, of_what(changes, told.key))


def _rotated_key(told: _Telling) -> Markup:
    grace = told.details.get("graceSeconds")
    rest = ""
    if isinstance(grace, int):
        kept = f"the old one works for {duration(grace * 1000)} longer"
        rest = f"; {kept if grace else 'the old one ended at once'}"
    return Markup("{} gave {} a new secret{}").format(told.actor, told.key, rest)


def _deleted_key(told: _Telling) -> Markup:
    return Markup("{} revoked {}").format(told.actor, told.key) + _ended(told)


def _made_user(told: _Telling) -> Markup:
    role = "an admin" if told.details.get("role") == "admin" else "a customer"
    return Markup("{} made {}, {}").format(told.actor, told.account, role)


def _registered(told: _Telling) -> Markup:
    return Markup("{} registered").format(told.actor)


def _changed_user(told: _Telling) -> Markup:
    changes = list(changes_in(told.details))
    match only_change(told.details, "isActive"):
        case {"to": True}:
            return Markup("{} let {} in again").format(told.actor, told.account)
        case {"to": False}:
            return Markup("{} suspended {}").format(told.actor, told.account) + _ended(told)
    if "password" not in told.details:
        return Markup("{} changed {}").format(told.actor, of_what(changes, told.account))
    if not changes:
        return Markup("{} set a new password for {}").format(told.actor, told.account)
    sentence = Markup("{} set a new password and changed {}")
    return sentence.format(told.actor, of_what(changes, told.account))


def _changed_password(told: _Telling) -> Markup:
    return Markup("{} changed their own password").format(told.actor)


def _deleted_user(told: _Telling) -> Markup:
    keys = told.details.get("keys")
    sentence = Markup("{} deleted {}").format(told.actor, told.account)
    if isinstance(keys, int) and keys:
        sentence += " and its API key" if keys == 1 else f" and its {number(keys)} API keys"
    return sentence + _ended(told)


def _ended(told: _Telling) -> str:
    """Say how many jobs that cancelled, if any."""
    jobs = told.details.get("jobs")
    if not isinstance(jobs, int) or not jobs:
        return ""
    return "; a job was cancelled" if jobs == 1 else f"; {number(jobs)} jobs were cancelled"


def _failed_sign_in(told: _Telling) -> Markup:
    email = told.names.users.get(told.target_id) if told.target_id else None
    if email is None:
        return Markup("Somebody tried to sign in with an email that no account has")
    return Markup("Somebody failed to sign in as {}").format(strong(breakable(email)))


def _reused_refresh_token(told: _Telling) -> Markup:
    email = told.names.users.get(told.target_id) if told.target_id else None
    who = strong(breakable(email)) if email else Markup("somebody")
    return Markup("A refresh token of {} was used twice, which ended its session").format(who)


def _resent_webhook(told: _Telling) -> Markup:
    message = show_id(Prefix.WEBHOOK, told.target_id) if told.target_id else ""
    return Markup("{} sent the webhook message <code>{}</code> again").format(told.actor, message)


def _act_on_others(verb: str, kind: Prefix) -> Callable[[_Telling], Markup]:
    def tell(told: _Telling) -> Markup:
        shown = show_id(kind, told.target_id) if told.target_id else ""
        sentence = Markup("{} {} <code>{}</code> of another user")
        return sentence.format(told.actor, verb, shown)

    return tell


def _something(told: _Telling) -> Markup:
    return Markup("{} did <code>{}</code>").format(told.actor, told.activity.entry.action)


SENTENCES: dict[str, Callable[[_Telling], Markup]] = {
    FAILED_SIGN_IN: _failed_sign_in,
    "auth.refresh_reused": _reused_refresh_token,
    "key.create": _made_key,
    "key.update": _changed_key,
    "key.rotate": _rotated_key,
    "key.delete": _deleted_key,
    "user.create": _made_user,
    "user.register": _registered,
    "user.update": _changed_user,
    "user.change_password": _changed_password,
    "user.delete": _deleted_user,
    "webhook.resend": _resent_webhook,
    "job.cancel": _act_on_others("cancelled the job", Prefix.JOB),
    "batch.cancel": _act_on_others("cancelled the batch", Prefix.BATCH),
    "file.delete": _act_on_others("deleted the file", Prefix.FILE),
}


def _event(activity: Activity, names: _Names) -> Event:
    entry = activity.entry
    told = _Telling(activity, names)
    kind = target_kind(entry.action)
    return Event(
        id=show_id(Prefix.AUDIT, entry.id),
        at=entry.at,
        sentence=SENTENCES.get(entry.action, _something)(told),
        is_failed_sign_in=entry.action == FAILED_SIGN_IN,
        action=entry.action,
        actor=show_id(Prefix.USER, entry.actor_id) if entry.actor_id else None,
        target=show_id(kind, entry.target_id) if entry.target_id else None,
        address=entry.address,
        changes=changes_in(entry.details),
        details=[
            (label_of(name), value_text(name, value))
            for name, value in entry.details.items()
            if not is_change(value)
        ],
    )
