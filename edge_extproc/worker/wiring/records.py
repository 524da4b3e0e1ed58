"""Builds the store of records, and what uses it, from the configuration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from ...config.provider import ProviderConfig
from ...config.schema import Config
from ...dialects.base import Dialect, SealingDialect
from ...providers.base import Provider
from ...records.base import RecordStore
from ...records.batches import Batches
from ...records.file import FileRecords
from ...records.owners import ObjectOwners, ProviderAccount
from ...records.prompt_turns import PromptCaches, PromptCacheSettings
from ...records.reasoning import ReasoningAccounts
from ...records.repeats import Repeats, RepeatSettings, ReplyCipher
from ...records.watched import WatchedRecords


def build_records(config: Config) -> WatchedRecords:
    """Raises StartError."""
    url = config.records_url()
    if url is None:
        return WatchedRecords(FileRecords(config.records_file))
    from ...records.redis import RedisRecords  # the client is imported only with a Redis

    return WatchedRecords(RedisRecords(url, config.records.timeout.total_seconds()))


def build_owners(config: Config, store: RecordStore) -> ObjectOwners | None:
    """None if tenants share no account."""
    accounts = _accounts(config)
    one_tenant = len({caller.tenant for caller in config.callers}) <= 1
    return ObjectOwners(store, accounts, one_tenant=one_tenant) if accounts else None


def build_batches(config: Config, store: RecordStore) -> Batches:
    names: dict[tuple[object, ...], str] = {}
    return Batches(store, {name: names.setdefault(_identity(each), name) for name, each in config.providers.items()})


def build_reasoning(
    config: Config, providers: Mapping[str, Provider], dialects: Mapping[str, Dialect], store: RecordStore
) -> ReasoningAccounts | None:
    """None if at most one account makes encrypted reasoning."""
    sealing = {name for name, dialect in dialects.items() if isinstance(dialect, SealingDialect)}
    makers = {each.provider for row in config.rows().values() for each in row if each.dialect in sealing}
    names: dict[tuple[object, ...], str] = {}
    accounts = {}
    for name, provider in config.providers.items():
        if name in makers or not sealing.isdisjoint(providers[name].formats("chat", "")):
            accounts[name] = names.setdefault(_identity(provider), name)
    return ReasoningAccounts(store, accounts) if len(names) > 1 else None


def build_repeats(config: Config, store: RecordStore) -> Repeats:
    return Repeats(store, repeat_settings(config), partial(reply_cipher, config))


def build_prompt_caches(config: Config, store: RecordStore) -> PromptCaches:
    secret = config.auth.pepper.reveal().encode()
    return PromptCaches(store, secret, time.time, prompt_cache_settings(config))


def prompt_cache_settings(config: Config) -> PromptCacheSettings:
    settings = config.prompt_cache
    return PromptCacheSettings(settings.keep.total_seconds(), always=settings.explain == "always")


def reply_cipher(config: Config) -> ReplyCipher:
    """Encrypts the kept replies of idempotency keys, with the key of the conversations if there is one, and otherwise
    with one that is made of the pepper. All workers and gateways of one configuration have both."""
    from ...codecs.sealing import IDEMPOTENT_REPLIES, BlockCipher  # loads a large library

    stored = config.conversations
    keys = (stored.key, *stored.previous_keys) if stored is not None and stored.key is not None else ()
    return BlockCipher([key.reveal() for key in (*keys, config.auth.pepper)], IDEMPOTENT_REPLIES)


def repeat_settings(config: Config) -> RepeatSettings:
    settings = config.idempotency
    return RepeatSettings(settings.window.total_seconds(), settings.max_reply)


def _accounts(config: Config) -> dict[str, ProviderAccount]:
    """The shared accounts. Providers with the same address and credential are one account, which has the name of the
    first of them: a name stays when a key is renewed."""
    names: dict[tuple[object, ...], str] = {}
    accounts = {}
    for name, provider in config.providers.items():
        if provider.shared_account:
            first = names.setdefault(_identity(provider), name)
            accounts[name] = ProviderAccount(first, provider.shared_objects)
    return accounts


def _identity(provider: ProviderConfig) -> tuple[object, ...]:
    endpoint, key = provider.endpoint, provider.api_key
    secret = key.reveal() if key is not None else repr(provider.credential)
    return (endpoint.host, endpoint.port, secret, provider.project, provider.account)
