"""Tests of the pure modules: no database, no Java, no clock but the test's own."""
