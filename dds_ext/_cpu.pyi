import enum
from collections.abc import Callable

class Features:
    def __init__(self, data: int, rows: int, cols: int, row_stride: int, col_stride: int, dtype: int) -> None: ...

class Product:
    def __init__(self, metric: int, centering: int, gamma: float, out: int) -> None: ...

class RdmParams:
    def __init__(
        self,
        *,
        x: Features,
        y: Features | None,
        norm: int,
        products: list[Product],
        channels: int,
        channels_last: bool,
        groups: int,
        fast: bool,
        wide: bool,
        condensed: bool,
        check: bool,
    ) -> None: ...

class Code(enum.Enum):
    ok = 0
    nonfinite_input = 1
    constant_row = 2
    overflow = 3
    zero_median = 4

class RdmStatus:
    code: Code
    in_y: bool
    rows: list[int]
    product: int
    gammas: list[float]
    fast: bool

def metrics() -> list[tuple[str, int, int, int, int]]: ...
def norms() -> list[tuple[str, bool, int, bool, float, Callable[[int, int], int]]]: ...
def available_isas() -> list[str]: ...
def rdm(params: list[RdmParams], threads: int, isa: str | None) -> list[RdmStatus]: ...
def center(k: int, count: int, n: int, dtype: int, mode: int, threads: int, isa: str | None) -> None: ...
def condense(k: int, count: int, n: int, dtype: int, out: int, threads: int) -> None: ...
def rank(values: int, count: int, length: int, dtype: int, ranks: int, threads: int) -> None: ...
def kendall(a: int, s: int, b: int, t: int, length: int, out: int, threads: int) -> None: ...
def signed_sums(
    x: int, n: int, y: int, m: int, d: int, w: int, dtype: int, out: int, threads: int, isa: str | None
) -> None: ...
def roof(metric: int, dtype: int, fast: bool, isa: str | None) -> float: ...
