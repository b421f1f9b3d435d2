"""Reads what the container is made from: the Dockerfile, its lock and its .dockerignore."""

import re
import shlex
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"


@dataclass
class Stage:
    """One stage: what it starts from, its name, and its instructions."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction):
        return [text for word, text in self.steps if word == instruction]

    def pairs(self, instruction):
        """KEY=VALUE of all ENV or LABEL instructions."""
        words = [word for text in self.of(instruction) for word in shlex.split(text)]
        return dict(word.split("=", 1) for word in words)


def read(text):
    """Arguments before the first FROM, and the stages."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    arguments, stages = {}, []
    for line in filter(str.strip, joined.splitlines()):
        word, rest = line.strip().split(None, 1)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base.strip(), name.strip()))
        elif stages:
            stages[-1].steps.append((word, rest))
        else:
            assert word == "ARG", f"{word} before FROM"
            arguments |= [rest.split("=", 1)] if "=" in rest else []
    return arguments, stages


def locked(path):
    """Version by package of a lock, and the packages that have a checksum."""
    versions, hashed = {}, set()
    for block in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8")):
        if match := re.match(r"([A-Za-z0-9._-]+)==(\S+)", block):
            versions[match[1].lower()] = match[2]
            if re.search(r"--hash=sha256:[0-9a-f]{64}", block):
                hashed.add(match[1].lower())
    return versions, hashed


def context():
    """Files that .dockerignore lets through to the build."""
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    files = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
    return {name for name in files if not name.startswith(".git/") and _passes(name, rules)}


def _passes(name, rules):
    passes = True
    parts = name.split("/")
    above = ["/".join(parts[:number]) for number in range(1, len(parts) + 1)]
    for rule in rules:
        pattern = rule.removeprefix("!")
        anywhere = pattern.removeprefix("**/")
        candidates = parts if pattern != anywhere else above
        if any(_fits(candidate, anywhere) for candidate in candidates):
            passes = rule.startswith("!")
    return passes


def _fits(name, pattern):
    """`*` stops at a slash, as in Docker."""
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)
