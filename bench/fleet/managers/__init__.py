"""The supervisors under test, each driven by its own API, all with the same face."""

from __future__ import annotations

from .base import Manager, Site
from .circus import Circus
from .ours import Reconciler
from .pm2 import Pm2
from .supervisord import Supervisord

MANAGERS: dict[str, type[Manager]] = {
    "reconciler": Reconciler,
    "supervisord": Supervisord,
    "circus": Circus,
    "pm2": Pm2,
}
OURS = "reconciler"

__all__ = ["MANAGERS", "OURS", "Manager", "Site"]
