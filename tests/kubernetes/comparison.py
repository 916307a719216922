"""What kustomize and Helm make of the same: they must differ in nothing but what each writes in its own way."""

from __future__ import annotations

import copy
import re


def compared(manifests: list[dict]) -> dict[str, dict]:
    """Manifests by kind, without what kustomize and Helm have to write in their own ways."""
    by_kind = {}
    for manifest in copy.deepcopy(manifests):
        name = re.sub(r"-[a-z0-9]{10}$", "", manifest["metadata"]["name"])
        key = f"{manifest['kind']} {name}"
        manifest.pop("metadata")
        strip(manifest)
        by_kind[key] = manifest
    return by_kind


# Labels of Helm's conventions, and a hash where kustomize has it in the name.
OWN_LABELS = re.compile(r"^(app\.kubernetes\.io/(instance|version|managed-by)|helm\.sh/chart|checksum/settings)$")


def strip(value: object) -> None:
    if isinstance(value, dict):
        for key in [key for key in value if isinstance(key, str) and OWN_LABELS.match(key)]:
            del value[key]
        value.pop("imagePullPolicy", None)
        if "configMapRef" in value:
            value["configMapRef"]["name"] = re.sub(r"-[a-z0-9]{10}$", "", value["configMapRef"]["name"])
        for inner in value.values():
            strip(inner)
        if value.get("annotations") == {}:
            del value["annotations"]
    elif isinstance(value, list):
        for inner in value:
            strip(inner)


def differences(path: str, one: object, other: object) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [line for key in keys for line in differences(f"{path}.{key}", one.get(key), other.get(key))]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other))
        return [line for index, (left, right) in pairs for line in differences(f"{path}[{index}]", left, right)]
    return [] if one == other else [f"{path}: kustomize {one!r}, Helm {other!r}"]
