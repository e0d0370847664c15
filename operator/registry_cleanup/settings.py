"""What the administrator of the operator decides, read once from the environment (`REGISTRY_CLEANUP_…`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from registry_cleanup.domain.trust import Host


class Settings(BaseSettings):
    """The operator's settings; a wrong one stops the start with its name.

    Attributes:
        trusted_token_hosts: hosts (`host[:port]`, separated by commas; without a port, any port) that may receive
            credentials of policies besides the registry's own; for OpenShift's registry none is needed.
        concurrent_runs: so many policies run at a time.
        concurrent_requests: of one run, at its registry.
        health_port: where `/healthz` answers; 0 for nowhere.
        log_format: JSON for machines, text for people.
        service_account: the operator's own, `namespace:name`, for messages that tell what to grant.
        stop_seconds: how long a run may take to reach a safe point once the operator is told to stop.
    """

    model_config = SettingsConfigDict(env_prefix="REGISTRY_CLEANUP_", frozen=True)

    trusted_token_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    concurrent_runs: int = Field(default=4, ge=1, le=100)
    concurrent_requests: int = Field(default=8, ge=1, le=256)
    health_port: int = Field(default=8080, ge=0, le=65535)
    log_format: Literal["json", "text"] = "json"
    service_account: str = "registry-cleanup-system:registry-cleanup"
    stop_seconds: float = Field(default=45.0, ge=0)

    @field_validator("trusted_token_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_token_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Host.parse(text)
        return value

    @property
    def token_hosts(self) -> tuple[Host, ...]:
        """The trusted hosts, parsed."""
        return tuple(Host.parse(text) for text in self.trusted_token_hosts)
