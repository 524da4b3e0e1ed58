"""The circuit breaker of one service: after failures in a row, no request is sent for a time.

Each tenant has a circuit of its own, because a tenant can send texts on which a service fails. One more circuit is
shared by all tenants. A tenant counts in it with less than half of the failures that open it, so that one or two
tenants cannot stop the checks of the others (docs/adr/183 has the same rule for providers).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

# The most tenants with failures. The one that failed longest ago is forgotten: its next request is sent.
_MAX_TENANTS = 10_000


@dataclass(slots=True)
class _State:
    failures: dict[str, int] = field(default_factory=dict)
    """Failures in a row, by tenant."""
    open_until: float = 0.0
    """0: closed."""
    probe_until: float = 0.0
    """Until when a probe counts as in progress."""


class ServiceCircuit:
    def __init__(self, failures: int, open_for: float, clock: Callable[[], float], opened: Callable[[], None]) -> None:
        """`clock`: seconds of a monotonic clock. `opened` is called each time that a circuit opens."""
        self._failures = failures
        self._share = max(1, (failures - 1) // 2)
        self._open_for = open_for
        self._clock = clock
        self._opened = opened
        self._shared = _State()
        self._own: OrderedDict[str, _State] = OrderedDict()

    def admits(self, tenant: str) -> bool:
        """Whether a request may be sent now. While a circuit is half open, this admits one request as the probe."""
        states = [self._shared, self._own[tenant]] if tenant in self._own else [self._shared]
        now = self._clock()
        waiting = [state for state in states if state.open_until]
        if any(now < state.open_until or now < state.probe_until for state in waiting):
            return False
        for state in waiting:
            state.probe_until = now + self._open_for
        return True

    def succeeded(self, tenant: str) -> None:
        self._own.pop(tenant, None)
        self._shared = _State()

    def failed(self, tenant: str) -> None:
        now = self._clock()
        own, shared = self._own.setdefault(tenant, _State()), self._shared
        self._own.move_to_end(tenant)
        if len(self._own) > _MAX_TENANTS:
            self._own.popitem(last=False)
        was_shared_probe = 0 < shared.open_until <= now
        if now >= own.open_until:  # else the request began before the circuit opened
            own.failures[tenant] = own.failures.get(tenant, 0) + 1
            if own.open_until or was_shared_probe or own.failures[tenant] >= self._failures:
                self._open(own)
        if was_shared_probe:
            # The probe of another tenant decides.
            shared.failures[tenant], shared.probe_until = 1, 0.0
            if len(shared.failures) > 1:
                self._open(shared)
        elif not shared.open_until:
            shared.failures[tenant] = min(self._share, shared.failures.get(tenant, 0) + 1)
            # With two tenants at least.
            if sum(shared.failures.values()) >= max(2, self._failures):
                self._open(shared)

    def _open(self, state: _State) -> None:
        state.open_until = self._clock() + self._open_for
        state.probe_until = 0.0
        state.failures = {}
        self._opened()

    def ended(self, tenant: str) -> None:
        """The request ended without a result, for example because it was not sent. Another one may be the probe."""
        for state in (self._shared, self._own.get(tenant)):
            if state is not None:
                state.probe_until = 0.0
