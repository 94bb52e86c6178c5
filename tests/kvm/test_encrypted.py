"""Encrypted dumps, made with the openssl command."""

from __future__ import annotations

import random
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kvm.packed import AES, CHACHA, encrypt, kernel_gzip, kernel_zstd, openssl, private_key
from tests.writers.kerneldump import partition
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.minidump import minidump
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.exceptions import FormatError, MissingPieceError
from volatility3_freebsd_kvm.kvm import encrypted
from volatility3_freebsd_kvm.kvm.reader import BytesReader, SectionReader

pytest.importorskip("cryptography", reason="the package cryptography, which decrypts, is not installed")

CIPHERS = {AES: "AES-256-CBC", CHACHA: "ChaCha20"}
PADDINGS = ["oaep", "pkcs1"]
NO_DUMP = "what {} and key.3 decrypt is no dump: one of them belongs to another dump, or the beginning is damaged"
NEEDS_KEY = "pass the RSA private key: --freebsd-key with vol, key= with kvm.open"


def small_dump(seed: int = 1) -> bytes:
    memory = PhysicalMemory()
    memory.fill_random(0x10_0000, 40 * 4096, seed=seed)
    return minidump("amd64", 3, memory, [Mapping(0xFFFFFE00_00000000, 0x10_0000, 40 * 4096)], message_buffer=b"hello\n")


DUMP = small_dump()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return private_key(tmp_path_factory.mktemp("keys") / "private.pem")


@pytest.fixture(scope="module")
def other_pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return private_key(tmp_path_factory.mktemp("keys") / "other.pem")


def saved(directory: Path, dump: bytes, key: bytes, number: int = 3, suffix: str = "") -> Path:
    path = directory / f"vmcore_encrypted.{number}{suffix}"
    path.write_bytes(dump)
    (directory / f"key.{number}").write_bytes(key)
    return path


def opened(path: Path, pem: Path, **options: Path) -> bytes:
    with kvm.open(path, key=pem, **options) as dump:
        return dump.reader.buffer[0 : dump.reader.size]


# --- every kind ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_saved_dump(cipher: int, padding: str, pem: Path, tmp_path: Path):
    path = saved(tmp_path, *encrypt(DUMP, pem, cipher, padding=padding))
    with kvm.open(path, key=pem) as dump:
        assert dump.reader.buffer[0 : dump.reader.size] == DUMP
        assert dump.warnings == []
        assert dump.unwrapped is not None
        assert dump.unwrapped.containers == ((CIPHERS[cipher], f"{CIPHERS[cipher]}, {len(DUMP)} bytes", len(DUMP)),)


@pytest.mark.parametrize("bits", [1024, 2047, 4096])
def test_keys_of_other_sizes(bits: int, tmp_path: Path):
    pem = private_key(tmp_path / "private.pem", bits)
    assert opened(saved(tmp_path, *encrypt(DUMP, pem, AES)), pem) == DUMP


def test_keys_in_the_older_format(pem: Path, tmp_path: Path):
    old = tmp_path / "old.pem"
    openssl("rsa", "-in", pem, "-traditional", "-out", old)
    assert old.read_bytes().startswith(b"-----BEGIN RSA PRIVATE KEY-----")
    assert opened(saved(tmp_path, *encrypt(DUMP, pem, CHACHA)), old) == DUMP


@pytest.mark.parametrize("pack", [kernel_gzip, kernel_zstd])
def test_compressed_and_then_encrypted(pack: Callable[[bytes], bytes], pem: Path, tmp_path: Path):
    path = saved(tmp_path, *encrypt(pack(DUMP), pem, CHACHA))
    with kvm.open(path, key=pem) as dump:
        assert dump.reader.buffer[0 : dump.reader.size] == DUMP
        assert dump.unwrapped is not None
        assert [one.kind for one in dump.unwrapped.containers] == ["ChaCha20", pack.__name__.removeprefix("kernel_")]


@pytest.mark.parametrize("cipher", CIPHERS)
def test_encrypted_and_then_compressed(cipher: int, pem: Path, tmp_path: Path):
    """savecore -z."""
    dump, key = encrypt(DUMP, pem, cipher)
    assert opened(saved(tmp_path, kernel_gzip(dump), key, suffix=".gz"), pem) == DUMP


@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("cipher", CIPHERS)
def test_still_on_its_device(cipher: int, cleared: bool, pem: Path, tmp_path: Path):
    dump, key = encrypt(DUMP, pem, cipher)
    path = tmp_path / "ada0p2"
    path.write_bytes(partition(dump, key=key, cleared=cleared))
    with kvm.open(path, key=pem) as opened_dump:
        assert opened_dump.reader.buffer[0 : opened_dump.reader.size] == DUMP
        assert opened_dump.unwrapped is not None
        assert [one.kind for one in opened_dump.unwrapped.containers] == ["dump device", CIPHERS[cipher]]


def test_compressed_encrypted_and_still_on_its_device(pem: Path, tmp_path: Path):
    dump, key = encrypt(kernel_gzip(DUMP), pem, CHACHA)
    path = tmp_path / "ada0p2"
    path.write_bytes(partition(dump, key=key, compression=1, sector=4096))
    assert opened(path, pem) == DUMP


@pytest.mark.parametrize("name", ["vmcore_encrypted.last", "dump.bin"])
def test_other_names(name: str, pem: Path, tmp_path: Path):
    """The link to the newest dump, and a name of somebody's own beside the only key file."""
    dump, key = encrypt(DUMP, pem, AES)
    path = saved(tmp_path, dump, key)
    if name.endswith("last"):
        (tmp_path / "key.last").symlink_to("key.3")
    path.rename(tmp_path / name)
    assert opened(tmp_path / name, pem) == DUMP


# --- reading here and there ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=CIPHERS, ids=list(CIPHERS.values()))
def decrypted(request: pytest.FixtureRequest, pem: Path) -> tuple[encrypted.DecryptedReader, bytes]:
    data = random.Random(7).randbytes(100_000)
    packed, block = encrypt(data, pem, request.param)
    key = encrypted.parse_key(block, "key.0")
    data = data.ljust(len(packed), b"\0")
    return encrypted.DecryptedReader(BytesReader(packed), key, encrypted.unlock(key, pem, "key.0")), data


@given(places=st.lists(st.tuples(st.integers(0, 101_000), st.integers(0, 50_000)), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_any_piece_is_what_it_should_be(
    decrypted: tuple[encrypted.DecryptedReader, bytes], places: list[tuple[int, int]]
):
    reader, data = decrypted
    for start, length in places:
        assert reader.buffer[start : start + length] == data[start : start + length]


@pytest.mark.parametrize("at", [0, 1, 15, 16, 63, 64, 4095, 16383, 16384, 32768, 99_983, 99_999])
@pytest.mark.parametrize("length", [1, 16, 8192, 16383, 16384, 20_000])
def test_borders(decrypted: tuple[encrypted.DecryptedReader, bytes], at: int, length: int):
    reader, data = decrypted
    assert reader.buffer[at : at + length] == data[at : at + length]


class Zeros:
    """A very large encrypted file of zeros."""

    size, name, path = 1 << 40, "zeros", None

    def __init__(self) -> None:
        self.buffer = self

    def __getitem__(self, index: slice, /) -> bytes:
        return bytes(index.stop - index.start)

    def close(self) -> None:
        pass


def test_the_block_counter_has_64_bits(pem: Path):
    """Of ChaCha20: the key stream at 256 GiB is not the one at 0. Expected by openssl with that counter."""
    key = encrypted.KeyBlock(CHACHA, bytes(range(32)), b"")
    secret = bytes(range(64))
    reader = encrypted.DecryptedReader(Zeros(), key, secret)
    border = 64 << 32

    def stream(counter: int, length: int) -> bytes:
        start = counter.to_bytes(8, "little") + bytes(range(8))
        return openssl("enc", "-chacha20", "-K", secret[:32].hex(), "-iv", start.hex(), "-e", data=bytes(length))

    assert reader.buffer[border : border + 100] == stream(1 << 32, 128)[:100]
    around = stream((1 << 32) - 512, 512 * 64) + stream(1 << 32, 512 * 64)
    assert reader.buffer[border - 512 * 64 : border + 512 * 64] == around
    assert reader.buffer[border - 10 : border + 10] == around[512 * 64 - 10 : 512 * 64 + 10]


@pytest.mark.parametrize("cut", [1, 15, 4096, 50_001])
@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_cut_off_dump_is_read_as_far_as_it_goes(cipher: int, cut: int, pem: Path, tmp_path: Path):
    dump, key = encrypt(DUMP, pem, cipher)
    with kvm.open(saved(tmp_path, dump[:-cut], key), key=pem) as opened_dump:
        size = len(DUMP) - cut if cipher == CHACHA else (len(DUMP) - cut) // 16 * 16
        assert opened_dump.reader.size == size
        assert opened_dump.reader.buffer[0:size] == DUMP[:size]
        assert opened_dump.pages_beyond_end > 0


# --- nothing decrypted stays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, kernel_gzip])
def test_nothing_decrypted_is_written(
    pack: Callable[[bytes], bytes], pem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A copy of what was compressed, too, has no name."""
    cache = tmp_path / "cache"
    made: list[str] = []
    temporary = tempfile.TemporaryFile

    def remember(**options: object) -> object:
        made.append(str(options["dir"]))
        return temporary(**options)  # type: ignore[call-overload]

    monkeypatch.setattr("tempfile.TemporaryFile", remember)
    path = saved(tmp_path, *encrypt(pack(DUMP), pem, CHACHA))
    for _ in range(2):
        with kvm.open(path, key=pem, cache=cache) as dump:
            assert dump.reader.buffer[0 : dump.reader.size] == DUMP
            assert not cache.exists() or list((cache / "dumps").iterdir()) == []
    assert made == ([] if pack is bytes else [str(cache / "dumps")] * 2)


def test_what_is_compressed_outside_may_be_kept(pem: Path, tmp_path: Path):
    """It is the encrypted dump."""
    dump, key = encrypt(DUMP, pem, AES)
    cache = tmp_path / "cache"
    assert opened(saved(tmp_path, kernel_gzip(dump), key, suffix=".gz"), pem, cache=cache) == DUMP
    (copy,) = (one for one in (cache / "dumps").iterdir() if one.suffix != ".json")
    assert copy.read_bytes() == dump


# --- what can be wrong -----------------------------------------------------------------------------------------------


def refusal(path: Path, pem: Path | None) -> str:
    with pytest.raises(FormatError) as error:
        kvm.open(path, key=pem)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_without_a_key(pem: Path, tmp_path: Path):
    path = saved(tmp_path, *encrypt(DUMP, pem, AES))
    assert refusal(path, None) == f"the dump is encrypted with AES-256-CBC; {NEEDS_KEY}"
    device = tmp_path / "device"
    dump, key = encrypt(DUMP, pem, CHACHA)
    device.write_bytes(partition(dump, key=key))
    assert refusal(device, None) == f"the dump is encrypted with ChaCha20; {NEEDS_KEY}"


@pytest.mark.parametrize("padding", PADDINGS)
def test_another_private_key(padding: str, pem: Path, other_pem: Path, tmp_path: Path):
    path = saved(tmp_path, *encrypt(DUMP, pem, AES, padding=padding))
    assert refusal(path, other_pem) in (
        f"{other_pem} does not open key.3: it is not the private key to the public key that dumpon was given",
        # Where PKCS #1 v1.5 padding is wrong, OpenSSL makes up a key, which once in a while has the right length.
        NO_DUMP.format(other_pem),
    )


def test_a_private_key_of_another_size(pem: Path, tmp_path: Path):
    small = private_key(tmp_path / "small.pem", 1024)
    path = saved(tmp_path, *encrypt(DUMP, pem, AES))
    assert refusal(path, small) == f"{small} does not open key.3: its modulus has 1024 bits, 2048 wanted"


@pytest.mark.parametrize("cipher", CIPHERS)
def test_the_key_file_of_another_dump(cipher: int, pem: Path, tmp_path: Path):
    dump, _ = encrypt(DUMP, pem, cipher)
    _, key = encrypt(DUMP, pem, cipher, seed=2)
    assert refusal(saved(tmp_path, dump, key), pem) == NO_DUMP.format(pem)


def test_the_key_file_is_missing(pem: Path, tmp_path: Path):
    path = saved(tmp_path, *encrypt(DUMP, pem, AES))
    (tmp_path / "key.3").rename(tmp_path / "key.4")
    assert refusal(path, pem) == "the dump is encrypted, and its key file key.3 is not beside it"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda key: b"", "has 0 bytes"),
        (lambda key: key[:36], "has 36 bytes"),
        (lambda key: b"\x03" + key[1:], "cipher 3, an encrypted key of 256 bytes"),
        (lambda key: key[:33] + struct.pack(">I", 0) + key[37:], "an encrypted key of 0 bytes"),
        (lambda key: key[:33] + struct.pack(">I", 1 << 31) + key[37:], "an encrypted key of 2147483648 bytes"),
        (lambda key: key[:-1], "an encrypted key of 256 bytes"),
    ],
)
def test_key_files_that_are_none(change: Callable[[bytes], bytes], reason: str, pem: Path, tmp_path: Path):
    dump, key = encrypt(DUMP, pem, AES)
    said = refusal(saved(tmp_path, dump, change(key)), pem)
    assert said.startswith(f"{tmp_path / 'key.3'} is no key of an encrypted dump: ")
    assert reason in said


def test_every_byte_of_a_key_file_matters_or_does_not(pem: Path, tmp_path: Path):
    dump, key = encrypt(DUMP, pem, CHACHA)
    outcomes = set()
    for at in [*range(45), 100, len(key) - 1]:
        changed = key[:at] + bytes([key[at] ^ 0x41]) + key[at + 1 :]
        path = saved(tmp_path, dump, changed)
        try:
            with kvm.open(path, key=pem) as opened_dump:
                outcomes.add(opened_dump.reader.buffer[0:100] == DUMP[:100])
        except FormatError as error:
            outcomes.add("\n" in str(error))
    # ChaCha20 uses 8 of the 32 bytes of iv: a change in the others changes nothing.
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path, pem: path.write_bytes(b""), "holds no RSA private key in PEM form"),
        (lambda path, pem: path.write_bytes(b"\0" * 5000), "holds no RSA private key in PEM form"),
        (lambda path, pem: path.write_bytes(pem.read_bytes()[:-200]), "holds no RSA private key in PEM form"),
        (
            lambda path, pem: path.write_bytes(openssl("pkey", "-in", pem, "-pubout")),
            "holds no RSA private key in PEM form",
        ),
        (
            lambda path, pem: path.write_bytes(openssl("genpkey", "-algorithm", "ED25519")),
            "holds no RSA private key, but another kind of key",
        ),
        (
            lambda path, pem: path.write_bytes(openssl("pkey", "-in", pem, "-aes256", "-passout", "pass:secret")),
            "is protected by a passphrase; openssl pkey -in bad.pem writes one without",
        ),
    ],
    ids=["empty", "zeros", "cut off", "public", "another kind", "with a passphrase"],
)
def test_files_that_hold_no_private_key(make: Callable[[Path, Path], object], reason: str, pem: Path, tmp_path: Path):
    bad = tmp_path / "bad.pem"
    make(bad, pem)
    said = refusal(saved(tmp_path, *encrypt(DUMP, pem, AES)), bad)
    assert str(bad) in said
    assert reason in said


def test_a_private_key_that_is_not_there(pem: Path, tmp_path: Path):
    path = saved(tmp_path, *encrypt(DUMP, pem, AES))
    missing = tmp_path / "missing.pem"
    assert refusal(path, missing) == f"the key {missing} cannot be read: No such file or directory"
    assert refusal(path, tmp_path) == f"the key {tmp_path} cannot be read: Is a directory"


def test_without_the_library_that_is_said(pem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = saved(tmp_path, *encrypt(DUMP, pem, AES))
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert refusal(path, pem) == "the dump is encrypted: pip install 'volatility3-freebsd-kvm[crypto]' to read it"


def test_a_key_to_a_dump_that_is_not_encrypted_does_no_harm(pem: Path, tmp_path: Path):
    path = tmp_path / "vmcore.0"
    path.write_bytes(DUMP)
    assert opened(path, pem) == DUMP


def test_noise_with_a_key_but_without_a_key_file_is_no_dump(pem: Path, tmp_path: Path):
    path = tmp_path / "noise"
    path.write_bytes(random.Random(1).randbytes(50_000))
    assert refusal(path, pem).endswith("is no FreeBSD kernel dump: neither a minidump nor an ELF core")


def test_a_device_whose_key_is_damaged(pem: Path, tmp_path: Path):
    dump, _ = encrypt(DUMP, pem, AES)
    path = tmp_path / "device"
    path.write_bytes(partition(dump, key=bytes(300)))
    assert refusal(path, pem) == (
        f"the key block of {path} is no key of an encrypted dump: cipher 0, an encrypted key of 0 bytes"
    )


def test_a_part_of_a_file_of_aes_blocks_only():
    key = encrypted.KeyBlock(AES, bytes(32), b"")
    reader = encrypted.DecryptedReader(SectionReader(BytesReader(bytes(100)), 3, 50), key, bytes(64))
    assert reader.size == 48
    assert len(reader.buffer[0:1000]) == 48
    assert reader.buffer[48:49] == b""


def test_missing_pieces_are_format_errors():
    assert issubclass(MissingPieceError, FormatError)
