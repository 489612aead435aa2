from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def redis_providers() -> Iterable[Provider]:
    yield Provider("mine", "my_plugin.cache:MyRedisManager", contract="1.1")
