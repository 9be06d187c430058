"""What a person sees in Dagster's UI, in a real browser. `make screenshots` writes docs/*.png from the same pages.

The pages are Dagster's own: the test asserts that what Rosetta gives is shown, not how the pages are made.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.demo.environment import PIPELINE
from tests.support.browser import chromium, picture, shown
from tests.support.database import Database
from tests.support.deployment import Deployment

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium is installed (apt-get install chromium)")

STREAM = f"/assets/rosetta/{PIPELINE}"

#: Each page, and what has to be read on it.
PAGES = {
    f"/locations/rosetta/asset-groups/{PIPELINE}/lineage": [PIPELINE, "customers", "products", "orders", "order_items"],
    f"{STREAM}?view=checks&checkDetail=wal_lag": [
        "wal_lag",
        "health",
        "freshness",
        "lag_bytes",
    ],
    "/assets/warehouse/public/orders?view=checks": ["replicated", "schema_drift", "row_count"],
    f"{STREAM}?view=overview": ["tables_set_aside", "STREAMING", "public.orders"],
    "/assets/warehouse/public/orders?view=overview": ["rosetta/stream", "customer_id", "bigint"],
    "/runs": [f"rosetta_{PIPELINE}", "rosetta/slot: rosetta_shop", "rosetta/start_lsn"],
    "/automation": [
        "rosetta_control_sensor",
        "rosetta_definitions_sensor",
        "rosetta_health_sensor",
        "rosetta_alert_sensor",
    ],
}

#: The pages whose pictures the README shows, with their names and heights.
PICTURES = {
    "lineage.png": (f"/locations/rosetta/asset-groups/{PIPELINE}/lineage", 900),
    "checks.png": (f"{STREAM}?view=checks&checkDetail=wal_lag", 900),
    "stream.png": (f"{STREAM}?view=overview", 1000),
}


@pytest.fixture(scope="module")
def shop(deployment: Deployment) -> Iterator[Deployment]:
    """The demo's pipeline, running, with changes and with every check looked at."""
    deployment.store.set_status(PIPELINE, Status.START)
    deployment.wait_until_streaming(PIPELINE)
    database = Database(url=deployment.environment.postgres.url("shop"))
    database.run("INSERT INTO orders (customer_id) SELECT 1 FROM generate_series(1, 100)")

    def are_looked_at() -> bool:
        return all(deployment.graphql.last_check(PIPELINE, check) for check in ("wal_lag", "freshness"))

    deployment.environment.wait_for("The checks", are_looked_at, 180)
    yield deployment
    deployment.environment.pause_all()


@pytest.fixture
def paused_pipelines() -> None:
    """The tests of this module share a running pipeline."""


@pytest.mark.timeout(300)
def test_the_pages_show_what_rosetta_gives(shop: Deployment, tmp_path: Path) -> None:
    def read(number: int, path: str) -> str:
        return shown(f"{shop.environment.url}{path}", tmp_path / str(number))

    with ThreadPoolExecutor(2) as pool:
        texts = dict(zip(PAGES, pool.map(read, range(len(PAGES)), PAGES), strict=True))
    missing = {path: [text for text in wanted if text not in texts[path]] for path, wanted in PAGES.items()}
    told = "\n".join(f"{path}: {texts[path][:2000]}" for path, lacks in missing.items() if lacks)
    assert {} == {path: lacks for path, lacks in missing.items() if lacks}, told


@pytest.mark.skipif("ROSETTA_SCREENSHOTS" not in os.environ, reason="pictures are written by make screenshots")
@pytest.mark.timeout(300)
def test_pictures_are_written(shop: Deployment, tmp_path: Path) -> None:
    directory = Path(os.environ["ROSETTA_SCREENSHOTS"])
    for name, (path, height) in PICTURES.items():
        picture(f"{shop.environment.url}{path}", tmp_path / name, directory / name, width=1500, height=height)
        assert (directory / name).read_bytes().startswith(b"\x89PNG")
