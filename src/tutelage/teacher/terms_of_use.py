"""Where it says whether a model may be trained on a teacher's answers."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.teacher.registry import is_looked_up

TERMS: Mapping[str, str] = {
    "openai.com": "https://openai.com/policies",
    "anthropic.com": "https://www.anthropic.com/legal",
    "googleapis.com": "https://ai.google.dev/gemini-api/terms",
    "azure.com": "https://www.microsoft.com/licensing/terms",
    "azure-api.net": "https://www.microsoft.com/licensing/terms",
    "deepseek.com": "https://cdn.deepseek.com/policies/en-US/"
    "deepseek-open-platform-terms-of-service.html",
    "groq.com": "https://console.groq.com/docs/legal/services-agreement",
    "mistral.ai": "https://mistral.ai/terms",
    "openrouter.ai": "https://openrouter.ai/terms",
}
"""Where providers have their terms, by the end of a server's name: every provider whose own way
this program knows, be it a dialect, an error or a header."""

SERVERS: Mapping[str, str] = {
    "openai": "api.openai.com",
    "anthropic": "api.anthropic.com",
    "gemini": "generativelanguage.googleapis.com",
}
"""The servers of schemes without a `base_url`."""

_HERE = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


def terms_note(settings: TeacherSettings) -> str | None:
    """Where it says whether a model may be trained on a teacher's answers; None for a teacher that
    looks answers up."""
    if is_looked_up(settings):
        return None
    asks = "say whether you may train a model on its answers"
    if not settings.remote and settings.scheme in ("gguf", "package"):
        return f"{settings.model}: the licence of the model should {asks}"
    hosts = [urlsplit(address or "").hostname or "" for address in settings.addresses]
    host = next((one for one in hosts if one not in _HERE), hosts[0])
    host = host or SERVERS.get(settings.scheme, "")
    if host in _HERE:
        return f"{settings.model} at {host}: the licence of the model should {asks}"
    where = next((url for end, url in TERMS.items() if _ends(host, end)), None)
    named = f" ({where})" if where is not None else ""
    server = host or settings.model
    return f"{settings.model}: the terms of {server}{named} should {asks}: read them before you pay"


def _ends(host: str, end: str) -> bool:
    return host == end or host.endswith(f".{end}")
