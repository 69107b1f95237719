"""The secret of an API key: `bc_<public id>_<random>`. Only its hash is ever stored.

The random part has 256 bits, so a plain SHA-256 is a sound hash for it: there is nothing to guess,
and checking it costs microseconds on every request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

_PATTERN = re.compile(r"bc_([0-9a-z]{12})_([0-9A-Za-z_-]{43})")
_PUBLIC_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"  # pragma: allowlist secret


@dataclass(frozen=True, slots=True)
class KeySecret:
    """A secret that was made or presented. `public_id` finds its key; the rest proves it."""

    public_id: str
    random: str = field(repr=False)

    @classmethod
    def generate(cls) -> KeySecret:
        public_id = "".join(secrets.choice(_PUBLIC_ALPHABET) for _ in range(12))
        return cls(public_id=public_id, random=secrets.token_urlsafe(32))

    @classmethod
    def renewed(cls, public_id: str) -> KeySecret:
        """Return a new secret for a key that keeps its public id."""
        return cls(public_id=public_id, random=secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> KeySecret | None:
        """Return the secret in `text`, or `None` if it does not have the form of one."""
        match = _PATTERN.fullmatch(text)
        return cls(match[1], match[2]) if match else None

    @property
    def text(self) -> str:
        """The whole secret: shown once, when the key is made."""
        return f"bc_{self.public_id}_{self.random}"

    @property
    def digest(self) -> str:
        """What the database keeps."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def matches(self, digest: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.digest, digest)
