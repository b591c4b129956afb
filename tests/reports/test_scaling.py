import numpy as np
import pytest

from jaxgpt.reports.scaling import ScalingLaw, bootstrap, fit, interval

LAW = ScalingLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)  # Hoffmann et al.'s own
N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 3e9, 5), np.geomspace(3e8, 3e10, 4)))


def test_a_law_is_found_again():
    np.testing.assert_allclose(fit(N, D, LAW.loss(N, D)), LAW, rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_intervals_have_the_law_that_noisy_runs_were_made_by(seed):
    loss = LAW.loss(N, D) * np.exp(0.003 * np.random.default_rng(seed).normal(size=N.shape))
    law = fit(N, D, loss)
    laws = bootstrap(law, N, D, loss, seed)
    for name in ("alpha", "beta", "E"):
        low, high = interval([getattr(each, name) for each in laws])
        assert low < getattr(LAW, name) < high, name
    low, high = interval([float(each.loss(1e11, 1e12)) for each in laws])
    assert low < LAW.loss(1e11, 1e12) < high < low + 0.3


def test_too_few_runs_tell_no_law():
    for chosen in (np.arange(5), np.flatnonzero(N == N[0]), np.flatnonzero((N == N[0]) | (N == N[1]))):
        with pytest.raises(ValueError, match="needs 6 runs or more that differ"):
            fit(N[chosen], D[chosen], LAW.loss(N, D)[chosen])
