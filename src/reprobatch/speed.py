"""Makes a loaded pipeline quicker, as ``pipeline.speed`` of its job says.

Nothing here is taken to keep an item's bits: a job with one of these options is another job, and its
contract is measured with them on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from reprobatch.errors import JobError, suggestion
from reprobatch.settings import Speed

KEPT = 2**28  # bytes of encodings that an encoder keeps; the one used longest ago goes first

_Key = tuple[bytes, ...]


def up(pipe: Any, wanted: Speed, batch_size: int) -> None:
    """Apply the options to a pipeline on its device, in place.

    Raises :class:`JobError` where it has nothing that an option could work on.
    """
    name = type(pipe).__name__
    if wanted.channels_last:
        for module in _modules(pipe).values():
            module.to(memory_format=torch.channels_last)
    if wanted.attention is not None:
        _attend(pipe, wanted.attention)
    if wanted.encode_once:
        encoders = {part: module for part, module in _modules(pipe).items() if part.startswith("text_encoder")}
        if not encoders:
            raise JobError(f"{name} has no text encoder; leave pipeline.speed.encode_once out")
        for module in encoders.values():
            module.forward = Encoded(module.forward, batch_size)
    for part in wanted.compile:
        modules = _modules(pipe)
        if part not in modules:
            raise JobError(f"pipeline.speed.compile: {name} has no module '{part}'{suggestion(part, modules)}")
        # a compiler that measures which kernel is quickest here chooses another one on the next machine
        modules[part].compile(dynamic=False, options={"deterministic": True, "max_autotune": False})


class Encoded:
    """A text encoder's ``forward`` that encodes each distinct row of its arguments once.

    A row is encoded in a batch of ``size`` copies of it: kernels choose how they work by the shape, so that
    a shorter batch would give other bits. Arguments that are not tensors with a row an item are part of
    what makes two calls the same. Calls with a ``None`` for every tensor, or tensors without rows, go through.
    """

    def __init__(self, forward: Callable[..., Any], size: int) -> None:
        self._forward, self._size = forward, size
        self._known: OrderedDict[_Key, Any] = OrderedDict()
        self._bytes = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        rows = {tensor.shape[0] if tensor.ndim else 0 for tensor in tensors}
        if len(rows) != 1 or 0 in rows or any(tensor.is_floating_point() for tensor in tensors):
            return self._forward(*args, **kwargs)
        encoded = [self._row(row, args, kwargs) for row in range(rows.pop())]
        return _map(lambda *each: torch.cat(each), *encoded)

    def _row(self, row: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        one = [_only(row, value) for value in args], {name: _only(row, value) for name, value in kwargs.items()}
        key = tuple(_bytes(value) for value in (*one[0], *one[1], *one[1].values()))
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        copies = [_copied(value, self._size) for value in one[0]]
        named = {name: _copied(value, self._size) for name, value in one[1].items()}
        made = _map(lambda tensor: tensor[:1].clone(), self._forward(*copies, **named))
        self._known[key] = made
        self._bytes += _size(made)
        while self._bytes > KEPT:
            self._bytes -= _size(self._known.popitem(last=False)[1])
        return made


def _attend(pipe: Any, backend: str) -> None:
    if backend.endswith("_hub"):
        raise JobError(f"pipeline.speed.attention: '{backend}' is code from a hub, which is never run; choose another")
    heard = False
    for module in _modules(pipe).values():
        if hasattr(module, "set_attention_backend"):
            module.set_attention_backend(backend)
            heard = heard or any(_backend(part) is not None for part in module.modules())
    if not heard:
        name = type(pipe).__name__
        raise JobError(f"{name} has no module whose attention backend can be set; leave pipeline.speed.attention out")


def _backend(module: Any) -> Any:
    return getattr(getattr(module, "processor", None), "_attention_backend", None)


def _modules(pipe: Any) -> dict[str, Any]:
    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def _only(row: int, value: Any) -> Any:
    return value[row : row + 1] if isinstance(value, torch.Tensor) else value


def _copied(value: Any, size: int) -> Any:
    return value.repeat(size, *[1] * (value.ndim - 1)) if isinstance(value, torch.Tensor) else value


def _bytes(value: Any) -> bytes:
    if isinstance(value, torch.Tensor):
        return repr((value.dtype, tuple(value.shape))).encode() + value.cpu().numpy().tobytes()
    return repr(value).encode()


def _size(made: Any) -> int:
    """Bytes of the tensors in an output."""
    if isinstance(made, torch.Tensor):
        return made.nbytes
    if isinstance(made, dict):
        return sum(map(_size, made.values()))
    return sum(map(_size, made)) if isinstance(made, (tuple, list)) else 0


def _map(function: Callable[..., torch.Tensor], first: Any, *others: Any) -> Any:
    """A function of tensors over outputs of one structure: tensors, tuples, and transformers' ordered outputs."""
    if isinstance(first, torch.Tensor):
        return function(first, *others)
    if isinstance(first, dict):
        return type(first)(**{name: _map(function, *(each[name] for each in (first, *others))) for name in first})
    if isinstance(first, (tuple, list)):
        return type(first)(_map(function, *each) for each in zip(first, *others, strict=True))
    return first
