"""How the compiled kernels of this project are declared, and the few machine operations they share.

A kernel is a plain function of NumPy arrays and integers that numba compiles to
machine code. It holds no Python object, releases the GIL, and checks its own
bounds. Compiled code is kept on disk beside the module, or in the user's cache
folder when the package folder is not writable; where neither is, it is compiled
anew in each process.
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

__all__ = ["frozen", "kernel", "load64", "mulhi", "store64", "trailing_zeros"]

log = logging.getLogger("pyflare.jit")
F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile `function` at its first call, keep the result on disk, and run it without the GIL.

    Arrays passed to one parameter must always have the same dtype, layout and
    writability (see `frozen`): each combination is compiled separately.
    """
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # numba found no folder that it may write to.
        log.info("no writable cache folder: kernels are compiled in each process")
        return cast(F, numba.njit(nogil=True)(function))


def frozen(buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a contiguous, read-only view of `buffer`: the one form in which kernels take input."""
    view = np.ascontiguousarray(buffer).view()
    view.flags.writeable = False
    return view


if TYPE_CHECKING:

    def load64(array: NDArray[np.uint8], index: int) -> np.uint64:
        """Return the 8 bytes from `index` on as a little-endian integer; kernels only."""

    def store64(array: NDArray[np.uint8], index: int, word: np.uint64) -> None:
        """Write 8 bytes from `index` on; kernels only."""

    def mulhi(a: np.uint64, b: np.uint64) -> np.uint64:
        """Return the upper 64 bits of the 128-bit product; kernels only."""

    def trailing_zeros(word: np.uint64) -> int:
        """Return the number of zero bits below the lowest set bit, 64 for 0; kernels only."""

else:
    # Code generators in numba's own signature: (typing context, types) to (signature, builder).
    # The caller has checked that all 8 bytes are inside the array.

    def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
        data = context.make_array(array_type)(context, builder, array).data
        place = builder.gep(data, [index])
        return builder.bitcast(place, ir.IntType(64).as_pointer())

    @intrinsic
    def load64(_typing: Any, array: Any, _index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
            return builder.load(pointer, align=1)

        return types.uint64(array, types.int64), generate

    @intrinsic
    def store64(_typing: Any, array: Any, _index: Any, _word: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
            builder.store(args[2], pointer, align=1)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.uint64), generate

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

        return types.int64(types.uint64), generate
