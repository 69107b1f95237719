"""Counts the words of the old dialect: `python -m tests.tools.dialect [--list]`.

`docs/glossary.md` has the words to use instead. Names of files, modules, functions, classes and
variables must have none; prose may keep one where plain English wants it ("a line of a file").
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

#: Parts of names, each a whole word between underscores or capitals.
NAME_PARTS = (
    *("told", "tell", "tells", "telling", "untold", "shown", "shows", "news", "looks", "look"),
    *("believe", "believed", "feeder", "feeders", "feeding", "feed", "rota", "pulse", "beginners"),
    *("entrance", "flight", "gathering", "kept", "again", "anew", "whoever", "whatever", "answer"),
    *("answers", "answered", "turns", "crowd", "newcomer", "strangers"),
)
#: Terms of the glossary that have a word of the dialect in them.
ALLOWED_TERMS = re.compile(r"in_?flight", re.IGNORECASE)
#: Names that mean something else: a standard term, a library's name.
ALLOWED_NAMES = frozenset(
    {
        "feed",  # of html.parser.HTMLParser
        "tell",  # the position in a file
    }
)
#: Phrases in prose, source and documents.
PHRASES = {
    "told, tell, heard (of programs)": r"\b(?:un)?told\b|\btell(?:s|ing)?\b|\bhea(?:rd|rs) of\b",
    "whoever, whatever, whichever": r"\bwho(?:m?)ever\b|\bwhatever\b|\bwhichever\b",
    "what is / was / has / it …": r"\b[Ww]hat (?:it|is|are|was|were|ha[sd]|have|they|others)\b",
    "shall": r"\bshall\b",
    "anew": r"\banew\b",
    "of theirs, of its own accord": r"\bof theirs\b|\bof its own\b|\bof their own\b",
    "believed": r"\bbeliev\w+",
    "the line (the queue)": r"\bin (?:the )?line\b|\bplaces? in (?:the )?line\b|\bthe line is\b",
    "nobody, somebody (of programs)": r"\b(?:nobody|somebody|anybody)\b",
    "meanwhile": r"\bmeanwhile\b",
    "feeder": r"\bfeeders?\b",
    "a look at, looked at": r"\blooks? (?:at|for|after)\b|\blooked (?:at|for|after)\b",
    "goes on, gone on with": r"\b(?:go|goes|gone|went|going) on\b",
}
PROSE_SUFFIXES = frozenset({".py", ".md", ".html", ".txt", ".js", ".lua", ".cfg", ".yaml", ".yml"})
#: Made by others, or history.
SKIPPED = ("vendor/", "package-lock.json", "CHANGELOG.md", "tests/tools/dialect.py")


def files() -> Iterator[Path]:
    """Yield the files of the repository that people write."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        if not any(skipped in name for skipped in SKIPPED) and (ROOT / name).is_file():
            yield Path(name)


def parts_of(name: str) -> set[str]:
    """Return the words of a name in lower case, without allowed terms."""
    name = ALLOWED_TERMS.sub("", name)
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name.replace("_", " "))
    return {word.lower() for word in words}


def names_in(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of what a module defines: functions, classes, parameters, variables."""
    yield 0, path.stem
    text = (ROOT / path).read_text()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


def dialect_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each name of the dialect that a module uses, once."""
    seen = set()
    for line, name in names_in(path):
        if name in seen or name in ALLOWED_NAMES:
            continue
        if parts_of(name) & set(NAME_PARTS):
            seen.add(name)
            yield line, name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="list each place")
    parser.add_argument("paths", nargs="*", help="only files whose path begins with one of these")
    arguments = parser.parse_args()
    names: Counter[str] = Counter()
    phrases: Counter[str] = Counter()
    for path in files():
        if arguments.paths and not str(path).startswith(tuple(arguments.paths)):
            continue
        top = path.parts[0] if len(path.parts) > 1 else "top level"
        if path.suffix == ".py":
            for line, name in dialect_names(path):
                names[top] += 1
                if arguments.list:
                    print(f"{path}:{line}: {name}")
        if path.suffix in PROSE_SUFFIXES:
            for number, text in enumerate((ROOT / path).read_text().splitlines(), start=1):
                for label, pattern in PHRASES.items():
                    found = len(re.findall(pattern, text))
                    phrases[label] += found
                    if found and arguments.list:
                        print(f"{path}:{number}: {text.strip()[:100]}")
    print("names of the dialect, once a module")
    for top, count in sorted(names.items()):
        print(f"  {count:6} {top}")
    print(f"  {names.total():6} in all")
    print("phrases")
    for label, count in phrases.most_common():
        print(f"  {count:6} {label}")
    print(f"  {phrases.total():6} in all")


if __name__ == "__main__":
    main()
