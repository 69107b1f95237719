"""Turns entries of the audit trail into sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from markupsafe import Markup

from admin_ui.activity.values import (
    changed_fields,
    changes_in,
    is_change,
    label_of,
    only_change,
    quoted,
    strong,
    value_text,
)
from admin_ui.widgets.formats import breakable, duration, number
from core.ids import Prefix, format_id
from models.accounts.audit import target_kind
from models.accounts.names import KeyName, key_names, user_emails
from models.database.base import Session
from models.pages.activity import Activity

#: Prefix of the actions of each group, and its label in the filter.
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
class DescribedActivity:
    """An entry of the audit trail, in words.

    Attributes:
        actor: id, as the API writes it.
        target: id, as the API writes it.
        changes: label, old value and new value of each changed field.
        details: label and value of the other fields.
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


def describe(session: Session, activities: Sequence[Activity]) -> list[DescribedActivity]:
    """Return the entries in words; two queries look up the names of all entries."""
    names = _Names.of(session, activities)
    return [_described(activity, names) for activity in activities]


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
class _Context:
    """An entry, and the names that its sentence needs."""

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
        """The key, with its owner unless the actor owns it."""
        known = self.names.keys.get(self.target_id) if self.target_id else None
        name = known.name if known else self._text("name")
        text = Markup("the API key {}").format(quoted(name))
        if known and known.owner_id != self.activity.entry.actor_id:
            return text + Markup(" of {}").format(breakable(known.owner_email))
        return text

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


def _created_key(context: _Context) -> Markup:
    return Markup("{} created {}").format(context.actor, context.key)


def _changed_key(context: _Context) -> Markup:
    changes = changes_in(context.details)
    match only_change(context.details, "isActive"):
        case {"to": bool(is_on)}:
            verb = "activated" if is_on else "deactivated"
            return Markup("{} {} {}").format(context.actor, verb, context.key) + _cancelled_jobs(
                context
            )
    return Markup("{} changed {}").format(context.actor, changed_fields(changes, context.key))


def _rotated_key(context: _Context) -> Markup:
    grace = context.details.get("graceSeconds")
    rest = ""
    if isinstance(grace, int):
        until = f"works for {duration(grace * 1000)} longer" if grace else "ended at once"
        rest = f"; the old one {until}"
    return Markup("{} gave {} a new secret{}").format(context.actor, context.key, rest)


def _deleted_key(context: _Context) -> Markup:
    return Markup("{} revoked {}").format(context.actor, context.key) + _cancelled_jobs(context)


def _created_user(context: _Context) -> Markup:
    role = "an admin" if context.details.get("role") == "admin" else "a customer"
    return Markup("{} created {}, {}").format(context.actor, context.account, role)


def _registered(context: _Context) -> Markup:
    return Markup("{} registered").format(context.actor)


def _changed_user(context: _Context) -> Markup:
    changes = list(changes_in(context.details))
    match only_change(context.details, "isActive"):
        case {"to": True}:
            return Markup("{} reactivated {}").format(context.actor, context.account)
        case {"to": False}:
            return Markup("{} suspended {}").format(
                context.actor, context.account
            ) + _cancelled_jobs(context)
    if "password" not in context.details:
        return Markup("{} changed {}").format(
            context.actor, changed_fields(changes, context.account)
        )
    if not changes:
        return Markup("{} set a new password for {}").format(context.actor, context.account)
    sentence = Markup("{} set a new password and changed {}")
    return sentence.format(context.actor, changed_fields(changes, context.account))


def _changed_password(context: _Context) -> Markup:
    return Markup("{} changed their own password").format(context.actor)


def _deleted_user(context: _Context) -> Markup:
    keys = context.details.get("keys")
    sentence = Markup("{} deleted {}").format(context.actor, context.account)
    if isinstance(keys, int) and keys:
        sentence += " and its API key" if keys == 1 else f" and its {number(keys)} API keys"
    return sentence + _cancelled_jobs(context)


def _cancelled_jobs(context: _Context) -> str:
    """Return how many jobs the action cancelled, or an empty text for none."""
    jobs = context.details.get("jobs")
    if not isinstance(jobs, int) or not jobs:
        return ""
    return "; a job was cancelled" if jobs == 1 else f"; {number(jobs)} jobs were cancelled"


def _failed_sign_in(context: _Context) -> Markup:
    email = context.names.users.get(context.target_id) if context.target_id else None
    if email is None:
        return Markup("Somebody tried to sign in with an email that no account has")
    return Markup("Somebody failed to sign in as {}").format(strong(breakable(email)))


def _reused_refresh_token(context: _Context) -> Markup:
    email = context.names.users.get(context.target_id) if context.target_id else None
    who = strong(breakable(email)) if email else Markup("somebody")
    return Markup("A refresh token of {} was used twice, which ended its session").format(who)


def _resent_webhook(context: _Context) -> Markup:
    message = format_id(Prefix.WEBHOOK, context.target_id) if context.target_id else ""
    return Markup("{} sent the webhook message <code>{}</code> again").format(
        context.actor, message
    )


def _action_on_others(verb: str, kind: Prefix) -> Callable[[_Context], Markup]:
    def sentence(context: _Context) -> Markup:
        target = format_id(kind, context.target_id) if context.target_id else ""
        text = Markup("{} {} <code>{}</code> of another user")
        return text.format(context.actor, verb, target)

    return sentence


def _unknown_action(context: _Context) -> Markup:
    return Markup("{} did <code>{}</code>").format(context.actor, context.activity.entry.action)


SENTENCES: dict[str, Callable[[_Context], Markup]] = {
    FAILED_SIGN_IN: _failed_sign_in,
    "auth.refresh_reused": _reused_refresh_token,
    "key.create": _created_key,
    "key.update": _changed_key,
    "key.rotate": _rotated_key,
    "key.delete": _deleted_key,
    "user.create": _created_user,
    "user.register": _registered,
    "user.update": _changed_user,
    "user.change_password": _changed_password,
    "user.delete": _deleted_user,
    "webhook.resend": _resent_webhook,
    "job.cancel": _action_on_others("cancelled the job", Prefix.JOB),
    "batch.cancel": _action_on_others("cancelled the batch", Prefix.BATCH),
    "file.delete": _action_on_others("deleted the file", Prefix.FILE),
}


def _described(activity: Activity, names: _Names) -> DescribedActivity:
    entry = activity.entry
    context = _Context(activity, names)
    kind = target_kind(entry.action)
    return DescribedActivity(
        id=format_id(Prefix.AUDIT, entry.id),
        at=entry.at,
        sentence=SENTENCES.get(entry.action, _unknown_action)(context),
        is_failed_sign_in=entry.action == FAILED_SIGN_IN,
        action=entry.action,
        actor=format_id(Prefix.USER, entry.actor_id) if entry.actor_id else None,
        target=format_id(kind, entry.target_id) if entry.target_id else None,
        address=entry.address,
        changes=changes_in(entry.details),
        details=[
            (label_of(name), value_text(name, value))
            for name, value in entry.details.items()
            if not is_change(value)
        ],
    )
