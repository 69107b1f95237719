"""Makes and parses the secrets of API keys: `bc_<public id>_<random>`; only hashes are stored.

The random part has 256 bits and cannot be guessed. So a plain SHA-256 is a sound hash, which costs
only microseconds per request.
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
    """A secret. `public_id` identifies the key; the random part authenticates it."""

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
        """The whole secret, which is shown once, when the key is made."""
        return f"bc_{self.public_id}_{self.random}"

    @property
    def digest(self) -> str:
        """The hash that the database stores."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def matches(self, digest: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.digest, digest)
