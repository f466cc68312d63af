"""The rules of the settings: what each kind of value may be, and how it is read from text or YAML.

A rule's `permitted` is what documents and errors say; `parse` raises a bare ValueError for everything else.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_WHOLE = re.compile(r"-?[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True)
class Whole:
    """An integer from `lowest` to `highest`; with `never` also that word, which stands for None."""

    lowest: int
    highest: int
    never: bool = False

    @property
    def permitted(self) -> str:
        return f"an integer from {self.lowest} to {self.highest}" + (", or never" if self.never else "")

    def parse(self, value: object) -> int | None:
        if self.never and value == "never":
            return None
        number = int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value
        # type() rather than isinstance(), for YAML's `yes` is True, and True is an int.
        if type(number) is not int or not self.lowest <= number <= self.highest:
            raise ValueError
        return number


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def permitted(self) -> str:
        return " or ".join(self.words)

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise ValueError
        return value


@dataclass(frozen=True)
class Address:
    """A host name or address to listen on; whether it can be is found out by listening."""

    permitted = "a host name or an address, without spaces, of at most 255 characters"

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[!-~]{1,255}", value):
            raise ValueError
        return value


@dataclass(frozen=True)
class Folder:
    """A path, relative to the working directory; whether it is usable is found out by opening it."""

    permitted = "a directory's path of at most 4096 characters"

    def parse(self, value: object) -> Path:
        if not isinstance(value, str | Path) or not 1 <= len(str(value)) <= 4096 or "\0" in str(value):
            raise ValueError
        return Path(value)


@dataclass(frozen=True)
class Servers:
    """Where servers answer: HOST:PORT, several separated by commas."""

    permitted = "HOST:PORT, or several separated by commas, of at most 1000 characters"

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > 1000:
            raise ValueError
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]", host):
                raise ValueError
            if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
                raise ValueError
        return value


@dataclass(frozen=True)
class Text:
    """Words of one line that match `pattern`; `kind` says which. What is `secret` is never shown."""

    kind: str
    pattern: str
    secret: bool = False

    @property
    def permitted(self) -> str:
        return self.kind

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError
        return value


NAME = Text("a letter, then up to 47 letters, digits and _, all in lower case", r"[a-z][a-z0-9_]{0,47}")
LOGIN = Text("1 to 256 printable characters", r"[!-~]{1,256}")
SECRET = Text("1 to 256 printable characters", r"[!-~]{1,256}", secret=True)
DATACENTER = Text("1 to 48 letters, digits and any of . _ -", r"[A-Za-z0-9._-]{1,48}")
OBJECT_URL = Text("s3://BUCKET or s3://BUCKET/PREFIX", r"s3://[a-z0-9][a-z0-9.-]{1,62}(/[A-Za-z0-9._/-]{1,256})?")
HTTP_URL = Text("a URL with http or https", r"https?://[!-~]{1,512}")
BOLT_URL = Text("a URL with bolt, bolt+s, neo4j or neo4j+s", r"(bolt|neo4j)(\+s|\+ssc)?://[!-~]{1,512}")
FILE = Text("a file's full path of at most 512 characters", r"/[^\0\n]{1,511}")
RAY_ADDRESS = Text("local, auto or HOST:PORT", r"local|auto|[A-Za-z0-9._-]{1,253}:[0-9]{1,5}")

Rule = Whole | OneOf | Address | Folder | Servers | Text
