"""temporary"""
from rosetta_dagster.cdc.event import UNCHANGED
CONNECTOR_PROPERTIES = {"decimal.handling.mode": "string", "include.unknown.datatypes": "true"}
def converter_for(column, placeholder):
    def f(v):
        if v == placeholder: return UNCHANGED
        if v is True: return b"t"
        if v is False: return b"f"
        return str(v).encode()
    return f
