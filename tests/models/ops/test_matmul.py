import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.ops.matmul import add_bias, matmul, product, transposed
from jaxgpt.runtime.xla import program


def arrays(dtype, rows=24, n_in=40, n_out=56):
    numbers = np.random.default_rng(0)
    x, w, g = (numbers.standard_normal(shape) for shape in ((rows, n_in), (n_in, n_out), (rows, n_out)))
    return jnp.asarray(x, dtype), jnp.asarray(w, jnp.float32), jnp.asarray(g, dtype)


@pytest.mark.parametrize("rows", [3, 24])  # fewer and more than decide what is laid out anew
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_products_and_gradients_are_those_of_float64_but_for_one_rounding(dtype, rows):
    x, w, g = arrays(dtype, rows)
    y, gradients = jax.vjp(jax.jit(matmul), x, w)
    dx, dw = gradients(g)
    assert (y.dtype, dx.dtype, dw.dtype) == (dtype, dtype, jnp.float32)
    x64, w64, g64 = (np.asarray(z.astype(dtype), np.float64) for z in (x, w, g))
    rounding = 1e-6 if dtype == jnp.float32 else 2**-8
    for ours, exact, tolerance in ((y, x64 @ w64, rounding), (dx, g64 @ w64.T, rounding), (dw, x64.T @ g64, 1e-6)):
        np.testing.assert_allclose(np.asarray(ours, np.float64), exact, rtol=tolerance, atol=1e-6 * np.abs(exact).max())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_bias_is_added_to_each_row_and_its_gradient_is_the_sum_of_theirs(dtype):
    _, w, g = arrays(dtype)
    b = w[0]
    y, gradients = jax.vjp(jax.jit(add_bias), g, b)
    dy, db = gradients(g)
    assert (y.dtype, dy.dtype, db.dtype) == (dtype, dtype, jnp.float32)
    assert np.array_equal(y, g + b[None].astype(dtype)) and np.array_equal(dy, g)
    np.testing.assert_allclose(db, np.asarray(g, np.float64).sum(0), rtol=1e-5, atol=1e-6)


def test_transposed_is_the_transpose():
    for dtype in (jnp.float32, jnp.bfloat16):
        x = arrays(dtype)[0]
        assert np.array_equal(jax.jit(transposed)(x), np.asarray(x).T)


def test_on_a_cpu_bfloat16_products_read_rows_and_write_float32():
    """What XLA's CPU backend is fast at: a product of two matrices without a transpose, and a float32 result."""
    x, w, g = arrays(jnp.bfloat16)
    text = jax.jit(lambda x, w, g: jax.vjp(matmul, x, w)[1](g)).lower(x, w, g).compile().as_text()
    dots = [line for line in text.splitlines() if " dot(" in line]
    assert len(dots) == 2
    for dot in dots:
        assert "f32[" in dot.split(" dot(")[0]
        assert "lhs_contracting_dims={1}, rhs_contracting_dims={0}" in dot


def test_on_a_cpu_few_rows_are_laid_out_anew_and_not_the_weights():
    x, w, g = arrays(jnp.bfloat16, rows=3)
    text = jax.jit(lambda x, w, g: jax.vjp(matmul, x, w)[1](g)).lower(x, w, g).compile().as_text()
    written = [line.split(" transpose(")[0].split("= ")[1] for line in text.splitlines() if " transpose(" in line]
    assert written and not [shape for shape in written if "56,40" in shape]


def test_on_a_gpu_products_read_bfloat16_and_nothing_is_transposed(h100):
    arguments = h100(arrays(jnp.bfloat16, rows=128, n_in=256, n_out=512))
    compiled = jax.jit(lambda x, w, g: (matmul(x, w), *jax.vjp(matmul, x, w)[1](g))).lower(*arguments).compile()
    kernels = program.kernels(compiled.as_text())
    assert sum(len(kernel.products) for kernel in kernels) == 3
    assert not program.products_not_in(kernels, "bf16")
    assert not program.transposes(kernels)


def test_a_gpu_multiplies_float32_as_float32(h100):
    """Not as TF32, which has 10 bits of it."""
    x, w, g = h100(arrays(jnp.float32, rows=128, n_in=256, n_out=512))
    text = jax.jit(lambda x, w, g: (product(x, w), *jax.vjp(matmul, x, w)[1](g))).lower(x, w, g).compile().as_text()
    assert text.count("cublas$") + text.count(" dot(") >= 3
    assert text.count('"operand_precision":["HIGHEST","HIGHEST"]') + text.count("{highest,highest}") >= 3
