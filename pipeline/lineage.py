"""The origin of a result: code, configuration, environment."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "mlflow", "dvc")
WRITTEN_BY_RUNS = ("dvc.lock", "reports")  # change with every run, not with the code
ADDRESS = re.compile(r'([\w+.-]*://)([^\s"]*)')
WEB = ("http://", "https://", "ftp://", "ftps://", "s3://", "gs://")  # their paths may hold an @
WEB_USER = re.compile(r"[^/]*@|[^/@:\[]*:(?!\d+[/?#]).*@")  # a colon without a port begins a password
SECRET = re.compile(
    r'([?&;][\w.-]*(?:user|password|passwd|pwd|token|secret|api_?key|access_?key|credential|signature|\bsig)[\w.-]*=)[^&\s"#;]*',
    re.IGNORECASE,
)


def git_state(root: Path) -> tuple[str | None, bool]:
    """Return the checked-out commit (None outside a repository) and whether tracked files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in WRITTEN_BY_RUNS))
    except (OSError, subprocess.CalledProcessError):
        return None, False
    return commit, bool(changed)


def environment() -> dict[str, str]:
    """Return the versions of Python and of those packages that the numbers depend on, as far as installed."""
    installed = {distribution.name: distribution.version for distribution in distributions()}
    return {"python": platform.python_version(), **{name: installed[name] for name in PACKAGES if name in installed}}


def without_password(text: str) -> str:
    """Return a text, or an address, without the users, passwords and tokens of its addresses.

    The part before a host is left out; a secret in a query (``?password=…``) becomes ``***``. In doubt too much is removed
    rather than too little.
    """
    return ADDRESS.sub(_without_user, SECRET.sub(r"\1***", text))


def _without_user(address: re.Match[str]) -> str:
    scheme, rest = address.groups()
    if scheme.lower().endswith(WEB):
        user = WEB_USER.match(rest)
        rest = rest[user.end() :] if user else rest
    elif not rest.startswith("/"):  # a database's password ends at the last @ and may hold any character
        rest = rest.rpartition("@")[2]
    return scheme + ADDRESS.sub(_without_user, rest)


def without_passwords(tree: Any) -> Any:
    """Return plain data with :func:`without_password` applied to every text in it."""
    if isinstance(tree, dict):
        return {key: without_passwords(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_passwords(value) for value in tree]
    if isinstance(tree, tuple):
        return tuple(without_passwords(value) for value in tree)
    return without_password(tree) if isinstance(tree, str) else tree


def digest(tree: Any) -> str:
    """Return a digest of plain data, 16 hex digits, independent of the order of keys."""
    return hashlib.blake2b(json.dumps(tree, sort_keys=True).encode(), digest_size=8).hexdigest()


def code_digest(*packages: str) -> str:
    """Return a digest of the source of packages below ``pipeline``, 16 hex digits; it ties a checkpoint to its code."""
    root = Path(__file__).parent
    files = sorted(path for package in packages for path in (root / package).rglob("*.py"))
    return digest([[path.relative_to(root).as_posix(), path.read_text()] for path in files])


def device_name(device: torch.device) -> str:
    """Return the model name of the GPU or CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
