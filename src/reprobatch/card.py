"""The dataset's own README: what it is, how to read it, how to make an item again."""

from __future__ import annotations

import re

import pyarrow as pa

from reprobatch import models, record
from reprobatch.job import ResolvedJob


def dataset_card(job: ResolvedJob) -> str:
    """Markdown with the front matter that ``datasets`` and the hub read; equal for equal jobs."""
    spec = job.pipeline
    revision = f" at {_code(spec.revision)}" if spec.revision else ""
    folder = spec.model.startswith("folder:")
    return f"""{_front_matter(job)}
# {job.name}

{job.items.count} items made by {_code(spec.class_name)} from {_code(spec.model)}{revision} with
reprobatch, by the job in [job.json](job.json): every item can be made again, bit for bit.

- job digest `{job.digest}`
- model digest `{spec.model_digest}`
- licence of the model: {_licence(spec.model)}

## Reading it

`data/*.parquet` opens with `datasets`, pandas, polars, DuckDB and every other reader of Parquet. Each row holds

- `index` and `seed`, of which all else follows;
- `batch` and `slot`, its place in the pipeline call that made it;
- the item's own columns: {", ".join(map(_code, _own(job))) or "none"};{_inputs(job)}
- `{job.column}`, little-endian bytes in C order, with their `dtype` and `shape`;{_further(job)}
- `checksum`, SHA-256 over the text `dtype`, newline, numbers of `shape` with commas between, newline, and the bytes.

```python
{_snippet(job)}
```

## Making an item again

Row 0, on a machine with reprobatch; what is asked of the machine is in `manifest.json`, and the command says
beforehand whether it can give the same bits.

```
reprobatch regenerate . 0{" --model MODEL_FOLDER" if folder else ""}
```

Its noise is drawn from `torch.Generator("cpu").manual_seed(seed)`, and the call is that of `job.json`; its batch is
run again as it was, because a batch of another size gives other bits.

## Checking it

```
reprobatch verify .          # every file, row, checksum and the root
sha256sum -c SHA256SUMS
```
"""


def _front_matter(job: ResolvedJob) -> str:
    licence = models.licence(job.pipeline.model)
    features = [
        f"  - name: {_quoted(field.name)}\n    {_feature(field.type)}"
        for field in record.schema(job.items.columns, job.column, job.also)
    ]
    return "\n".join(
        [
            "---",
            "configs:",
            "- config_name: default",
            "  data_files: data/*.parquet",
            "dataset_info:",
            "  features:",
            *features,
            *([f"license: {licence}"] if licence else []),
            f"pretty_name: {_quoted(job.name)}",
            "tags:",
            "- reprobatch",
            "---",
        ]
    )


def _feature(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list: {kind.value_type}"
    return f"dtype: {'float64' if kind == pa.float64() else kind}"  # the one that ``datasets`` spells otherwise


def _own(job: ResolvedJob) -> list[str]:
    return [name for name in job.items.columns if name != "seed"]


def _licence(model: str) -> str:
    known = models.licence(model)
    if known:
        return f"`{known}`"
    return "not recorded here" if ":" in model else f"see <https://huggingface.co/{model}>"


def _snippet(job: ResolvedJob) -> str:
    if job.pipeline.dtype == "bfloat16" and job.output == "latent":  # which numpy does not know
        library = "import pyarrow.parquet as pq\nimport torch"
        array = f'torch.frombuffer(bytearray(row["{job.column}"]), dtype=getattr(torch, row["dtype"]))'
    else:
        library = "import numpy as np\nimport pyarrow.parquet as pq"
        array = f'np.frombuffer(row["{job.column}"], row["dtype"])'
    return f"""{library}

row = pq.read_table("data/shard-000000.parquet").slice(0, 1).to_pylist()[0]
array = {array}.reshape(row["shape"])"""


def _code(text: str) -> str:
    """Any text as a code span: on one line, between more backticks than it has in a row."""
    flat = " ".join(text.split())
    longest = max((len(run) for run in re.findall("`+", flat)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{flat}{space}{fence}"


def _quoted(text: str) -> str:
    """Any text as a YAML scalar: in double quotes, and ASCII, which every version of YAML reads alike."""
    escaped = (c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08X}" for c in text)
    return f'"{"".join(escaped)}"'


def _further(job: ResolvedJob) -> str:
    lines = (f"\n- `{name}`, a further output, with `{name}_dtype` and `{name}_shape`;" for name in job.also)
    return "".join(lines)


def _inputs(job: ResolvedJob) -> str:
    names = ", ".join(map(_code, job.items.inputs))
    return f"\n  of its inputs ({names}) the SHA-256, by which they are proven when it is made again;" if names else ""
