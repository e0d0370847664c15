"""What is told to machines: log lines that an audit reads, and the metrics page."""

from registry_cleanup.telemetry.audit import LogAudit
from registry_cleanup.telemetry.metrics import CountingAudit, Metrics
from registry_cleanup.telemetry.policies import PolicyCollector

__all__ = ["CountingAudit", "LogAudit", "Metrics", "PolicyCollector"]
