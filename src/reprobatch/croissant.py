"""Croissant metadata of a dataset (``croissant.json``), derived from its job alone.

Croissant 1.0, which older and newer readers of it understand. The shards are a ``FileSet`` beside the
file itself, so no file's hash, size or address is in it, and it is there before the first shard is.
Croissant has no type for bytes: ``sc:Text`` is what ``mlcroissant`` gives back as the bytes it read.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa

from reprobatch import models, record
from reprobatch.job import ResolvedJob

FILE = "croissant.json"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHARDS, _ITEMS = "shards", "items"
_TYPES = {
    "int16": "sc:Integer",
    "int32": "sc:Integer",
    "int64": "sc:Integer",
    "double": "sc:Float",
    "bool": "sc:Boolean",
    "string": "sc:Text",
    "binary": "sc:Text",
}
_DESCRIPTIONS = {
    "index": "The item's number, from 0.",
    "seed": "What its CPU generator was seeded with.",
    "batch": "The pipeline call that made it, counted within its shard.",
    "slot": "Its place in that call.",
    "dtype": "The output's dtype.",
    "shape": "The output's shape.",
    "checksum": "SHA-256, hex, over dtype, shape and bytes.",
    "latents": "The output: little-endian bytes in C order.",
    "pixels": "The output: little-endian bytes in C order.",
}
_CR = (
    *("citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes"),
    *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in _CR},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}


def metadata(job: ResolvedJob) -> str:
    """The file's text: JSON-LD; equal for equal jobs."""
    spec, licence = job.pipeline, models.licence(job.pipeline.model)
    fields = record.schema(job.items.columns, job.column, job.also)
    columns = [field for field in fields if field.name]  # none without a name
    found = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": job.name,
        "description": (
            f"{job.items.count} items made by {spec.class_name} from {spec.model} with reprobatch: every item can be "
            f"made again, bit for bit. Job digest {job.digest}, model digest {spec.model_digest}."
        ),
        **({"license": licence} if licence else {}),
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": _SHARDS,
                "name": _SHARDS,
                "encodingFormat": "application/x-parquet",
                "includes": "data/*.parquet",
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": _ITEMS,
                "name": _ITEMS,
                "key": {"@id": f"{_ITEMS}/index"},
                "field": [_field(number, column.name, column.type) for number, column in enumerate(columns)],
            }
        ],
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _field(number: int, name: str, kind: pa.DataType) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        # an id is a reference and gets resolved: a column called '..' would be another node
        "@id": f"{_ITEMS}/{name if _PLAIN.fullmatch(name) else number}",
        "name": name,
        **({"description": _DESCRIPTIONS[name]} if name in _DESCRIPTIONS else {}),
        "dataType": _TYPES[str(kind.value_type if pa.types.is_list(kind) else kind)],
        **({"repeated": True} if pa.types.is_list(kind) else {}),
        "source": {"fileSet": {"@id": _SHARDS}, "extract": {"column": name}},
    }
