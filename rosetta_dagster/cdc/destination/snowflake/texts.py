"""Writes one value of PostgreSQL in another text form: intervals as ISO 8601; arrays and hstore as JSON."""

import json
import re

from rosetta_dagster.cdc.destination.snowflake.types import Form, Target

_INTERVAL = re.compile(
    r"(?:(?P<Y>[+-]?\d+) years? ?)?(?:(?P<M>[+-]?\d+) mons? ?)?(?:(?P<D>[+-]?\d+) days? ?)?"
    r"(?:(?P<sign>[+-]?)(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?))?"
)

#: A brace, a delimiter, a quoted element, or one without quotes.
_ARRAY_TOKENS = {
    delimiter: re.compile(rf'[{{}}]|{delimiter}|"((?:[^"\\]|\\.)*)"|((?:[^{{}}{delimiter}"\\]|\\.)+)', re.DOTALL)
    for delimiter in ",;"
}
_BRACKETS = {"{": "[", "}": "]"}

_PAIR = re.compile(r'"((?:[^"\\]|\\.)*)"=>(?:"((?:[^"\\]|\\.)*)"|NULL)', re.DOTALL)

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

#: Numbers that JSON can write.
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


def iso_interval(text: str) -> str:
    """Return an interval as `intervalstyle = iso_8601` prints it, from the style `postgres`. `infinity` stays.

    >>> iso_interval("1 year -2 mons +3 days -04:05:06.5")
    'P1Y-2M3DT-4H-5M-6.5S'
    """
    found = _INTERVAL.fullmatch(text)
    if found is None:
        return text
    days = "".join(f"{int(found[unit])}{unit}" for unit in "YMD" if found[unit])
    clock = [("H", found["h"]), ("M", found["m"]), ("S", found["s"])] if found["h"] else []
    sign = "-" if found["sign"] == "-" else ""
    time = "".join(f"{sign}{amount}{unit}" for unit, amount in ((u, _plain(a)) for u, a in clock) if amount != "0")
    return f"P{days}T{time}" if time else f"P{days}" if days else "PT0S"


def _plain(amount: str) -> str:
    """Return the number without leading zeros.

    >>> _plain("00"), _plain("06.50"), _plain("00.5")
    ('0', '6.50', '0.5')
    """
    whole, point, fraction = amount.partition(".")
    return f"{int(whole)}{point}{fraction}"


def json_array(text: str, target: Target) -> str:
    """Return an array as JSON, without its lower bounds.

    >>> json_array('[2:3]={NULL,"a,b"}', Target(type="VARIANT", form=Form.ARRAY))
    '[null,"a,b"]'
    """
    start = text.find("={") + 1 if text.startswith("[") else 0
    tokens = _ARRAY_TOKENS[target.delimiter].finditer(text, start)
    return "".join(_array_token(token, target.element) for token in tokens)


def _array_token(token: "re.Match[str]", element: Target | None) -> str:
    quoted, plain = token[1], token[2]
    if quoted is not None:
        return json_element(_ESCAPED.sub(r"\1", quoted), element)
    if plain is None:
        return _BRACKETS.get(token[0], ",")
    return "null" if plain.upper() == "NULL" else json_element(_ESCAPED.sub(r"\1", plain), element)


def json_element(text: str, element: Target | None) -> str:
    """Return an element as JSON: numbers, booleans and documents as such, anything else as text."""
    form = element.form if element else Form.TEXT
    if form in (Form.JSON, Form.JSON_TEXT):
        return text
    if form is Form.BOOLEAN:
        return "true" if text == "t" else "false"
    if form is Form.MONEY:
        text = re.sub(r"[^0-9.-]", "", text)
    if form in (Form.INTEGER, Form.DECIMAL, Form.FLOAT, Form.MONEY) and _JSON_NUMBER.fullmatch(text):
        return text
    if form is Form.INTERVAL:
        text = iso_interval(text)
    if form is Form.BINARY:
        text = text.removeprefix("\\x").upper()
    return json.dumps(text, ensure_ascii=False)


def json_object(text: str) -> str:
    """Return an hstore as a JSON object.

    >>> json_object('"a"=>"1", "b"=>NULL')
    '{"a": "1", "b": null}'
    """
    pairs = {
        _ESCAPED.sub(r"\1", found[1]): None if found[2] is None else _ESCAPED.sub(r"\1", found[2])
        for found in _PAIR.finditer(text)
    }
    return json.dumps(pairs, ensure_ascii=False)
