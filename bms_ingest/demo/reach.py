"""Makes files of ours usable by another user, as whom a server runs when we are root."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path


def reachable_by_others(path: Path) -> bool:
    """Whether every user may pass through all folders down to this file or folder."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path.resolve(), *path.resolve().parents))


def reachable_copy(binary: Path, copies: Path) -> Path:
    """Return the binary itself, or a copy of it in `copies` where another user may execute it."""
    if reachable_by_others(binary):
        return binary
    copies.mkdir(exist_ok=True)
    copy = copies / binary.name
    if not copy.exists():
        shutil.copy2(binary, copy)
    copy.chmod(0o755)
    return copy


def open_for_others(directory: Path) -> None:
    """Let other users pass through our own directory and those above it; the system's are open already."""
    for part in (directory, *directory.parents):
        if part.stat().st_uid == os.geteuid() and not part.stat().st_mode & stat.S_IXOTH:
            part.chmod(part.stat().st_mode | stat.S_IXOTH)
        if part.parent == Path("/"):
            break
