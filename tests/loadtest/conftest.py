"""What the tests of the load tools share with those of the service."""

from tests.service.conftest import published_home, store_url

__all__ = ["published_home", "store_url"]  # fixtures
