"""The API's refusals, word for word as `facts/openshift.md` has them where it has them."""

from collections.abc import Mapping
from typing import Any

GROUP = "image.openshift.io"
_RETRY_SECONDS = 2


class RefusalError(Exception):
    """A request that the API does not carry out.

    Attributes:
        status: HTTP status.
        body: A Kubernetes Status.
        headers: Besides those of every answer.
    """

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body["message"])
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def _failure(
    code: int,
    reason: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> RefusalError:
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        **({} if details is None else {"details": details}),
        "code": code,
    }
    return RefusalError(code, body, headers)


def _details(resource: str, name: str) -> dict[str, Any]:
    return {"name": name, "group": GROUP, "kind": resource}


def not_found(resource: str, name: str) -> RefusalError:
    return _failure(404, "NotFound", f'{resource}.{GROUP} "{name}" not found', _details(resource, name))


def already_exists(resource: str, name: str) -> RefusalError:
    return _failure(409, "AlreadyExists", f'{resource}.{GROUP} "{name}" already exists', _details(resource, name))


def conflict(resource: str, name: str, why: str) -> RefusalError:
    message = f'Operation cannot be fulfilled on {resource}.{GROUP} "{name}": {why}'
    return _failure(409, "Conflict", message, _details(resource, name))


def modified(name: str) -> RefusalError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict("imagestreams", name, why)


def no_resource_version(name: str) -> RefusalError:
    field, problem = "metadata.resourceVersion", "Invalid value: 0: must be specified for an update"
    causes = [{"reason": "FieldValueInvalid", "message": problem, "field": field}]
    message = f'imagestreams.{GROUP} "{name}" is invalid: {field}: {problem}'
    return _failure(422, "Invalid", message, {**_details("imagestreams", name), "causes": causes})


def immutable_uid(name: str) -> RefusalError:
    message = f'ImageStream.{GROUP} "{name}" is invalid: metadata.uid: Invalid value: field is immutable'
    return _failure(422, "Invalid", message, _details("imagestreams", name))


def bad_request(message: str) -> RefusalError:
    return _failure(400, "BadRequest", message)


def bad_dry_run(value: str) -> RefusalError:
    problem = f'dryRun: Unsupported value: "{value}": supported values: "All"'
    message = f'DeleteOptions.meta.k8s.io "" is invalid: {problem}'
    return _failure(422, "Invalid", message, {"group": "meta.k8s.io", "kind": "DeleteOptions"})


def expired() -> RefusalError:
    return _failure(410, "Expired", "The resourceVersion or continue parameter is too old.")


def server_timeout(resource: str, operation: str) -> RefusalError:
    message = (
        f"The {operation} operation against {resource}.{GROUP} could not be completed at this time, please try again."
    )
    details = {**_details(resource, operation), "retryAfterSeconds": _RETRY_SECONDS}
    return _failure(500, "ServerTimeout", message, details, {"Retry-After": str(_RETRY_SECONDS)})


def unauthorized() -> RefusalError:
    return _failure(401, "Unauthorized", "Unauthorized")


def not_allowed() -> RefusalError:
    return _failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def no_such_resource() -> RefusalError:
    return _failure(404, "NotFound", "the server could not find the requested resource", {})


def unsupported_media_type(message: str) -> RefusalError:
    return _failure(415, "UnsupportedMediaType", message)
