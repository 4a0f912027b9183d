"""One item's row: schema, checksum, and shards as Parquet bytes.

An output is kept as its little-endian bytes in C order, with ``dtype`` and ``shape`` beside it, in a
plain ``binary`` column that every Parquet reader opens. Files are uncompressed (noise does not
compress) and hold nothing but the job's content, so equal content gives equal bytes with one pyarrow
version.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reprobatch import merkle
from reprobatch.errors import DataError
from reprobatch.inputs import told
from reprobatch.items import TYPES

FORMAT = "reprobatch-shard/1"
SEVERAL = "reprobatch-shard/2"  # of items with several outputs, whose checksum covers them all
ITEM_SIZE = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "uint8": 1, "int16": 2}
GROUP_BYTES = 4 << 20  # a look-up reads one row group: small enough to fetch, large enough to be few
DECODED = "decoded"
"""Name of the further output that is a latent through the pipeline's VAE, one item at a time: the same picture in
whatever batch the latent was made."""
_OUTPUT = (pa.string(), pa.list_(pa.int32()), pa.binary())
_BEFORE = [("index", pa.int64()), ("seed", pa.int64()), ("batch", pa.int32()), ("slot", pa.int16())]


def checksum(dtype: str, shape: Sequence[int], data: bytes | memoryview) -> str:
    """SHA-256, hex, over dtype, shape and bytes: ``float32\\n4,8,8\\n`` and then the data."""
    hashed = hashlib.sha256(f"{dtype}\n{','.join(map(str, shape))}\n".encode())
    hashed.update(data)
    return hashed.hexdigest()


def format_of(also: Sequence[str]) -> str:
    """The format id of shards whose items have further outputs of these names, or none."""
    return SEVERAL if also else FORMAT


def combined(own: str, also: Mapping[str, str]) -> str:
    """Checksum of an item: its output's own, or where it has further ones SHA-256 over all of theirs.

    These are the output's own checksum and then, in the job's order, a name, a space and a checksum, a
    line each.
    """
    if not also:
        return own
    lines = [own, *(f"{name} {each}" for name, each in also.items())]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


@dataclass(frozen=True)
class Output:
    """What the pipeline made of one item: dtype name, shape, and little-endian bytes in C order.

    ``also`` has its further outputs by name, where the job asks for some.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes
    also: Mapping[str, Output] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = math.prod(self.shape) * ITEM_SIZE[self.dtype]
        if len(self.data) != expected:
            raise DataError(f"expected {expected} bytes for {self.dtype} {list(self.shape)}, found {len(self.data)}")

    @property
    def checksum(self) -> str:
        """The item's: see :func:`checksum` and :func:`combined`."""
        own = checksum(self.dtype, self.shape, self.data)
        return combined(own, {name: each.checksum for name, each in self.also.items()})

    @property
    def size(self) -> int:
        """Bytes, those of further outputs among them."""
        return len(self.data) + sum(each.size for each in self.also.values())

    def numpy(self) -> np.ndarray:
        """The values as a read-only array; bfloat16, which numpy lacks, as float32 (exactly)."""
        if self.dtype == "bfloat16":
            high = np.frombuffer(self.data, "<u2").astype("<u4") << 16
            return high.view("<f4").reshape(self.shape)
        return np.frombuffer(self.data, np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape)


@dataclass(frozen=True)
class Row:
    """An item and what was made of it; ``stored`` is the checksum beside it, where it was read from a shard."""

    index: int
    seed: int
    batch: int
    slot: int
    item: dict[str, Any]
    output: Output
    stored: str | None = field(default=None, compare=False)

    @property
    def checksum(self) -> str:
        """The output's checksum, worked out from its bytes."""
        return self.output.checksum


def schema(columns: dict[str, str], output: str, also: Sequence[str] = ()) -> pa.Schema:
    """The dataset's Arrow schema; ``output`` names the column with the bytes, ``also`` those of further outputs."""
    own = [(name, TYPES[kind]) for name, kind in columns.items() if name != "seed"]
    after = [
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int32())),
        (output, pa.binary()),
        *((name, kind) for each in also for name, kind in zip(columns_of(each), _OUTPUT, strict=True)),
        ("checksum", pa.string()),
    ]
    return pa.schema([*_BEFORE, *own, *after])


def columns_of(name: str) -> tuple[str, str, str]:
    """The columns of a further output: dtype, shape and bytes."""
    return f"{name}_dtype", f"{name}_shape", name


class _Pieces(io.RawIOBase):
    """A file in memory that is never copied to make room: a shard of gigabytes is held once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        piece = bytes(data)  # no copy where arrow hands over bytes
        self.pieces.append(piece)
        self._size += len(piece)
        return len(piece)


class ShardWriter:
    """Turns the batches of one shard into the bytes of one Parquet file.

    Row groups hold whole batches, about ``GROUP_BYTES`` of output each. The footer carries the format
    id, the job digest, the shard's number, the seed scheme and the Merkle compact range of the
    shard's checksums; in a dataset of many environments also which one made it.
    """

    def __init__(
        self,
        columns: dict[str, str],
        output: str,
        job_digest: str,
        shard: int,
        scheme: str,
        environment: str | None = None,
        also: Sequence[str] = (),
    ) -> None:
        self._schema = schema(columns, output, also)
        self._output, self._also = output, also
        self._footer = {
            "reprobatch.format": format_of(also),
            "reprobatch.job": job_digest,
            "reprobatch.shard": str(shard),
            "reprobatch.seeds": scheme,
            **({"reprobatch.environment": environment} if environment else {}),
        }
        self._sink = _Pieces()
        texts = [name for name, kind in columns.items() if kind == "string"]
        self._writer = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression="NONE",
            use_dictionary=["dtype", *(f"{name}_dtype" for name in also), *texts],
            write_statistics=["index", "seed"],
            write_page_checksum=True,
            store_schema=True,
        )
        self._waiting: list[Row] = []
        self._size = 0
        self._leaves: list[bytes] = []
        self._begin: int | None = None

    def add(self, batch: list[Row]) -> None:
        """Take the rows of one batch, in index order."""
        if self._begin is None:
            self._begin = batch[0].index
        self._waiting += batch
        self._size += sum(row.output.size for row in batch)
        if self._size >= GROUP_BYTES:
            self._write_group()

    def finish(self) -> tuple[list[bytes], merkle.CompactRange]:
        """The file's bytes in pieces, and the compact range over its checksums."""
        self._write_group()
        compact = merkle.CompactRange.of(self._begin or 0, self._leaves)
        self._writer.add_key_value_metadata({**self._footer, "reprobatch.merkle": compact.to_text()})
        self._writer.close()
        return self._sink.pieces, compact

    def _write_group(self) -> None:
        rows = self._waiting
        if not rows:
            return
        checksums = [row.checksum for row in rows]
        self._leaves += [leaf(c) for c in checksums]
        columns: dict[str, list[Any]] = {
            "index": [row.index for row in rows],
            "seed": [row.seed for row in rows],
            "batch": [row.batch for row in rows],
            "slot": [row.slot for row in rows],
            "dtype": [row.output.dtype for row in rows],
            "shape": [row.output.shape for row in rows],
            self._output: [row.output.data for row in rows],
            "checksum": checksums,
        }
        for name in self._also:
            each = [row.output.also[name] for row in rows]
            values = [o.dtype for o in each], [o.shape for o in each], [o.data for o in each]
            columns |= dict(zip(columns_of(name), values, strict=True))
        arrays = [
            pa.array(columns[f.name] if f.name in columns else [told(row.item[f.name]) for row in rows], f.type)
            for f in self._schema
        ]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(table, row_group_size=len(rows))
        self._waiting, self._size = [], 0


def leaf(checksum: str) -> bytes:
    """The Merkle leaf hash of an item: over the 32 bytes of its checksum."""
    return merkle.leaf_hash(bytes.fromhex(checksum))


def rows_of(table: pa.Table, columns: Iterable[str], output: str, also: Sequence[str] = ()) -> list[Row]:
    """Rows of a table read from a shard. Raises :class:`DataError` for bytes that fit no shape."""
    own = [c for c in columns if c != "seed"]
    return [
        Row(
            entry["index"],
            entry["seed"],
            entry["batch"],
            entry["slot"],
            {c: entry[c] for c in own},
            _output(entry, ("dtype", "shape", output), {name: _output(entry, columns_of(name), {}) for name in also}),
            entry["checksum"],
        )
        for entry in table.to_pylist()
    ]


def _output(entry: dict[str, Any], names: tuple[str, str, str], also: dict[str, Output]) -> Output:
    dtype, shape, data = (entry[name] for name in names)
    return Output(dtype, tuple(shape), data, also)
