"""How the compiled kernels of this project are declared, and the machine operations they share.

A kernel is a plain function of NumPy arrays and integers that numba compiles to
machine code; it holds no Python object and releases the GIL. Compiled code is
kept on disk beside the module, or in the user's cache folder when the package
folder is not writable; where neither is, it is compiled anew in each process.

Inside, the kernels over wire bytes work with addresses (`address`, `byte_at`,
`put64`, ...) instead of arrays: a NumPy array is seven machine words and a
reference count in compiled code, which made the decoder five times slower and
its compilation three times longer. Only a `kernel` takes arrays; it turns them
into addresses for its `helper`s, and its caller keeps the arrays alive. Every
helper is given the end of what it may read, and checks it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = [
    "address",
    "byte_at",
    "frozen",
    "helper",
    "int32_at",
    "int64",
    "int64_at",
    "kernel",
    "mulhi",
    "put8",
    "put32",
    "put64",
    "trailing_zeros",
]

log = logging.getLogger("pyflare.jit")
F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile `function` at its first call, keep the result on disk, and run it without the GIL.

    Arrays passed to one parameter must always have the same dtype, layout and
    writability (see `frozen`): each combination is compiled separately.
    """
    try:
        return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:
        # numba found no folder that it may write to.
        log.info("no writable cache folder: kernels are compiled in each process")
        return cast("F", numba.njit(nogil=True, error_model="numpy")(function))


def helper(function: F) -> F:
    """Make `function` callable from kernels, and from kernels only; it is compiled into them."""
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast("F", numba.njit(error_model="numpy", **options)(function))


def frozen(buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a contiguous, read-only view of `buffer`: the one form in which kernels take bytes."""
    view = np.ascontiguousarray(buffer).view()
    view.flags.writeable = False
    return view


if TYPE_CHECKING:

    def address(array: NDArray[Any]) -> int:
        """Return where the first element of a contiguous array lies; kernels only."""

    def int64(value: object) -> int:
        """Return an integer of any width as one of 64 signed bits; kernels only."""

    def byte_at(place: int) -> int:
        """Return the byte at an address, 0 to 255; kernels only."""

    def int32_at(place: int) -> int:
        """Return the little-endian signed 32-bit integer at an address; kernels only."""

    def int64_at(place: int) -> int:
        """Return the little-endian signed 64-bit integer at an address; kernels only."""

    def put8(place: int, value: int) -> None:
        """Write the lowest 8 bits of `value`; kernels only."""

    def put32(place: int, value: int) -> None:
        """Write the lowest 32 bits of `value`, little-endian; kernels only."""

    def put64(place: int, value: int) -> None:
        """Write `value`, 64 bits, little-endian; kernels only."""

    def mulhi(a: np.uint64, b: np.uint64) -> np.uint64:
        """Return the upper 64 bits of the 128-bit product; kernels only."""

    def trailing_zeros(word: int) -> int:
        """Return the number of zero bits below the lowest set bit, 64 for 0; kernels only."""

else:
    # Code generators in numba's own form: (typing context, types) to (signature, builder).

    @intrinsic
    def address(_typing: Any, array: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            return builder.ptrtoint(data, ir.IntType(64))

        return types.int64(array), generate

    def _loader(bits: int, *, signed: bool) -> Any:
        @intrinsic
        def load(_typing: Any, _place: Any) -> Any:
            def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
                pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
                value = builder.load(pointer, align=1)
                if bits == 64:
                    return value
                widen = builder.sext if signed else builder.zext
                return widen(value, ir.IntType(64))

            return types.int64(types.int64), generate

        return load

    def _storer(bits: int) -> Any:
        @intrinsic
        def store(_typing: Any, _place: Any, _value: Any) -> Any:
            def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
                kind = ir.IntType(bits)
                pointer = builder.inttoptr(args[0], kind.as_pointer())
                value = args[1] if bits == 64 else builder.trunc(args[1], kind)
                builder.store(value, pointer, align=1)
                return context.get_dummy_value()

            return types.void(types.int64, types.int64), generate

        return store

    int64 = np.int64
    byte_at = _loader(8, signed=False)
    int32_at = _loader(32, signed=True)
    int64_at = _loader(64, signed=True)
    put8 = _storer(8)
    put32 = _storer(32)
    put64 = _storer(64)

    @intrinsic
    def mulhi(_typing: Any, _a: Any, _b: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            wide = ir.IntType(128)
            product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
            return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

        return types.uint64(types.uint64, types.uint64), generate

    @intrinsic
    def trailing_zeros(_typing: Any, _word: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.cttz(args[0], ir.IntType(1)(0))

        return types.int64(types.int64), generate
