"""Request keys and seeds.

The key of a deterministic request is blake2b-128 over everything that decides its answer (design: token ids subsume
tokenizer, template, BOS, few-shot order and truncation). A sampled request has no key but a seed, derived from its
identity, so that repeats differ and a second execution does not.
"""

import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from evalfleet_worker.requests import Request

KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class KeySpace:
    """What all requests of a run share: the numerics class, and the digest of model and tokenizer."""

    numerics: str
    model_digest: str

    def key(self, request: Request, ids: bytes) -> bytes:
        """The key of a deterministic request; `ids` are its token ids as `packed_ids` gives them."""
        head = f"{self.numerics}\0{self.model_digest}\0{request.type}\0{request.continuation_length}\0"
        return hashlib.blake2b(
            head.encode() + struct.pack("<Q", len(ids)) + ids + request.arguments.encode(), digest_size=KEY_BYTES
        ).digest()


def packed_ids(request: Request) -> bytes:
    """Token ids as big-endian uint32: byte order of the strings is depth-first order of their trie."""
    return np.asarray(request.token_ids, dtype=">u4").tobytes()


def sampling_seed(run_seed: int, request: Request) -> int:
    """63-bit seed of a sampled request: a hash of the run's seed and the request's identity."""
    identity = f"{run_seed}\0{request.evaluation}\0{request.type}\0{request.call_index}\0{request.part}"
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big") >> 1
