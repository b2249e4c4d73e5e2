"""Makes what the tests of quantized types compare with, and the codebooks of the types that have one.

    python3 -m venv v && v/bin/pip install llama-cpp-python numpy gguf
    v/bin/python tests/golden/blocks.py

Writes `tests/golden/blocks.bin`: random rows quantized by the reference (ggml through llama-cpp-python), what
they mean in f32 (by the `gguf` package, for the first 256 columns), and the reference's own dot products with
random activations. The tests want the same meaning (to rounding) and an error, against a product in double
precision, no larger than the reference's.

    u32 columns, u32 rows, u32 inputs, then inputs × columns f32 of activations; then for each type
    u32 number, u32 bytes of a row, the rows, 256 f32 of meaning, rows × inputs f32 of the reference

Writes `src/kernels/blocks/grids.bin` as well: the codebooks of the IQ types, one u16 for each entry, lowest
bits first: eight indices of two bits, or four of three bits, into the values that are written beside its
reader (`src/kernels/blocks/grids.rs`).
"""

import ctypes
import struct
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

COLUMNS, ROWS, INPUTS = 1024, 16, 4
TYPES = [
    T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS, T.MXFP4,
    T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ3_XXS, T.IQ3_S, T.IQ1_S, T.IQ1_M, T.TQ1_0, T.TQ2_0,
]
# Not all of them are in the `gguf` package, so the reference says what they mean.
NUMBERED = {"Q1_0": 41, "Q2_0": 42, "NVFP4": 40}
ROOT = Path(__file__).resolve().parents[2]

base = ctypes.CDLL(str(next(Path(llama_cpp.__file__).parent.glob("lib/libggml-base.so"))))
cpu = ctypes.CDLL(str(next(Path(llama_cpp.__file__).parent.glob("lib/libggml-cpu.so"))))


class Traits(ctypes.Structure):
    _fields_ = [
        ("from_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("vec_dot", ctypes.CFUNCTYPE(
            None, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t,
            ctypes.c_int)),
        ("vec_dot_type", ctypes.c_int),
        ("nrows", ctypes.c_int64),
    ]


class Meaning(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("block", ctypes.c_int64), ("interleaved", ctypes.c_int64), ("bytes", ctypes.c_size_t),
        ("quantized", ctypes.c_bool), ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    ]


base.ggml_get_type_traits.restype = ctypes.POINTER(Meaning)
cpu.ggml_get_type_traits_cpu.restype = ctypes.POINTER(Traits)
cpu.ggml_cpu_init()
base.ggml_quantize_chunk.restype = ctypes.c_size_t
base.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
base.ggml_row_size.restype = ctypes.c_size_t
base.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]


def quantized(dtype, weights):
    out = np.zeros(base.ggml_row_size(dtype, COLUMNS) * ROWS, dtype=np.uint8)
    importance = np.ones(COLUMNS, dtype=np.float32)
    base.ggml_quantize_chunk(dtype, weights.ctypes.data, out.ctypes.data, 0, ROWS, COLUMNS, importance.ctypes.data)
    return out.reshape(ROWS, -1)


def products(dtype, rows, inputs):
    traits = cpu.ggml_get_type_traits_cpu(dtype).contents
    convert = cpu.ggml_get_type_traits_cpu(traits.vec_dot_type).contents.from_float
    out = np.zeros((ROWS, INPUTS), dtype=np.float32)
    for j, x in enumerate(inputs):
        room = np.zeros(base.ggml_row_size(traits.vec_dot_type, COLUMNS) + 64, dtype=np.uint8)
        convert(x.ctypes.data, room.ctypes.data, COLUMNS)
        for i, row in enumerate(rows):
            value = ctypes.c_float()
            row = np.ascontiguousarray(row)
            traits.vec_dot(COLUMNS, ctypes.addressof(value), 0, row.ctypes.data, 0, room.ctypes.data, 0, 1)
            out[i, j] = value.value
    return out


def meaning_of(dtype, row):
    if isinstance(dtype, T):
        return quants.dequantize(row, dtype)
    out = np.zeros(COLUMNS, dtype=np.float32)
    row = np.ascontiguousarray(row)
    base.ggml_get_type_traits(dtype).contents.to_float(row.ctypes.data, out.ctypes.data, COLUMNS)
    return out


def main():
    random = np.random.RandomState(11)
    inputs = random.normal(0, 1, (INPUTS, COLUMNS)).astype(np.float32)
    weights = random.normal(0, 0.05, (ROWS, COLUMNS)).astype(np.float32)
    out = struct.pack("<III", COLUMNS, ROWS, INPUTS) + inputs.tobytes()
    for dtype in [*TYPES, *NUMBERED.values()]:
        rows = quantized(dtype, weights)
        meaning = meaning_of(dtype, rows[0])[:256].astype(np.float32)
        result = products(dtype, rows, inputs)
        exact = np.array([[meaning_of(dtype, r).astype(np.float64) @ x for x in inputs] for r in rows])
        print(f"{dtype}: rms error of the reference {np.sqrt(np.mean((result - exact) ** 2)):.6f}")
        out += struct.pack("<II", dtype, rows.shape[1]) + rows.tobytes() + meaning.tobytes() + result.tobytes()
    (ROOT / "tests/golden/blocks.bin").write_bytes(out)

    grids = b""
    for kind in [quants.IQ2_XXS, quants.IQ2_XS, quants.IQ2_S, quants.IQ3_XXS, quants.IQ3_S, quants.IQ1_S]:
        kind.init_grid()
        bits = 3 if len(kind.grid_map) == 8 else 2
        for entry in kind.grid.reshape(kind.grid_shape):
            indices = [kind.grid_map.index(int(value)) for value in entry]
            grids += struct.pack("<H", sum(index << (bits * i) for i, index in enumerate(indices)))
    (ROOT / "src/kernels/blocks/grids.bin").write_bytes(grids)


if __name__ == "__main__":
    main()
