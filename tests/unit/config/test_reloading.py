"""What the supervisor makes of a configuration file: read, checked, kept, told."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from config_kit import ENVIRON, SECTIONS

from edge_extproc.config.schema import Config
from edge_extproc.errors import ConfigError
from edge_extproc.gateway.config_additions import ConfigAdditions
from edge_extproc.gateway.config_source import (
    AcceptedConfig,
    ConfigFollower,
    ConfigSource,
    read_accepted,
    read_for_start,
    stamp,
    write_accepted,
)
from edge_extproc.gateway.reload import ConfigReloader
from edge_extproc.model.managed import NO_ADDITIONS, Additions, ManagedState
from edge_extproc.store import snapshot

TEXT = "".join(SECTIONS.values())
OTHER = TEXT.replace("id: dev", "id: other")


class Told:
    """Workers that take what they are told, or do not."""

    def __init__(self, *answers: bool) -> None:
        self._answers = list(answers)
        self.seen: list[tuple[str, str]] = []
        self.heard = asyncio.Event()

    async def __call__(self, old: Config, new: Config) -> bool:
        self.seen.append((old.callers[0].keys[0].id, new.callers[0].keys[0].id))
        self.heard.set()
        return self._answers.pop(0) if self._answers else True


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def origin(tmp_path: Path) -> ConfigSource:
    path, in_force = tmp_path / "edge.yaml", tmp_path / "accepted.json"
    path.write_text(TEXT)
    write_accepted(in_force, AcceptedConfig(TEXT))
    return ConfigSource(path, tmp_path, accepted=in_force)


class Envoy:
    """One that takes what it is told, or does not; with what both it and the workers heard, in order."""

    def __init__(self, told: Told, *, takes: bool = True) -> None:
        self._takes = takes
        self._told = told
        self.heard: list[tuple[str, int]] = []
        """And how often the workers had been told by then."""

    def rendered(self, config: Config) -> Any:
        return SimpleNamespace(bootstrap=config.listen)

    async def change(self, config: Config) -> None:
        self.heard.append((config.callers[0].keys[0].id, len(self._told.seen)))
        if not self._takes:
            raise ConfigError("Envoy rejects the new clusters")

    async def undo(self) -> None:
        self.heard.append(("undone", len(self._told.seen)))


def reloading(origin: ConfigSource, told: Told, envoy: Any = None) -> ConfigReloader:
    return ConfigReloader(origin, origin.parse(TEXT), TEXT, told, with_envoy=True, envoy=lambda: envoy)


def written(origin: ConfigSource, text: str) -> None:
    assert origin.path is not None
    origin.path.write_text(text)


def in_force(origin: ConfigSource) -> str:
    assert origin.accepted is not None
    return read_accepted(origin.accepted).text


async def test_a_good_file_is_kept_and_told(origin):
    told = Told()
    found = reloading(origin, told)
    written(origin, OTHER)

    assert "applied" == await found.reload()
    assert [("dev", "other")] == told.seen
    assert OTHER == in_force(origin)
    assert "other" == found.config.callers[0].keys[0].id
    assert found.reloads.is_in_force


async def test_a_bad_file_is_told_to_nobody(origin):
    told = Told()
    found = reloading(origin, told)
    written(origin, TEXT + "nonsense: 1\n")

    assert "rejected" == await found.reload()
    assert [] == told.seen
    assert TEXT == in_force(origin)
    assert "nonsense" in found.shown()["last_reload"]["error"]
    assert not found.reloads.is_in_force


async def test_a_file_that_went_away_leaves_the_one_in_force(origin):
    found = reloading(origin, Told())
    origin.path.unlink()

    assert "rejected" == await found.reload()
    assert TEXT == in_force(origin)


async def test_where_not_all_can_take_it_all_go_back(origin):
    told = Told(False, True)
    found = reloading(origin, told)
    written(origin, OTHER)

    assert "rejected" == await found.reload()
    assert [("dev", "other"), ("other", "dev")] == told.seen
    assert TEXT == in_force(origin)
    assert "dev" == found.config.callers[0].keys[0].id


async def test_envoy_is_told_before_the_workers(origin):
    told = Told()
    envoy = Envoy(told)
    written(origin, OTHER)

    assert "applied" == await reloading(origin, told, envoy).reload()
    assert [("other", 0)] == envoy.heard
    assert [("dev", "other")] == told.seen


async def test_what_envoy_does_not_take_is_told_to_no_worker(origin):
    told = Told()
    found = reloading(origin, told, Envoy(told, takes=False))
    written(origin, OTHER)

    assert "rejected" == await found.reload()
    assert "Envoy rejects" in found.shown()["last_reload"]["error"]
    assert [] == told.seen
    assert TEXT == in_force(origin)


async def test_where_not_all_workers_can_take_it_envoy_goes_back_after_them(origin):
    told = Told(False, True)
    envoy = Envoy(told)
    written(origin, OTHER)

    assert "rejected" == await reloading(origin, told, envoy).reload()
    assert [("other", 0), ("undone", 2)] == envoy.heard


async def test_what_cannot_be_kept_is_not_envoys_either(origin, tmp_path):
    told = Told()
    envoy = Envoy(told)
    found = reloading(replace(origin, accepted=tmp_path / "nowhere" / "accepted.json"), told, envoy)
    written(origin, OTHER)

    assert "rejected" == await found.reload()
    assert "cannot be written" in found.shown()["last_reload"]["error"]
    assert [("other", 0), ("undone", 0)] == envoy.heard
    assert [] == told.seen


async def test_a_file_that_is_good_again_is_in_force_again(origin):
    found = reloading(origin, Told())
    written(origin, "nonsense")
    await found.reload()
    written(origin, TEXT)

    assert "applied" == await found.reload()
    assert found.reloads.is_in_force
    assert {"applied": 1, "rejected": 1, "restart_needed": 0} == found.reloads.counts


async def test_what_needs_a_restart_is_checked_all_the_same_and_told_to_nobody(origin):
    told = Told()
    found = reloading(origin, told)
    written(origin, OTHER + "listen: {port: 12345}\n")

    assert "restart_needed" == await found.reload()
    assert "listen.port" in found.shown()["last_reload"]["error"]
    assert [] == told.seen
    assert TEXT == in_force(origin)


async def test_the_built_in_configuration_has_no_file_to_read(tmp_path):
    origin = ConfigSource(None, tmp_path)
    config = ConfigSource(tmp_path / "f", tmp_path).parse(TEXT)
    found = ConfigReloader(origin, config, "", Told(), with_envoy=True)

    assert "rejected" == await found.reload()
    assert "--config" in found.shown()["last_reload"]["error"]


async def test_a_changed_file_is_noticed_by_itself(origin):
    told = Told()
    watching = asyncio.create_task(reloading(origin, told).watch())
    written(origin, OTHER)
    await asyncio.wait_for(told.heard.wait(), 20)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)

    assert [("dev", "other")] == told.seen


def test_a_worker_reads_what_is_in_force_once(origin):
    following = ConfigFollower(origin)
    written(origin, "nonsense")

    assert following.newer() is None
    write_accepted(origin.accepted, AcceptedConfig(OTHER))
    newer = following.newer()
    assert newer is not None
    assert "other" == newer.callers[0].keys[0].id
    assert following.newer() is None


def test_what_is_in_force_is_for_its_owner_alone(origin):
    assert 0o600 == stat.S_IMODE(origin.accepted.stat().st_mode)


def test_another_file_behind_the_same_links_is_another_one(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("same")
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "f").symlink_to("data/f")
    before = stamp(tmp_path / "f")
    (tmp_path / "fresh").symlink_to("two")
    (tmp_path / "fresh").replace(tmp_path / "data")

    assert before != stamp(tmp_path / "f")
    assert stamp(tmp_path / "none") is None


# --- what the admin API adds

PERMITTED = (
    TEXT
    + """
admin: {tokens: [{id: root, role: admin, token: a-token-of-these-tests}], additions: {hosts: [llm.example]}}
store: {}
"""
)
ADDED = Additions(
    {"spare": {"kind": "openai_compatible", "base_url": "https://llm.example/v1"}}, {"fast": [{"provider": "spare"}]}
)
WRONG = Additions({}, {"fast": [{"provider": "nowhere"}]})


@pytest.fixture
def permitted(origin: ConfigSource, tmp_path: Path) -> ConfigSource:
    text = PERMITTED + f"agent: {{state_dir: '{tmp_path}'}}\n"
    written(origin, text)
    write_accepted(origin.accepted, AcceptedConfig(text))
    return origin


def adding(origin: ConfigSource, told: Told) -> ConfigReloader:
    text = origin.path.read_text()
    return ConfigReloader(origin, origin.parse(text), text, told, with_envoy=True, envoy=lambda: Envoy(told))


async def test_additions_come_into_force_beside_the_text_in_force(permitted: ConfigSource) -> None:
    found = adding(permitted, Told())
    in_force_before = permitted.path.read_text()
    written(permitted, "nonsense")  # not read by an addition

    assert ("applied", None) == await found.add(ADDED)
    assert "spare" in found.config.providers
    assert AcceptedConfig(in_force_before, ADDED) == read_accepted(permitted.accepted)
    assert "spare" in permitted.read().providers


async def test_additions_stay_when_the_file_is_reloaded(permitted: ConfigSource) -> None:
    found = adding(permitted, Told())
    await found.add(ADDED)
    written(permitted, permitted.path.read_text().replace("id: dev", "id: other"))

    assert "applied" == await found.reload()
    assert ("other", True) == (found.config.callers[0].keys[0].id, "spare" in found.config.providers)


async def test_wrong_additions_change_nothing(permitted: ConfigSource) -> None:
    told = Told()
    found = adding(permitted, told)
    outcome, error = await found.add(WRONG)

    assert ("rejected", True) == (outcome, "added by the admin API: models.fast" in str(error))
    assert (NO_ADDITIONS, []) == (found.additions, told.seen)
    assert "applied" == await found.reload()


async def test_additions_of_the_database_that_do_not_fit_are_tried_with_the_next_file(permitted: ConfigSource) -> None:
    found = adding(permitted, Told())
    text = permitted.path.read_text()
    assert "rejected" == (await found.add(WRONG, keep=True))[0]
    written(permitted, text.replace("id: dev", "id: other"))
    assert "rejected" == await found.reload()
    written(permitted, text.replace("providers: {", "providers: {nowhere: {kind: openai, api_key: sk-nowhere}, "))

    assert "applied" == await found.reload()
    assert WRONG == found.additions


async def test_a_worker_that_cannot_apply_additions_leaves_none_in_force(permitted: ConfigSource) -> None:
    found = adding(permitted, Told(False))

    assert "rejected" == (await found.add(ADDED))[0]
    assert NO_ADDITIONS == read_accepted(permitted.accepted).additions


async def test_the_last_additions_are_in_force_at_the_start(permitted: ConfigSource) -> None:
    path = permitted.read().managed_file
    snapshot.write(path, ManagedState(additions=ADDED))
    config, accepted = read_for_start(permitted)
    snapshot.write(path, ManagedState(additions=WRONG))
    without, accepted_without = read_for_start(permitted)

    assert ("spare" in config.providers, ADDED) == (True, accepted.additions)
    assert (False, NO_ADDITIONS) == ("spare" in without.providers, accepted_without.additions)


async def test_what_the_admin_api_needs_of_it(permitted: ConfigSource, origin: ConfigSource) -> None:
    found = ConfigAdditions(adding(permitted, Told()))

    assert found.is_permitted
    assert None is await found.apply(ADDED)
    assert "nowhere" in str(await found.apply(WRONG))
    assert ADDED == found.in_force()
    assert "spare" not in await found.names_of_file("providers")
    assert await found.names_of_file("models")
