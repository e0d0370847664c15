"""A stand-in for OpenShift's `image.openshift.io/v1`, held to facts by `tests/contract/test_image_api.py`."""

from tests.support.image_api.faults import ApiRequest
from tests.support.image_api.refusals import RefusalError
from tests.support.image_api.standin import BUILT, ImageApi, image_api

__all__ = ["BUILT", "ApiRequest", "ImageApi", "RefusalError", "image_api"]
