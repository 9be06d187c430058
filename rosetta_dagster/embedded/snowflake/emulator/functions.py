"""Gives functions the meaning that Snowflake documents, where sqlglot 30 or DuckDB has another one."""

from sqlglot import Expr, exp

from rosetta_dagster.embedded.snowflake.emulator.errors import unsupported

#: Where the half of an MD5 begins in its 32 digits.
_HALVES: dict[type[Expr], int] = {exp.MD5NumberUpper64: 1, exp.MD5NumberLower64: 17}


def with_snowflakes_functions(expression: Expr) -> Expr:
    """Return the statement with these functions rewritten.

    Raises:
        SnowflakeError: 009999 for TO_VARCHAR with a format, of a value whose type the statement does not show.

    """
    for number in list(expression.find_all(*_HALVES)):
        number.replace(_half(number.this, _HALVES[type(number)]))
    for text in list(expression.find_all(exp.ToChar)):
        # sqlglot leaves the format out, and the text is DuckDB's own.
        if text.args.get("format") is not None:
            raise unsupported("TO_VARCHAR with a format, unless the value is cast to its type")
        text.replace(_with_zero(text.this))
    for timed in list(expression.find_all(exp.TimeToStr)):
        _give_a_day(timed)
    return expression


def _half(text: Expr, start: int) -> Expr:
    """Return half of an MD5 as a number, its first digit the highest. DuckDB's `md5_number_lower` reverses the bytes."""
    digits = exp.Substring(this=exp.MD5(this=text.copy()), start=exp.Literal.number(start), length=exp.Literal.number(16))
    return exp.cast(exp.DPipe(this=exp.Literal.string("0x"), expression=digits, safe=False), exp.DType.UBIGINT)


def _with_zero(value: Expr) -> Expr:
    """Return a value as text. DuckDB writes a number whose digits are all behind the point without a zero before it."""
    text = exp.cast(value.copy(), exp.DType.TEXT)
    is_number = exp.Like(this=exp.Typeof(this=value.copy()), expression=exp.Literal.string("DECIMAL%"))
    zero = exp.RegexpReplace(
        this=text.copy(), expression=exp.Literal.string(r"^(-?)[.]"), replacement=exp.Literal.string(r"\10.")
    )
    return exp.case().when(is_number, zero).else_(text)


def _give_a_day(text: Expr) -> None:
    """Add a day to a time of day that is written with a format, which DuckDB's strftime needs."""
    value = text.this
    inner = value.this if isinstance(value, exp.Cast) and value.to.this == exp.DType.TIMESTAMP else value
    if isinstance(inner, exp.Cast) and inner.to.this == exp.DType.TIME:
        day = exp.cast(exp.Literal.string("1970-01-01"), exp.DType.DATE)
        text.set("this", exp.Add(this=day, expression=exp.cast(inner.this.copy(), exp.DType.TIME)))
