"""Real text vectors with no network, no key and no bill: the model that ships inside the wordllama package.

The model is a bag of words: the mean of 256 float16 numbers per token. Its files are read directly and
checked by SHA-256; the package itself is never imported (it would configure the root logger, import an HTTP
client and look for newer files). A test holds that the vectors are those of `WordLlama.embed`.

From 256 to the API's 128-3072 dimensions leads a fixed map. With x the 256 numbers, H the 256 by 256
Sylvester-Hadamard matrix (entries ±1) and D_b diagonal signs (bits of a SHA-256 of a fixed label), the 3072
numbers are 12 blocks:

    block 0 = x            block b = H·D_b·x / 16  (b = 1 … 11)

scaled to length 1. Every block is an orthonormal image of x, so the cosine similarity of two texts at 3072,
and at every multiple of 256, is exactly wordllama's (but for the rounding to float32). Smaller sizes are
`core.vector.cut` of the 3072, as with the model this stands in for: the first 256 are x itself, whose own
first 128 are a sensible truncation (the model is MRL-trained), and any size between multiples of 256 is a
Johnson-Lindenstrauss-style approximation.

All sums are exact in float64 (float16 values are multiples of 2^-24, up to 2^18 tokens), so neither batch,
word order, BLAS nor CPU changes a bit. A text without any token gets a unit vector made from its SHA-256.

A PDF is embedded by its text. Images, audio and video get unit vectors made from the SHA-256 of their bytes,
as does a PDF without text: deterministic, different, and without any meaning (`Offer.made_up`). A content of
both is the sum of the text's unit vector and theirs. Tokens are the texts', and of what is made up the
catalogue's estimate.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedonce.core import vector
from embedonce.core.catalog import Model, estimated_tokens
from embedonce.core.content import Content, MediaPart, Modality, Part, TextPart
from embedonce.core.pricing import Price
from embedonce.core.tasks import PREFIX_RECIPE
from embedonce.ports import Offer, UpstreamAnswer, UpstreamCall
from embedonce.upstreams.failure import Kind, UpstreamFailure
from embedonce.upstreams.recipe import prefixed, sends

if TYPE_CHECKING:
    import numpy as np

SPACE = "wordllama-0.4.0.post1-l2_supercat_256"
"""Names the files and the map below: a change of either needs another name."""
WEIGHTS = (
    "weights/l2_supercat_256.safetensors",
    "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
)
TOKENIZER = (
    "tokenizers/l2_supercat_tokenizer_config.json",
    "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
)
NATIVE = 256
BLOCKS = 12
FULL = NATIVE * BLOCKS
MAX_INPUTS = 512
MAX_BYTES = 4_000_000

_SIGNS_LABEL = b"embedonce/embedded/signs/1"
_NO_VECTOR_LABEL = b"embedonce/embedded/no-vector/1"
_MADE_UP_LABEL = b"embedonce/embedded/made-up/1"
MADE_UP = frozenset({Modality.IMAGE, Modality.AUDIO, Modality.VIDEO})


class Embedded:
    """Thread-safe. `folder`: of the wordllama package; None: where it is installed."""

    name = "embedded"

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._loaded: tuple[Any, np.ndarray, np.ndarray] | None = None

    def offer(self, model: Model) -> Offer | None:
        """Every model. Not `distinct`: a bag of words gives "a b" and "b a" one vector."""
        return Offer(
            lineage=f"embedded:{SPACE}:{PREFIX_RECIPE}",
            model=model.id,
            modalities=model.modalities,
            max_inputs=MAX_INPUTS,
            max_bytes=MAX_BYTES,
            recipe=prefixed,
            sends=sends(frozenset()),
            prices=dict.fromkeys(model.modalities, Price.FREE),
            distinct=False,
            made_up=MADE_UP & model.modalities,
        )

    def close(self) -> None:
        """Nothing is open."""

    def embed(self, call: UpstreamCall, *, timeout: float) -> UpstreamAnswer:
        """Computes here, so it takes the time it takes (a millisecond a text, a PDF a process of its own).

        :raises UpstreamFailure: MISCONFIGURED (not installed, other files), REJECTED (over 3072, a PDF that
            cannot be read)
        :raises ServiceUnavailable: no process for a PDF could be had
        """
        size = call.dimensions or call.model.dimensions.default or FULL
        if size > FULL:
            raise UpstreamFailure(Kind.REJECTED, f"{self.name} makes at most {FULL} dimensions")
        self.load()
        vectors, tokens = [], 0
        for content in call.contents:
            full, count = self._full(content, timeout)
            vectors.append(full if size == FULL else vector.cut(full, size))
            tokens += count
        return UpstreamAnswer(vectors=tuple(vectors), tokens=tokens, cost=0)

    def load(self) -> None:
        """Read the model now (0.3 s) and not with the first text.

        :raises UpstreamFailure: MISCONFIGURED
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._folder)

    def _full(self, content: Content, timeout: float) -> tuple[bytes, int]:
        """The 3072 dimensions of the content's parts taken together, and how many tokens those are."""
        import numpy as np

        assert self._loaded is not None
        tokenizer, weights, signs = self._loaded
        ids: list[int] = []
        made_up: list[MediaPart] = []
        for part in content.parts:
            text = _text_of(part, timeout)
            found = [] if text is None else tokenizer.encode(text, add_special_tokens=False).ids
            ids += found
            if isinstance(part, MediaPart) and not found:
                made_up.append(part)
        different, counts = np.unique(np.asarray(ids, dtype=np.int64), return_counts=True)
        total = counts.astype(np.float64) @ weights[different].astype(np.float64)
        if made_up:
            units = [_unit(_from_media(part)) for part in made_up]
            total = sum(units, start=_unit(total) if total.any() else total)
        elif not total.any():
            total = _from_hash(content)
        tokens = len(ids) + sum(estimated_tokens(Content((part,))) for part in made_up)
        return vector.pack(expand(total, signs)), tokens


def _text_of(part: Part, timeout: float) -> str | None:
    """None for what is not read.

    :raises UpstreamFailure: REJECTED, a PDF that cannot be read
    """
    if isinstance(part, TextPart):
        return part.text
    if part.modality is not Modality.PDF:
        return None
    from embedonce.media.child import Unreadable, pdf_text

    try:
        return pdf_text(part.sent_bytes, timeout=timeout).strip()
    except Unreadable as reason:
        raise UpstreamFailure(Kind.REJECTED, f"input: {reason}") from None


def sign_blocks() -> np.ndarray:
    """The diagonals of D_1 … D_11: shape (11, 256), values ±1."""
    import numpy as np

    rows = [hashlib.sha256(_SIGNS_LABEL + bytes([b])).digest() for b in range(1, BLOCKS)]
    bits = np.unpackbits(np.frombuffer(b"".join(rows), dtype=np.uint8)).reshape(BLOCKS - 1, NATIVE)
    return 1.0 - 2.0 * bits


def expand(x: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """256 numbers, not all zero, to 3072 of length 1 (float64): the map of the module's docstring."""
    import numpy as np

    blocks = signs * x
    width = 1
    while width < NATIVE:
        pairs = blocks.reshape(BLOCKS - 1, -1, 2, width)
        blocks = np.stack((pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]), axis=2)
        width *= 2
    length = math.sqrt(math.fsum(value * value for value in x.tolist()))
    whole = np.concatenate((16.0 * x, blocks.reshape(-1)))
    scaled: np.ndarray = whole / (16.0 * length * math.sqrt(BLOCKS))
    return scaled


def _from_hash(content: Content) -> np.ndarray:
    """From the SHA-256 of the parts (length-prefixed)."""
    seed = hashlib.sha256(_NO_VECTOR_LABEL)
    for part in content.parts:
        seed.update(len(part.sent_bytes).to_bytes(8, "big") + part.sent_bytes)
    return _odd_numbers(seed.digest())


def _from_media(part: MediaPart) -> np.ndarray:
    """From the digest alone: the bytes are not looked at."""
    seed = hashlib.sha256(_MADE_UP_LABEL + part.modality.value.encode().ljust(8, b"\0") + part.sha256)
    return _odd_numbers(seed.digest())


def _odd_numbers(seed: bytes) -> np.ndarray:
    """256 odd integers, so none is zero."""
    import numpy as np

    stream = b"".join(hashlib.sha256(seed + bytes([i])).digest() for i in range(NATIVE // 32))
    return 2.0 * np.frombuffer(stream, dtype=np.uint8) - 255.0


def _unit(x: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = x / math.sqrt(math.fsum(value * value for value in x.tolist()))
    return scaled


def _load(folder: Path | None) -> tuple[Any, np.ndarray, np.ndarray]:
    spec = importlib.util.find_spec("wordllama") if folder is None else None
    if spec is not None and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0])
    try:
        import safetensors.numpy
        from tokenizers import Tokenizer
    except ImportError:
        folder = None
    if folder is None:
        message = "the embedded model is not installed: pip install 'embedonce[local]'"
        raise UpstreamFailure(Kind.MISCONFIGURED, message)
    tokenizer = Tokenizer.from_buffer(_checked(folder, *TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    weights = safetensors.numpy.load(_checked(folder, *WEIGHTS))["embedding.weight"]
    return tokenizer, weights, sign_blocks()


def _checked(folder: Path, name: str, sha256: str) -> bytes:
    """The file's bytes: what was checked is what is used."""
    try:
        data = (folder / name).read_bytes()
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() != sha256:
        message = f"the file {name} of the embedded model is not the one this version was made with"
        raise UpstreamFailure(
            Kind.MISCONFIGURED, f"{message}: pip install --force-reinstall 'embedonce[local]'"
        )
    return data
