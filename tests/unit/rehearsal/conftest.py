"""A rehearsal provider and both official clients, one set for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from providers import KEY, anthropic_client, openai_client, rehearsing

from edge_extproc.rehearsal import Rehearsal


@pytest.fixture
async def provider() -> AsyncIterator[Rehearsal]:
    async with rehearsing() as provider:
        yield provider


@pytest.fixture
async def openai(provider: Rehearsal) -> AsyncIterator[AsyncOpenAI]:
    async with openai_client(provider.url) as client:
        yield client


@pytest.fixture
async def anthropic(provider: Rehearsal) -> AsyncIterator[AsyncAnthropic]:
    async with anthropic_client(provider.url) as client:
        yield client


@pytest.fixture
async def http(provider: Rehearsal) -> AsyncIterator[httpx2.AsyncClient]:
    """A plain client with the headers that both formats want."""
    headers = {"authorization": f"Bearer {KEY}", "anthropic-version": "2023-06-01"}
    async with httpx2.AsyncClient(base_url=provider.url, headers=headers, timeout=20) as client:
        yield client
