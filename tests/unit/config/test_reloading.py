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
from edge_extproc.gateway.config_source import ConfigFollower, ConfigSource, stamp, write_private
from edge_extproc.gateway.reload import ConfigReloader

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
    path, in_force = tmp_path / "edge.yaml", tmp_path / "accepted.yaml"
    path.write_text(TEXT)
    write_private(in_force, TEXT)
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
    return origin.accepted.read_text()


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
    found = reloading(replace(origin, accepted=tmp_path / "nowhere" / "accepted.yaml"), told, envoy)
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
    write_private(origin.accepted, OTHER)
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
