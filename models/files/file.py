"""Files that customers upload for batches.

They are stored in pieces, so that no program reads a whole file at once.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, func
from sqlalchemy.orm import Mapped, mapped_column

from core.ids import new_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.database.base import Base


class File(Base):
    """One uploaded file.

    Attributes:
        expires_at: when the file expires; batches that were created from it no longer need it.
    """

    __tablename__ = "files"
    __table_args__ = (
        Index("ix_files_user_id_id", "user_id", "id"),
        Index("ix_files_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    api_key_id: Mapped[UUID] = mapped_column(ForeignKey(ApiKey.id))
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=func.now())
    expires_at: Mapped[datetime]


class FilePiece(Base):
    """A part of a file; `place` gives the order."""

    __tablename__ = "file_pieces"

    file_id: Mapped[UUID] = mapped_column(ForeignKey(File.id, ondelete="CASCADE"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)
