"""The files of a model that are text, from its directory or by its name on the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from core.errors import SettingsError


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Reads the files of the model at `path`; what is wrong with one is one line."""

    path: str

    def find(self, name: str) -> Path:
        """Return where a file is.

        Raises:
            OSError: it cannot be fetched.
        """
        if Path(self.path).is_dir():
            return Path(self.path) / name
        return Path(hf_hub_download(self.path, name))

    def read_text(self, name: str) -> str | None:
        """Return what a file says, if there is one.

        Raises:
            SettingsError: it cannot be read.
        """
        try:
            return self.find(name).read_text(encoding="utf-8")
        except (FileNotFoundError, EntryNotFoundError):
            return None
        except UnicodeDecodeError:
            raise self.fault(name, "it is not UTF-8") from None

    def read_json(self, name: str, *, needed: bool = True) -> dict[str, Any]:
        """Return the object of a JSON file; an empty one if it need not be there and is not.

        Raises:
            SettingsError: it is missing, or no such file.
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
        """Return the error that says what is wrong with a file."""
        return SettingsError([f"MODEL_PATH: {name} of {self.path}: {what}"])
