"""Encrypted dumps (EKCD), decrypted where they are read: no decrypted copy is made.

The kernel encrypts a dump with a one-time key, which it stores encrypted with the administrator's RSA key: in front
of the dump on the device, and in ``key.N`` beside a saved one.

# Reference: sys/sys/kerneldump.h (struct kerneldumpkey), sys/kern/kern_shutdown.c (kerneldumpcrypto_create,
# dump_encrypt), sbin/decryptcore/decryptcore.c
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..exceptions import FormatError, MissingPieceError
from .reader import Reader, Sliceable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

AES_256_CBC, CHACHA20 = 1, 2
CIPHERS = {AES_256_CBC: "AES-256-CBC", CHACHA20: "ChaCha20"}
MAX_KEY_BLOCK = 1 << 16
"""Bytes of a key file that are looked at; keys take 37 and the RSA modulus, at most 2048."""
_FIXED = struct.Struct(">B32sI")
_KEY_SIZE, _CIPHER_KEY = 64, 32
_MAX_MODULUS = 2048
_MAX_PEM = 1 << 16
_AES_BLOCK, _CHACHA_BLOCK = 16, 64
_CHACHA_SPAN = _CHACHA_BLOCK << 32
"""Bytes after which the low word of the block counter wraps; the library goes no further in one piece."""
_CHUNK = 1 << 14
_CHUNKS = 1024

Decrypt = Callable[[int, int], bytes]


class KeyBlock(NamedTuple):
    """A ``struct kerneldumpkey``: which cipher, its start value, and the encrypted key."""

    cipher: int
    iv: bytes
    encrypted_key: bytes

    @property
    def name(self) -> str:
        """Of the cipher."""
        return CIPHERS[self.cipher]


def parse_key(data: bytes, name: str) -> KeyBlock:
    """Decode a key block or a key file; ``name`` is what to call it.

    Raises:
        FormatError: it is none.
    """
    if len(data) < _FIXED.size:
        msg = f"{name} is no key of an encrypted dump: it has {len(data)} bytes"
        raise FormatError(msg)
    cipher, iv, size = _FIXED.unpack_from(data)
    if cipher not in CIPHERS or not 0 < size <= min(_MAX_MODULUS, len(data) - _FIXED.size):
        msg = f"{name} is no key of an encrypted dump: cipher {cipher}, an encrypted key of {size} bytes"
        raise FormatError(msg)
    return KeyBlock(cipher, iv, data[_FIXED.size : _FIXED.size + size])


def unlock(key: KeyBlock, pem: Path, name: str) -> bytes:
    """The one-time key; ``name`` is what to call its block.

    Raises:
        MissingPieceError: the library is missing, the private key cannot be read, or it does not open the block.
    """
    private = _private_key(pem)
    padding, hashes = _library("asymmetric.padding"), _library("hashes")
    if -(-private.key_size // 8) != len(key.encrypted_key):
        msg = (
            f"{pem} does not open {name}: its modulus has {private.key_size} bits, {8 * len(key.encrypted_key)} wanted"
        )
        raise MissingPieceError(msg)
    # dumpon(8) used PKCS #1 v1.5 at first.
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    for scheme in (oaep, padding.PKCS1v15()):
        try:
            found = bytes(private.decrypt(key.encrypted_key, scheme))
        except ValueError:
            continue
        if len(found) == _KEY_SIZE:
            return found
    msg = f"{pem} does not open {name}: it is not the private key to the public key that dumpon was given"
    raise MissingPieceError(msg)


def read_small(path: Path, limit: int) -> bytes:
    """The first ``limit`` bytes of a file that has something to do with a key.

    Raises:
        MissingPieceError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        msg = f"the key {path} cannot be read: {error.strerror}"
        raise MissingPieceError(msg) from None


def _library(name: str) -> Any:
    try:
        return import_module(f"cryptography.hazmat.primitives.{name}")
    except ImportError:
        msg = "the dump is encrypted: pip install 'volatility3-freebsd-kvm[crypto]' to read it"
        raise MissingPieceError(msg) from None


def _private_key(pem: Path) -> RSAPrivateKey:
    """The RSA private key in a file."""
    serialization, rsa = _library("serialization"), _library("asymmetric.rsa")
    data = read_small(pem, _MAX_PEM)
    try:
        private = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        msg = f"the private key {pem} is protected by a passphrase; openssl pkey -in {pem.name} writes one without"
        raise MissingPieceError(msg) from None
    except Exception as error:  # noqa: BLE001 - the library has more than it documents
        msg = f"{pem} holds no RSA private key in PEM form ({str(error).partition('.')[0] or type(error).__name__})"
        raise MissingPieceError(msg) from None
    if not isinstance(private, rsa.RSAPrivateKey):
        msg = f"{pem} holds no RSA private key, but another kind of key"
        raise MissingPieceError(msg)
    found: RSAPrivateKey = private
    return found


class DecryptedReader:
    """An encrypted dump, decrypted where it is read."""

    def __init__(self, reader: Reader, key: KeyBlock, secret: bytes) -> None:
        """Read ``reader`` with the one-time key ``secret``."""
        self._reader = reader
        self._key, self._secret = key, secret[:_CIPHER_KEY]
        self._ciphers = _library("ciphers")
        aes = key.cipher == AES_256_CBC
        self._decrypt: Decrypt = self._aes if aes else self._chacha
        self._block = _AES_BLOCK if aes else _CHACHA_BLOCK
        self._chunk = functools.lru_cache(_CHUNKS)(self._read_chunk)
        self.size = reader.size // _AES_BLOCK * _AES_BLOCK if aes else reader.size
        self.name = reader.name
        self.path = reader.path
        self.buffer: Sliceable = self

    def __getitem__(self, index: slice, /) -> bytes:
        """Decrypt ``[start:stop]``, clipped to the file; short reads come from a cache of chunks."""
        start, stop = index.start, min(index.stop, self.size)
        if start >= stop:
            return b""
        if stop - start >= _CHUNK:
            first = start // self._block * self._block
            last = min(-(-stop // self._block) * self._block, self.size)
            return self._decrypt(first, last)[start - first : stop - first]
        data = self._chunk(start // _CHUNK)
        start, stop = start % _CHUNK, start % _CHUNK + stop - start
        if stop > _CHUNK:
            data += self._chunk(index.start // _CHUNK + 1)
        return data[start:stop]

    def _read_chunk(self, number: int) -> bytes:
        return self._decrypt(number * _CHUNK, min((number + 1) * _CHUNK, self.size))

    def _aes(self, start: int, stop: int) -> bytes:
        """Decrypt whole blocks: one continuous CBC stream, so that each begins with the block before it."""
        data = self._reader.buffer[max(0, start - _AES_BLOCK) : stop]
        iv = self._key.iv[:_AES_BLOCK]
        if start:
            iv, data = data[:_AES_BLOCK], data[_AES_BLOCK:]
        ciphers = self._ciphers
        decryptor = ciphers.Cipher(ciphers.algorithms.AES(self._secret), ciphers.modes.CBC(iv)).decryptor()
        return bytes(decryptor.update(data))

    def _chacha(self, start: int, stop: int) -> bytes:
        """Decrypt from a block border on; the counter of blocks has 64 bits, the nonce the first 64 of the iv."""
        pieces = []
        algorithms = self._ciphers.algorithms
        while start < stop:
            end = min(stop, start - start % _CHACHA_SPAN + _CHACHA_SPAN)
            nonce = (start // _CHACHA_BLOCK).to_bytes(8, "little") + self._key.iv[:8]
            decryptor = self._ciphers.Cipher(algorithms.ChaCha20(self._secret, nonce), None).decryptor()
            pieces.append(bytes(decryptor.update(self._reader.buffer[start:end])))
            start = end
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Close the encrypted file, and forget what was decrypted."""
        self._chunk.cache_clear()
        self._reader.close()
