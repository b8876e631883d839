"""Numbers as HTML text."""

import math
from typing import Any

NOTHING = "–"


def number(value: Any, digits: int = 4) -> str:
    """A number to `digits` significant digits: plain when short, else with a power of ten.

    Integers are kept whole, with thin spaces between thousands; None, nan and the like are a dash.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f").replace("-", "\u2212")
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "\u2212∞"
    if value == 0.0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return text.replace("-", "\u2212")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return _power(mantissa, int(exponent))


def exponential(log_value: Any, digits: int = 4) -> str:
    """The number e^log_value as text, also where it is beyond the range of a float."""
    if not isinstance(log_value, (int, float)) or not math.isfinite(log_value):
        return NOTHING
    decimal = log_value / math.log(10.0)
    if -300 < decimal < 300:
        return number(math.exp(log_value), digits)
    whole = math.floor(decimal)
    return _power(f"{10 ** (decimal - whole):.{digits - 1}f}", whole)


def _power(mantissa: str, exponent: int) -> str:
    short = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    raised = f"10<sup>{exponent}</sup>".replace("-", "\u2212")
    if short in ("1", "-1"):
        return raised if short == "1" else "\u2212" + raised
    return short.replace("-", "\u2212") + "\u202f·\u202f" + raised
