"""What Rosetta has of Java: it runs in the process of Debezium's engine, and hands events over to Python."""
