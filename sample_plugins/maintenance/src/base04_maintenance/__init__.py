"""A maintenance mode for Base04. What others need of it is its contract."""

from base04_maintenance.contract import Closure, MaintenanceManager

__all__ = ["Closure", "MaintenanceManager"]
