"""temporary"""
import psycopg
from contextlib import contextmanager
def connect(c, **k): return psycopg.connect(c.conninfo(), autocommit=True)
@contextmanager
def source_errors(c): yield
