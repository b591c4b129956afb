import pytest

from jaxgpt.data.config import DataConfig
from jaxgpt.errors import UsageError


def test_a_fraction_is_a_number_between_0_and_1():
    assert DataConfig(val="0.25").val_fraction == 0.25
    assert DataConfig().val_fraction == DataConfig(val="0.1.txt").val_fraction == 0
    for val in ("0", "1", "-0.5", "nan", "inf"):
        with pytest.raises(UsageError, match=f"--val {val}: a fraction must lie between 0 and 1"):
            _ = DataConfig(val=val).val_fraction
    with pytest.raises(UsageError, match="--val is empty"):
        _ = DataConfig(val="").val_fraction


def test_a_step_has_accumulate_times_B_sequences():
    assert DataConfig(B=3, accumulate=4).B_step == 12
    with pytest.raises(UsageError, match="--accumulate 0"):
        DataConfig(accumulate=0)
