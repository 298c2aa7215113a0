"""Which places an allow-list permits: addresses, images, and variables that say where something is fetched. Pure.

An address is allowed when it lies below an allowed prefix in every reading that a library may have of it: as it is
written, percent-decoded, with `..` resolved, without user information. Prefixes end at separators, so that `hf://acme`
does not allow `hf://acme-evil`.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

DEFAULT_SCHEME = "hf"
"""Of an address without one: `org/name`."""
MOST_DECODINGS = 8
"""Percent-decodings after which an address is taken for an attack."""
WEB_SCHEMES = ("http", "https")

GUARDED = ("HF_", "AWS_", "AZURE_", "GOOGLE_")
"""Variables of libraries that fetch: each names a place unless it is known not to."""
LOADING = ("NCCL_", "TORCH_", "CUDA_", "TOKENIZERS_")
"""Variables of libraries that load code from paths."""
CREDENTIALS = frozenset(
    {
        *("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"),
        *("AWS_ROLE_SESSION_NAME", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        *("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_AUTHORITY_HOST"),
        *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"),
        *("GOOGLE_SERVICE_ACCOUNT_KEY",),
    }
)
"""Who asks, not where: any value."""
SWITCHES = frozenset(
    {
        *("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT", "HF_DEBUG"),
        *("HF_HUB_ENABLE_HF_TRANSFER", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_VERBOSITY"),
        *("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_XET_HIGH_PERFORMANCE", "HF_DATASETS_VERBOSITY"),
        *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE", "AWS_STS_REGIONAL_ENDPOINTS"),
        *("AWS_SKIP_SIGNATURE", "AWS_REQUEST_PAYER", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "AWS_ALLOW_HTTP"),
        *("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION", "AWS_EC2_METADATA_DISABLED"),
        *("AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT", "GOOGLE_CLOUD_PROJECT"),
    }
)
"""A word or a number that names no place; a region with a dot or slash in it would."""
PLAIN_WORD = re.compile(r"[A-Za-z0-9_-]*")

COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
REPOSITORY = re.compile(rf"{COMPONENT}(?:/{COMPONENT})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}")
HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
REGISTRY = re.compile(r"\.|:[0-9]+$")
"""What tells a registry from a name of the default one."""
DOCKER_HUB = "docker.io"


def is_allowed(address: str, prefixes: Iterable[str]) -> bool:
    """Whether one prefix holds for every reading of an address."""
    found = readings(address)
    return bool(found) and any(all(_is_below(reading, prefix) for reading in found) for prefix in prefixes)


def readings(address: str) -> frozenset[str]:
    """All that an address may be taken for; empty when it cannot be one."""
    scheme, rest = _parts(address)
    decoded = _decoded(rest)
    if decoded is None or not address.isprintable() or not decoded.isprintable():
        return frozenset()
    found: set[str] = set()
    for spelling in {rest, decoded, unicodedata.normalize("NFKC", decoded)}:
        for text in {spelling, spelling.replace("\\", "/")}:
            authority, slash, path = text.partition("/")
            resolved = _resolved(path)
            if resolved is None:
                return frozenset()
            for host in {authority, authority.rpartition("@")[2]}:
                found |= {f"{scheme}://{host.lower()}{slash}{way}" for way in (path, resolved)}
    return frozenset(found)


def _parts(address: str) -> tuple[str, str]:
    scheme, separator, rest = address.partition("://")
    return (scheme.lower(), rest) if separator else (DEFAULT_SCHEME, address)


def _decoded(text: str) -> str | None:
    """The text without percent-encoding, however often it was encoded; None for one without end."""
    for _ in range(MOST_DECODINGS):
        plain = unquote(text)
        if plain == text:
            return plain
        text = plain
    return None


def _resolved(path: str) -> str | None:
    """The path without empty, `.` and `..` segments; None when it leaves its root."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == ".." and not kept:
            return None
        if segment == "..":
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    return "/".join(kept)


def _is_below(reading: str, prefix: str) -> bool:
    scheme, rest = _parts(prefix)
    host, slash, path = rest.partition("/")
    head = f"{scheme}://{host.lower()}{slash}{path}"
    if not rest:  # a whole scheme
        return reading.startswith(head)
    head = head.rstrip("/") if host else head
    if reading == head or reading.startswith(head.rstrip("/") + "/"):
        return True
    after = reading.removeprefix(head)
    if after == reading:
        return False
    is_revision = scheme == "hf" and after.startswith("@") and "/" in rest.rstrip("/")
    is_port = scheme in WEB_SCHEMES and not path and re.match(r":[0-9]+(/|$)", after) is not None
    return is_revision or is_port


@dataclass(frozen=True, slots=True)
class _Image:
    registry: str
    repository: tuple[str, ...]
    tag: str = ""
    digest: str = ""


def is_allowed_image(image: str, prefixes: Iterable[str]) -> bool:
    """Whether an image lies below one of the prefixes: a registry, a part of a repository's path, a tag or a digest."""
    found = _image(image)
    return found is not None and any(_is_image_below(found, known) for prefix in prefixes for known in _prefix(prefix))


def _image(text: str) -> _Image | None:
    """An image reference by the grammar of registries; None for what is none."""
    rest, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        return None
    head, slash, tail = rest.partition("/")
    is_host = bool(slash) and ("." in head or ":" in head or head == "localhost")
    registry, path = (head.lower(), tail) if is_host else (DOCKER_HUB, rest)
    path, colon, tag = path.partition(":")
    if not HOST.fullmatch(registry) or not REPOSITORY.fullmatch(path) or (colon and not TAG.fullmatch(tag)):
        return None
    names = tuple(path.split("/"))
    if registry in (DOCKER_HUB, f"index.{DOCKER_HUB}"):
        registry, names = DOCKER_HUB, names if len(names) > 1 else ("library", *names)
    return _Image(registry, names, tag, digest)


def _prefix(text: str) -> tuple[_Image, ...]:
    """What a prefix may mean: a registry alone, an image or part of its path, a namespace of the default registry."""
    plain = text.rstrip("/")
    if "/" not in plain and HOST.fullmatch(plain) and (REGISTRY.search(plain) or plain == "localhost"):
        return (_Image(plain.lower(), ()),)
    namespace = _Image(DOCKER_HUB, (plain,)) if re.fullmatch(COMPONENT, plain) else None
    image = _image(plain) if namespace is None or text == plain else None
    return tuple(one for one in (namespace, image) if one is not None)


def _is_image_below(image: _Image, prefix: _Image) -> bool:
    depth = len(prefix.repository)
    if image.registry != prefix.registry or image.repository[:depth] != prefix.repository:
        return False
    if not prefix.tag and not prefix.digest:
        return True
    same_tag = not prefix.tag or image.tag == prefix.tag
    return len(image.repository) == depth and same_tag and (not prefix.digest or image.digest == prefix.digest)


def names_a_place(name: str, value: str) -> bool:
    """Whether a variable of a worker may say where something is fetched or loaded from."""
    if name.startswith(LOADING):
        return "/" in value or "\\" in value
    if name.upper().endswith("_PROXY"):
        return name.upper() != "NO_PROXY"
    if not name.startswith(GUARDED) or name in CREDENTIALS:
        return False
    return name not in SWITCHES or PLAIN_WORD.fullmatch(value) is None


def foreign_endpoint(environment: Mapping[str, str], allowed: Iterable[str]) -> str | None:
    """The first variable of a running pod that sends fetches elsewhere, whoever brought it; None when none does.

    Paths are not looked at here: images and platforms bring those of caches and token files.
    """
    listed = tuple(allowed)
    for name, value in sorted(environment.items()):
        is_proxy = name.upper().endswith("_PROXY")
        is_address = is_proxy or "ENDPOINT" in name or "://" in value or name.startswith("AZURE_STORAGE_ACCOUNT")
        if value and is_address and names_a_place(name, value) and not is_allowed(value, listed):
            return name
    return None
