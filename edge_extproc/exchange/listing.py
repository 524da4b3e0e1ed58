"""Lists the models that a caller may use, from the configuration."""

from __future__ import annotations

from urllib.parse import unquote

from ..auth.base import CallerRights
from ..dialects.base import Dialect, ModelCard
from ..errors import NoSuchModel
from ..model.globs import allows
from ..model.principal import Principal
from .ports import Gateway


def list_models(
    gateway: Gateway, caller_dialect: Dialect, principal: Principal, rights: CallerRights | None, one: str | None
) -> bytes:
    """The list of all models or, for a path that names one, `one`. Raises NoSuchModel."""

    def listed(name: str) -> bool:
        return allows(principal.models, name) and (rights is None or rights.may_list(name))

    if one is None:
        return caller_dialect.write_models([card for card in gateway.cards if listed(card.id)])
    name = unquote(one.split("/models/", 1)[1])
    candidates = gateway.models.candidates(name) if listed(name) else ()
    if not candidates:
        raise no_such_model(name)
    return caller_dialect.write_model(ModelCard(name, candidates[0].provider))


def no_such_model(name: str) -> NoSuchModel:
    return NoSuchModel(f"there is no model {name!r} for this key; GET /v1/models lists the models", param="model")
