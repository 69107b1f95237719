"""Signs webhooks by the Standard Webhooks scheme: HMAC-SHA256 over id, timestamp and body.

The secret of an API key is derived from `SECRET_KEY` and the key's id. It is not stored, and it
stays the same when the key is rotated. A new `SECRET_KEY` changes all webhook secrets.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from uuid import UUID

from core.config.settings import Settings
from core.ids import Prefix, format_id


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """The secret with which the sender signs and the receiver verifies."""

    raw: bytes = field(repr=False)

    @classmethod
    def of_key(cls, settings: Settings, key_id: UUID) -> WebhookSecret:
        purpose = f"webhook:{format_id(Prefix.KEY, key_id)}"
        secret_key = settings.secret_key.get_secret_value()
        return cls(hmac.digest(secret_key.encode(), purpose.encode(), hashlib.sha256))

    @property
    def text(self) -> str:
        """The secret in the format of the receivers' libraries."""
        return f"whsec_{base64.b64encode(self.raw).decode()}"

    def headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the headers that sign a message.

        Args:
            timestamp: Unix seconds of this attempt; receivers reject old ones.
        """
        signed = f"{message_id}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(self.raw, signed, hashlib.sha256)).decode()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": f"v1,{signature}",
        }
