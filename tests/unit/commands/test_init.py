"""`edge-extproc init`: what it writes is a configuration that works."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from replaying import replaying

from edge_extproc.cli import app
from edge_extproc.commands import init
from edge_extproc.commands.init import Choices, known_providers
from edge_extproc.config import load
from edge_extproc.config.default_models import default_providers, local_hosts
from edge_extproc.errors import ConfigError, StartError, exit_code
from edge_extproc.model.plan import Candidate

NOTHING = {host.variable: "" for host in local_hosts()}
LISTED = b'{"data": [{"id": "llama3.2"}, {"id": "nomic-embed-text"}]}'


def answers(*texts: str) -> tuple[Callable[[str], str], list[str]]:
    """A user who gives these answers, and the questions."""
    left: Iterator[str] = iter(texts)
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return next(left)

    return ask, questions


def written(
    directory: Path, choices: Choices, environ: Mapping[str, str], *texts: str, secrets: tuple[str, ...] = ()
) -> tuple[list[str], list[str]]:
    ask, questions = answers(*texts)
    ask_secret, secret_questions = answers(*secrets)
    lines = init.write(
        directory / "edge.yaml",
        directory / ".edge",
        choices,
        {**NOTHING, **environ},
        ask=ask if texts else None,
        ask_secret=ask_secret,
    )
    return lines, questions + secret_questions


def test_without_a_flag_the_providers_whose_keys_are_set_are_used(tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": "sk-1", "OPENROUTER_API_KEY": "sk-or-1"}
    lines, _ = written(tmp_path, Choices(), environ)
    config = load.load(tmp_path / "edge.yaml", environ)

    assert ["openai", "openrouter"] == list(config.providers)
    assert (Candidate("openai", "gpt-4o-mini"),) == config.rows()["chat"]
    assert (Candidate("openrouter", ""),) == config.rows()["*/*"]
    assert tmp_path / ".edge" == config.agent.state_dir
    (caller,) = config.callers
    assert caller.keys[0].key is not None
    assert (tmp_path / ".edge" / "dev-key").read_text().strip() == caller.keys[0].key.reveal()
    assert not [line for line in lines if line.startswith("Missing")]
    assert "sk-" not in (tmp_path / "edge.yaml").read_text()


@pytest.mark.parametrize("name", [each.name for each in default_providers()])
def test_each_provider_can_be_chosen_by_a_flag(name: str, tmp_path: Path) -> None:
    """Its key need not be set yet: the report names the variable."""
    lines, _ = written(tmp_path, Choices((name,)), {})
    (variable,) = [line.split()[1].strip(":") for line in lines if line.startswith("Missing")]

    assert [name] == list(load.load(tmp_path / "edge.yaml", {variable: "a key"}).providers)


def test_a_server_on_this_machine_is_used_without_a_key(tmp_path: Path) -> None:
    with replaying() as server:
        server.answers(LISTED)
        written(tmp_path, Choices(("ollama",)), {"OLLAMA_HOST": server.url})
    rows = load.load(tmp_path / "edge.yaml", {}).rows()

    assert (Candidate("ollama", "llama3.2"),) == rows["chat"]
    assert (Candidate("ollama", "nomic-embed-text"),) == rows["embedding"]


def test_all_flags_are_in_the_file(tmp_path: Path) -> None:
    choices = Choices(("anthropic",), "search", 8443, 8444, "12.50", tls=True, ledger=True)
    written(tmp_path, choices, {"ANTHROPIC_API_KEY": "sk-ant"})
    config = load.load(tmp_path / "edge.yaml", {"ANTHROPIC_API_KEY": "sk-ant"})

    assert ("search", 12_500_000) == (config.callers[0].tenant, config.callers[0].limits.dollars_per_day)
    assert (8443, 8444, True) == (config.listen.port, config.admin.port, config.listen.tls is not None)
    assert config.store is not None
    assert "embedding" not in config.models


def test_a_user_is_asked_and_asked_again_after_a_mistake(tmp_path: Path) -> None:
    texts = ("nobody", "openai, anthropic", "not a name", "lab", "0", "10500", "much", "5")
    lines, questions = written(tmp_path, Choices(), {"OPENAI_API_KEY": "sk-1"}, *texts, secrets=("sk-ant-typed",))
    config = load.load(tmp_path / "edge.yaml", {"OPENAI_API_KEY": "sk-1"})
    key = config.providers["anthropic"].api_key

    assert "[openai]" in questions[0]
    assert "there is no provider 'nobody'" in questions[1]
    assert ("lab", 10500, 5_000_000) == (
        config.callers[0].tenant,
        config.listen.port,
        config.callers[0].limits.dollars_per_day,
    )
    assert key is not None
    assert "sk-ant-typed" == key.reveal()
    assert "sk-ant-typed" not in (tmp_path / "edge.yaml").read_text()
    assert not [line for line in lines if line.startswith("Missing")]


def test_empty_answers_are_the_defaults(tmp_path: Path) -> None:
    lines, _ = written(tmp_path, Choices(("groq",)), {}, "", "", "", secrets=("",))
    config = load.load(tmp_path / "edge.yaml", {"GROQ_API_KEY": "gsk"})

    assert ("dev", 10000, None) == (
        config.callers[0].tenant,
        config.listen.port,
        config.callers[0].limits.dollars_per_day,
    )
    assert "Missing   GROQ_API_KEY: set it before the start" in lines


def test_only_the_owner_can_read_what_it_writes(tmp_path: Path) -> None:
    written(tmp_path, Choices(("openai",)), {}, "", "", "", secrets=("sk-typed",))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / ".edge").iterdir()}

    assert 0o700 == stat.S_IMODE((tmp_path / ".edge").stat().st_mode)
    assert 0o600 == stat.S_IMODE((tmp_path / "edge.yaml").stat().st_mode)
    assert {"openai-key", "dev-key", "pepper", "config.schema.json", ".gitignore"} == modes.keys()
    assert {0o600} == set(modes.values())


def test_the_first_line_leads_an_editor_to_the_schema(tmp_path: Path) -> None:
    written(tmp_path, Choices(("openai",)), {})
    first = (tmp_path / "edge.yaml").read_text().splitlines()[0]

    assert "# yaml-language-server: $schema=.edge/config.schema.json" == first
    assert (tmp_path / ".edge" / "config.schema.json").read_text().startswith("{")


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "edge.yaml").write_text("mine")
    with pytest.raises(StartError, match="--force"):
        written(tmp_path, Choices(("openai",)), {})

    assert "mine" == (tmp_path / "edge.yaml").read_text()
    arguments = ("init", str(tmp_path / "edge.yaml"), "--provider", "openai", "--force", "--yes")
    assert 0 == exit_code(lambda: app(arguments, result_action="return_value"))
    assert "openai" in (tmp_path / "edge.yaml").read_text()


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        (Choices(), "no provider was chosen, and no key is set"),
        (Choices(("nobody",)), "there is no provider 'nobody' here; have openai, anthropic"),
        (Choices(("ollama",)), "ollama does not answer at http://127.0.0.1:11434/v1; start it"),
        (Choices(("openai",), tenant="not a name"), "this is not a name"),
        (Choices(("openai",), port=70000), "write one from 1 to 65535"),
        (Choices(("openai",), dollars_per_day="much"), "this is not an amount of money"),
        (Choices(("openai",), port=10001), "port 10001 is also the port of"),
    ],
)
def test_a_mistake_is_one_line_and_names_the_remedy(choices: Choices, told: str, tmp_path: Path) -> None:
    with pytest.raises((StartError, ConfigError), match=told):
        written(tmp_path, choices, {})

    assert not (tmp_path / "edge.yaml").exists()


def test_its_providers_are_those_of_the_defaults() -> None:
    assert [*(each.name for each in default_providers()), *(host.name for host in local_hosts())] == known_providers()
