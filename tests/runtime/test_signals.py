import os
import signal

import pytest

from jaxgpt.runtime.signals import stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_only_noted_once(number, capfd):
    before = signal.getsignal(number)
    with stop_signals() as stopping:
        assert not stopping
        os.kill(os.getpid(), number)
        assert stopping == [number]
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(number) == before
    assert "stopping after the step in progress" in capfd.readouterr().err
