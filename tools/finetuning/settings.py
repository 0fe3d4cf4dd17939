"""What the environment decides: home, path roots, offline mode, content, spending.

``VARIABLES`` lists every environment variable that any code of this project reads; SKILL.md
declares the same names and a test compares the two.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

VARIABLES: Final[dict[str, str]] = {
    "FINE_TUNING_HOME": "Folder for runs, reports, the audit log and the pseudonym key.",
    "FINE_TUNING_ROOTS": "More folders the tools may read and write, separated by ':'.",
    "FINE_TUNING_OFFLINE": "1 forbids every connection except to this machine.",
    "FINE_TUNING_SHOW_CONTENT": "1 lets results show row text; set by a person, never a tool.",
    "FINE_TUNING_MAX_USD": "Dollars a person approves in advance for each plan; unset: none.",
    "OPENAI_API_KEY": "Key of OpenAI; read only by the call that needs it.",
    "ANTHROPIC_API_KEY": "Key of Anthropic; read only by the call that needs it.",
    "AZURE_OPENAI_API_KEY": "Key of an Azure OpenAI resource; read only by the call that needs it.",
    "AZURE_OPENAI_ENDPOINT": "Address of that Azure OpenAI resource.",
    "AWS_BEARER_TOKEN_BEDROCK": "API key of Amazon Bedrock; read only by the call that needs it.",
    "AWS_REGION": "AWS region that Bedrock is asked in.",
    "OPENAI_BASE_URL": "Address asked instead of api.openai.com.",
    "ANTHROPIC_BASE_URL": "Address asked instead of api.anthropic.com.",
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "Address asked instead of the region's Bedrock.",
    "GOOGLE_API_KEY": "Key of Vertex AI in express mode; read only by the call that needs it.",
    "GOOGLE_CLOUD_PROJECT": "Google Cloud project whose Vertex AI is asked.",
    "GOOGLE_CLOUD_LOCATION": "Region of Vertex AI; unset means us-central1.",
    "GOOGLE_VERTEX_BASE_URL": "Address asked instead of the region's Vertex AI.",
    "TOGETHER_API_KEY": "Key of Together AI; read only by the call that needs it.",
    "FIREWORKS_API_KEY": "Key of Fireworks AI; read only by the call that needs it.",
    "TIKTOKEN_CACHE_DIR": "Folder with tiktoken rank files, if the person keeps them there.",
    "FINE_TUNING_GGUF_CONVERTER": "Path of llama.cpp's convert_hf_to_gguf.py, if not on PATH.",
    "HF_HUB_OFFLINE": "1 keeps the Hugging Face libraries off the network.",
    "HF_ENDPOINT": "Mirror asked instead of huggingface.co.",
    "HF_HOME": "Folder of the Hugging Face libraries.",
    "HF_HUB_CACHE": "Their cache of models, where it lies elsewhere.",
    "OMP_NUM_THREADS": "CPU threads of one local training or evaluation process.",
}
SECRET_VARIABLES: Final = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "AWS_BEARER_TOKEN_BEDROCK",
    "GOOGLE_API_KEY",
    "TOGETHER_API_KEY",
    "FIREWORKS_API_KEY",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment, read once per call of :func:`settings`."""

    home: Path
    roots: tuple[Path, ...]
    offline: bool
    show_content: bool
    max_usd: str | None

    @property
    def reports(self) -> Path:
        """Folder for reports: ``<home>/reports``."""
        return self.home / "reports"

    @property
    def runs(self) -> Path:
        """Folder with one sub-folder per run: ``<home>/runs``."""
        return self.home / "runs"

    @property
    def bases(self) -> Path:
        """Folder with one sub-folder per base model: ``<home>/bases``."""
        return self.home / "bases"

    @property
    def audit_log(self) -> Path:
        """The audit log: ``<home>/audit.jsonl``."""
        return self.home / "audit.jsonl"

    @property
    def pseudonym_key(self) -> Path:
        """Key of the keyed digests and pseudonyms (mode 0600)."""
        return self.home / "keys" / "pseudonym.key"


def settings() -> Settings:
    """Read the environment and return the settings of this call (nothing is checked here)."""
    home = os.environ.get("FINE_TUNING_HOME", "").strip()
    if home:
        home_path = Path(home).expanduser().resolve()
    else:
        import platformdirs

        home_path = platformdirs.user_data_path("fine-tuning")
    roots = [part for part in os.environ.get("FINE_TUNING_ROOTS", "").split(os.pathsep) if part]
    return Settings(
        home=home_path,
        roots=tuple(Path(part).expanduser().resolve() for part in roots),
        offline=os.environ.get("FINE_TUNING_OFFLINE", "") == "1",
        show_content=os.environ.get("FINE_TUNING_SHOW_CONTENT", "") == "1",
        max_usd=os.environ.get("FINE_TUNING_MAX_USD", "").strip() or None,
    )


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.split("%", 1)[0]).is_loopback
    except ValueError:
        return False


_NAMED_FIRST: Final = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_ADDRESSED: Final = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_NO_SIDE_DOOR: Final = {
    "NO_PROXY": "*",
    "no_proxy": "*",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
"""What offline mode sets: a proxy on this machine would carry data on, and native code of the
Hugging Face libraries opens connections that no hook of Python sees."""


def _host_of(event: str, arguments: tuple[Any, ...]) -> Any:
    """Return the host that an event speaks of, or None for any other event."""
    if event in _NAMED_FIRST:
        return arguments[0]
    if event in _ADDRESSED:
        address = arguments[1]  # a path for Unix sockets, else (host, port, …)
        return cast("tuple[Any, ...]", address)[0] if isinstance(address, tuple) else None
    if event == "urllib.Request":  # its connection may go to a proxy
        from urllib.parse import urlsplit

        return urlsplit(str(arguments[0])).hostname
    return None


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    host = _host_of(event, arguments)
    if isinstance(host, bytes | bytearray):
        host = host.decode("ascii", "replace")
    if isinstance(host, str) and host and not is_loopback(host) and settings().offline:
        raise PermissionError(
            f"network: a connection to {host!r} was about to open in offline mode; "
            "expected no connection except to this machine. "
            "Unset FINE_TUNING_OFFLINE to allow it."
        )


@functools.cache
def _install_guard() -> None:
    sys.addaudithook(_guard)


def enforce_offline() -> None:
    """Make every non-loopback connection of this process an error while offline mode is set.

    The guard is an audit hook, installed once per process, which cannot be removed; entry points
    call this. In offline mode proxies are switched off, here and in the process's children.

    Raises:
        PermissionError: Later, from the call that tries to connect.
    """
    _install_guard()
    if settings().offline:
        os.environ.update(_NO_SIDE_DOOR)
