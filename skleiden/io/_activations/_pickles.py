"""Check a pickle before a restricted unpickler loads it."""

from __future__ import annotations

import mmap
import pickletools
from typing import IO, Any, NamedTuple

# Tuples within tuples: the arguments of a tensor have 3.
_DEEPEST = 100


def check_pickle(file: IO[bytes] | mmap.mmap) -> None:
    """Read one pickle and refuse what exhausts memory or kills the process.

    No object is made from it. torch with ``weights_only=True`` still allows a bytearray
    of any length that the file claims, and keys that are tuples nested so deeply that
    Python overflows the stack when it hashes them. So the depth of each object on the
    unpickler's stack is followed.

    Raises
    ------
    ValueError
        If it holds such a thing, or is not a pickle.
    """
    depths: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for code, argument, _ in pickletools.genops(file):  # type: ignore[arg-type]
        name = code.name
        if name in _PLAIN:  # most of all
            depths.append(0)
        elif name == "MARK":
            depths.append(_MARK)
        elif name in _PUT:
            memo[len(memo) if argument is None else int(argument)] = depths[-1]
        elif name in _GET:
            depths.append(memo[int(argument)])
        elif name == "DUP":
            depths.append(depths[-1])
        else:
            if name == "GLOBAL" and argument.endswith(" bytearray"):
                raise ValueError("it holds a bytearray, which no activations need")
            effect = _EFFECTS[name]
            deepest = 0
            if effect.to_mark:
                while (depth := depths.pop()) is not _MARK:
                    deepest = max(deepest, depth)
            for _ in range(effect.taken):
                deepest = max(deepest, depths.pop())
            if name in _TUPLES:
                deepest += 1
            elif name in _WITHOUT_HASH:
                deepest = 0
            if deepest > _DEEPEST:
                raise ValueError(f"it nests tuples more than {_DEEPEST} deep")
            depths.extend([deepest] * effect.left)


class _Effect(NamedTuple):
    """What an opcode takes from the stack, besides all to the last mark, and leaves."""

    taken: int
    to_mark: bool
    left: int


_MARK = object()
_PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_WITHOUT_HASH = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "LIST", "DICT"}
_EFFECTS = {
    code.name: _Effect(
        sum(
            kind not in (pickletools.markobject, pickletools.stackslice)
            for kind in code.stack_before
        ),
        pickletools.markobject in code.stack_before,
        len(code.stack_after),
    )
    for code in pickletools.opcodes
}
_PLAIN = {
    name for name, effect in _EFFECTS.items() if effect == _Effect(0, False, 1)
} - {"GLOBAL", "MARK", *_GET}
