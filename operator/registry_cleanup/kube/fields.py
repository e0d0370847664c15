"""The forms of single fields of `spec`, each with what to write instead where it is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from registry_cleanup.domain.cron import Schedule, parse_time_zone
from registry_cleanup.domain.duration import parse_duration, parse_period
from registry_cleanup.domain.policy import RepositoryGlob, TagPattern
from registry_cleanup.domain.reference import is_repository
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.kube.in_use.json_path import JSONPath

# As the API server checks them.
_LABEL_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_LABEL_NAME}")
_LABEL_VALUE = re.compile(rf"({_LABEL_NAME})?")
_API_VERSION = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?v[0-9a-z]{1,61}")
_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")


def _check(parse: Callable[[str], object]) -> AfterValidator:
    """Return a validator that keeps the text and refuses what `parse` refuses."""

    def validate(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(validate)


def _origin(text: str) -> None:
    try:
        Endpoint.of(text)
    except ValueError as error:
        raise ValueError("is not a URL; write for example 'https://registry.example.com:5000'") from error
    if re.fullmatch(r"https?://[^/?#@\s]+", text) is None:
        raise ValueError("must be scheme, host and port only, without path; write 'https://host[:port]'")
    if Endpoint.of(text).link_local:
        raise ValueError("is a link-local address, which is never a registry")


def _token_url(text: str) -> None:
    try:
        endpoint = Endpoint.of(text)
    except ValueError as error:
        raise ValueError(
            "is not a URL; write for example 'https://host:8443/image-manager/api/v1/auth/token'"
        ) from error
    if endpoint.link_local:
        raise ValueError("is a link-local address, which is never a token service")


def label_key(text: str) -> None:
    """Raise `ValueError` where `text` is not the key of a label, or of an annotation in lower case."""
    if _LABEL_KEY.fullmatch(text) is None:
        raise ValueError("is not the key of a label; write for example 'team' or 'example.com/team'")


def label_value(text: str) -> None:
    """Raise `ValueError` where `text` is not the value of a label."""
    if _LABEL_VALUE.fullmatch(text) is None:
        raise ValueError("is not the value of a label: at most 63 letters, digits, '-', '_' and '.'")


def _api_version(text: str) -> None:
    if _API_VERSION.fullmatch(text) is None:
        raise ValueError("is not an apiVersion; write for example 'serving.knative.dev/v1', of the core group 'v1'")


def _kind(text: str) -> None:
    if _KIND.fullmatch(text) is None:
        raise ValueError("is not a kind; write for example 'Service', as the objects have it")


def _repository(text: str) -> None:
    if not is_repository(text):
        raise ValueError("is no name of a repository; write one in lower case without host and tag, such as ops/undo")


def _alias(text: str) -> None:
    if not is_repository(text):
        raise ValueError("is not a path prefix; write for example 'docker-hub' or 'mirror/quay', without host")


GlobText = Annotated[str, _check(RepositoryGlob)]
PatternText = Annotated[str, _check(TagPattern)]
DurationText = Annotated[str, _check(parse_duration)]
PeriodText = Annotated[str, _check(parse_period)]
ZoneText = Annotated[str, _check(parse_time_zone)]
ScheduleText = Annotated[str, _check(lambda text: Schedule(text, ZoneInfo("Etc/UTC")))]
OriginText = Annotated[str, _check(_origin)]
TokenURLText = Annotated[str, _check(_token_url)]
LabelKeyText = Annotated[str, _check(label_key)]
LabelValueText = Annotated[str, _check(label_value)]
APIVersionText = Annotated[str, _check(_api_version)]
KindText = Annotated[str, _check(_kind)]
AliasText = Annotated[str, _check(_alias)]
RepositoryText = Annotated[str, _check(_repository)]
JSONPathText = Annotated[str, _check(JSONPath.parse)]
