"""The ways to reach the gateway: as the SDKs' base URL (reverse), or as their HTTP proxy (forward)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import anthropic
import httpx
import httpx2
import openai

# The gateway replaces whatever key comes; this one must not get through.
KEY = "any-key-will-do"
TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Route:
    """One way. SDK clients are made without retries, so that a first failure is seen."""

    name: str
    root: str
    proxy: str | None
    # openai still takes clients of the older httpx; anthropic wants httpx2.
    uses_legacy_httpx: bool = False

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.root}/v1", http_client=self._sync(), **self._settings())

    def openai_async(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.root}/v1", http_client=self._async(), **self._settings())

    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.root, http_client=self._sync(), **self._settings())

    def anthropic_async(self) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(base_url=self.root, http_client=self._async(), **self._settings())

    def http(self) -> httpx2.Client:
        return httpx2.Client(proxy=self.proxy, trust_env=False, timeout=TIMEOUT_SECONDS)

    def _sync(self):
        module = httpx if self.uses_legacy_httpx else httpx2
        return module.Client(proxy=self.proxy, trust_env=False, timeout=TIMEOUT_SECONDS)

    def _async(self):
        module = httpx if self.uses_legacy_httpx else httpx2
        limits = module.Limits(max_connections=None)
        return module.AsyncClient(proxy=self.proxy, trust_env=False, timeout=TIMEOUT_SECONDS, limits=limits)

    @staticmethod
    def _settings() -> dict:
        return {"api_key": KEY, "max_retries": 0, "timeout": TIMEOUT_SECONDS}


def routes(base_url: str, upstream_url: str) -> list[Route]:
    upstream = urlsplit(upstream_url)
    host, base_path = upstream.hostname, upstream.path.rstrip("/")
    return [
        Route("reverse", base_url, None),
        Route("reverse, base path", f"{base_url}{base_path}", None),
        Route("forward", f"http://{host}{base_path}", base_url),
        Route("forward, httpx", f"http://{host}{base_path}", base_url, uses_legacy_httpx=True),
    ]
