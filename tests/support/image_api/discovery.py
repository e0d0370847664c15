"""What the API says of itself. `facts/openshift.md` section 6."""

from collections.abc import Mapping
from typing import Any

from tests.support.image_api.documents import API_VERSION

_ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_OF_TAGS = ("create", "delete", "get", "list", "patch", "update")

# resource: kind, namespaced, verbs
_RESOURCES: Mapping[str, tuple[str, bool, tuple[str, ...]]] = {
    "images": ("Image", False, _ALL),
    "imagestreamimages": ("ImageStreamImage", True, ("get",)),
    "imagestreammappings": ("ImageStreamMapping", True, ("create",)),
    "imagestreams": ("ImageStream", True, _ALL),
    "imagestreams/layers": ("ImageStreamLayers", True, ("get",)),
    "imagestreams/status": ("ImageStream", True, ("get", "patch", "update")),
    "imagestreamtags": ("ImageStreamTag", True, _OF_TAGS),
    "imagetags": ("ImageTag", True, _OF_TAGS),
}

RESOURCE_LIST: Mapping[str, Any] = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": API_VERSION,
    "resources": [
        {
            "name": name,
            "singularName": "" if "/" in name else name.removesuffix("s"),
            "namespaced": namespaced,
            "kind": kind,
            "verbs": list(verbs),
            **({"shortNames": ["is"]} if name == "imagestreams" else {}),
            **({"shortNames": ["istag"]} if name == "imagestreamtags" else {}),
        }
        for name, (kind, namespaced, verbs) in _RESOURCES.items()
    ],
}
