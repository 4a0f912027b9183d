"""The dataset's own README: what it is, how to read it, how to make an item again."""

from __future__ import annotations

from reprobatch.job import ResolvedJob


def dataset_card(job: ResolvedJob) -> str:
    """Markdown with the front matter that ``datasets`` and the hub read; equal for equal jobs."""
    spec = job.pipeline
    revision = f" at `{spec.revision}`" if spec.revision else ""
    return f"""---
configs:
- config_name: default
  data_files: data/*.parquet
tags:
- reprobatch
---
# {job.name}

{job.items.count} items made by `{spec.class_name}` from `{spec.model}`{revision} with
[reprobatch](job.json): every item can be made again, bit for bit.

- job digest `{job.digest}`
- model digest `{spec.model_digest}`

Each row holds `index`, `seed`, `batch`, `slot`, the item's own columns ({", ".join(job.items.columns) or "none"}),
`dtype`, `shape`, `{job.column}` (little-endian bytes in C order) and `checksum` (SHA-256).{_inputs(job)}

```python
import numpy as np
import pyarrow.parquet as pq

row = pq.read_table("data/shard-000000.parquet").slice(0, 1).to_pylist()[0]
array = np.frombuffer(row["{job.column}"], row["dtype"]).reshape(row["shape"])
```

```
reprobatch verify .          # every file, row, checksum and the root
reprobatch regenerate . 0    # item 0 again, and whether it is the same
sha256sum -c SHA256SUMS
```
"""


def _inputs(job: ResolvedJob) -> str:
    names = ", ".join(f"`{name}`" for name in job.items.inputs)
    return f"\nOf an item's inputs ({names}) it holds the SHA-256; making it again reads them again." if names else ""
