"""Reads the text files of a model, from its directory or from the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import SettingsError


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of the model at `path`; each fault is reported in one line."""

    path: str

    def find(self, name: str) -> Path:
        """Return the path of a file, and fetch it from the hub if needed.

        Raises:
            FileNotFoundError: the hub has no such file, or cannot be reached and none is cached.
            OSError: the file cannot be fetched.
        """
        if Path(self.path).is_dir():
            return Path(self.path) / name
        # For a directory, importing the hub's library would take a tenth of each program's start.
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return Path(hf_hub_download(self.path, name))
        except EntryNotFoundError as error:
            raise FileNotFoundError(str(error)) from error

    def read_text(self, name: str) -> str | None:
        """Return the text of a file, or `None` if it does not exist.

        Raises:
            SettingsError: the file is not UTF-8.
        """
        try:
            return self.find(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise self.fault(name, "it is not UTF-8") from None

    def read_json(self, name: str, *, needed: bool = True) -> dict[str, Any]:
        """Return the object of a JSON file; an empty one for a missing file that is not `needed`.

        Raises:
            SettingsError: the file is missing, or is not a JSON object.
        """
        text = self.read_text(name)
        if text is None:
            if needed:
                raise self.fault(name, "there is no such file")
            return {}
        try:
            content = json.loads(text)
        except ValueError as error:
            raise self.fault(name, f"it is not valid JSON: {error}") from None
        if not isinstance(content, dict):
            raise self.fault(name, "it must be a JSON object")
        return content

    def fault(self, name: str, what: str) -> SettingsError:
        """Return the error for a faulty file."""
        return SettingsError([f"MODEL_PATH: {name} of {self.path}: {what}"])
